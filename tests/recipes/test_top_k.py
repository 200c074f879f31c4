"""The mean of the best k against prefixes of the ranking."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.errors import ConfigError
from stockpot.recipes import top_k
from stockpot.types import Ingredient, Score, Soup

hundreds = settings(max_examples=200, deadline=None, derandomize=True)


def names_of(soup: Soup) -> list[str]:
    return [ingredient.name for ingredient in soup.ingredients]


def runs(names: Sequence[str]) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}") for name in names]


@hundreds
@given(st.integers(0, 2**32), st.integers(1, 9), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7))
def test_is_the_smallest_of_the_best_prefixes_of_the_ranking(seed: int, n_values: int, names: list[str]) -> None:
    def utility(some: Sequence[str]) -> int:
        return random.Random(f"{seed}:{'+'.join(sorted(some))}").randrange(n_values)

    ranking = sorted(names, key=lambda name: -utility([name]))
    values = [utility(ranking[:k]) for k in range(1, len(names) + 1)]
    soup = top_k(runs(names), lambda soup: utility(names_of(soup)))
    best_k = values.index(max(values)) + 1
    assert names_of(soup) == ranking[:best_k]
    assert [(step.label, step.score.value, step.accepted) for step in soup.steps] == [
        (f"top {k}", value, k == best_k) for k, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_given_k_takes_the_best_of_the_individuals(higher_is_better: bool) -> None:
    utility = {"a": 1, "b": 3, "c": 3, "d": 2}
    sign = 1 if higher_is_better else -1
    asked: list[str] = []

    def evaluate(soup: Soup) -> Score:
        (name,) = names_of(soup)
        asked.append(name)
        return Score(sign * utility[name], higher_is_better=higher_is_better)

    soup = top_k(runs("abcd"), evaluate, k=3)
    assert names_of(soup) == ["b", "c", "d"]
    assert asked == ["a", "b", "c", "d"]
    assert [step.accepted for step in soup.steps] == [True, True, True, False]


@pytest.mark.parametrize("k", [0, 4])
def test_a_k_that_cannot_be_is_refused_before_anything_is_evaluated(k: int) -> None:
    with pytest.raises(ConfigError, match=f"the best {k} of 3"):
        top_k(runs("abc"), lambda soup: pytest.fail("evaluated"), k=k)
