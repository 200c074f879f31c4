"""Pruned against a textbook pruning on random score functions, ties and duplicates included."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.errors import ConfigError
from stockpot.recipes import pruned
from stockpot.types import Coefficients, Ingredient, PairedGain, Score, Soup

hundreds = settings(max_examples=200, deadline=None, derandomize=True)
pantries = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7)
Utility = Callable[[Sequence[str]], int]


def textbook_pruned(
    names: Sequence[str], utility: Utility, *, minimum_gain: int, strict: bool, passes: int
) -> list[str]:
    """Every ingredient is tried in every pass, whether that can change anything or not."""
    order = sorted(range(len(names)), key=lambda n: utility([names[n]]), reverse=True)
    kept = set(order)
    for _ in range(passes):
        for position in reversed(order):
            if position in kept and len(kept) > 1:
                gain = utility([names[n] for n in kept - {position}]) - utility([names[n] for n in kept])
                if gain > minimum_gain or (gain == minimum_gain and not strict):
                    kept.remove(position)
    return [name for position, name in enumerate(names) if position in kept]


def random_utility(seed: int, n_values: int) -> Utility:
    return lambda names: random.Random(f"{seed}:{'+'.join(sorted(names))}").randrange(n_values)


utilities = st.builds(random_utility, st.integers(0, 2**32), st.integers(1, 12))


def names_of(soup: Soup) -> list[str]:
    return [ingredient.name for ingredient in soup.ingredients]


def runs(names: Sequence[str]) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}") for name in names]


@hundreds
@given(utilities, pantries, st.integers(0, 3), st.booleans(), st.booleans(), st.integers(1, 3))
def test_is_the_textbook(
    utility: Utility, names: list[str], minimum_gain: int, strict: bool, higher_is_better: bool, passes: int
) -> None:
    sign = 1 if higher_is_better else -1
    soup = pruned(
        runs(names),
        lambda soup: Score(sign * utility(names_of(soup)), higher_is_better=higher_is_better),
        minimum_gain=minimum_gain,
        strict=strict,
        passes=passes,
    )
    expected = textbook_pruned(names, utility, minimum_gain=minimum_gain, strict=strict, passes=passes)
    assert names_of(soup) == expected
    assert soup.coefficients == Coefficients.equal(len(expected))


@hundreds
@given(utilities, pantries)
def test_without_a_number_of_passes_it_ends_where_one_more_changes_nothing(utility: Utility, names: list[str]) -> None:
    soup = pruned(runs(names), lambda soup: utility(names_of(soup)), passes=None)
    assert names_of(soup) == textbook_pruned(names, utility, minimum_gain=0, strict=False, passes=len(names) + 1)


def test_the_log_says_what_was_left_out_and_whether_that_was_taken() -> None:
    utility = {"a": 3, "b": 1, "c": 2, "abc": 5, "ac": 5}
    soup = pruned(runs("abc"), lambda soup: utility["".join(names_of(soup))])
    assert [(step.label, step.ingredient.name, step.score.value, step.accepted) for step in soup.steps] == [
        ("all 3", "b", 5, True),
        ("without b", "b", 5, True),
        ("without c", "c", 3, False),
        ("without a", "a", 2, False),
    ]


def test_dropping_by_paired_test_believes_only_small_p() -> None:
    def evaluate(soup: Soup, *, against: object = None) -> Score:
        p = 0.01 if names_of(soup) == ["a", "c"] else 0.5
        return Score(1.0 - len(soup.ingredients) / 10, paired=PairedGain(0.1, 0.05, p))

    assert names_of(pruned(runs("abc"), evaluate)) == ["a"]
    assert names_of(pruned(runs("abc"), evaluate, significance=0.05)) == ["a", "c"]


def test_every_wrong_option_is_named() -> None:
    with pytest.raises(ConfigError, match="out of range") as raised:
        pruned(runs("ab"), lambda soup: 0.0, minimum_gain=-1, significance=1.5, passes=0)
    assert len(raised.value.problems) == 3
