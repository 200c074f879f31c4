"""Several random orders are that many greedy soups, each step labelled with its order."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.errors import ConfigError
from stockpot.recipes import greedy, greedy_orders
from stockpot.types import Ingredient, Soup


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6), st.integers(1, 4))
def test_each_is_greedy_in_its_own_order(seed: int, names: list[str], n_orders: int) -> None:
    def utility(soup: Soup) -> int:
        return random.Random(f"{seed}:{'+'.join(sorted(i.name for i in soup.ingredients))}").randrange(5)

    runs = [Ingredient(name, f"runs/{name}") for name in names]
    heard: list[Any] = []
    generators = (np.random.default_rng([5, number]) for number in range(n_orders))
    soups = greedy_orders(runs, utility, generators=generators, on_step=heard.append)
    assert len(soups) == n_orders
    for number, soup in enumerate(soups):
        alone = greedy(runs, utility, order="random", generator=np.random.default_rng([5, number]))
        assert replace(soup, steps=()) == replace(alone, steps=())
        assert soup.steps == tuple(
            replace(step, label=f"order {number + 1} of {n_orders}: + {step.ingredient.name}") for step in alone.steps
        )
    assert heard == [step for soup in soups for step in soup.steps]


def test_no_orders_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="no generators"):
        greedy_orders([Ingredient("a", "runs/a")], lambda soup: 0.0, generators=[])
