"""Greedy against a textbook greedy on thousands of random score functions, ties and duplicates included."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.errors import ConfigError
from stockpot.recipes import greedy
from stockpot.types import Coefficients, Incumbent, Ingredient, Score, Soup

thousands = settings(max_examples=2000, deadline=None, derandomize=True)
hundreds = settings(max_examples=600, deadline=None, derandomize=True)


def textbook_greedy(
    names: Sequence[str], utility: Callable[..., int], *, by_score: bool, minimum_gain: int, strict: bool
) -> list[str]:
    """Recipe 1 of Wortsman et al. 2022, in ten lines that share nothing with stockpot."""
    queue = list(names)
    if by_score:
        queue.sort(key=lambda name: -utility([name]))
    soup = [queue[0]]
    for name in queue[1:]:
        gain = utility([*soup, name]) - utility(soup)
        if gain > minimum_gain or (gain == minimum_gain and not strict):
            soup.append(name)
    return soup


class RandomScores:
    """A utility among `n_values` integers for each multiset of names: the mean knows no order. Ties are frequent."""

    def __init__(self, seed: int, n_values: int) -> None:
        self.seed, self.n_values = seed, n_values

    def __call__(self, names: Sequence[str]) -> int:
        return random.Random(f"{self.seed}:{'+'.join(sorted(names))}").randrange(self.n_values)

    def of_soup(self, soup: Soup) -> int:
        return self([ingredient.name for ingredient in soup.ingredients])


score_functions = st.builds(RandomScores, st.integers(0, 2**32), st.integers(1, 12))
# A small alphabet: names repeat, so the same checkpoint is given several times.
pantries = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8)


def as_ingredients(names: Sequence[str]) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}") for name in names]


def kept(soup: Soup) -> list[str]:
    return [ingredient.name for ingredient in soup.ingredients]


@thousands
@given(score_functions, pantries, st.integers(0, 3), st.booleans(), st.booleans())
def test_in_order_of_score(
    utility: RandomScores, names: list[str], minimum_gain: int, strict: bool, higher_is_better: bool
) -> None:
    sign = 1 if higher_is_better else -1
    soup = greedy(
        as_ingredients(names),
        lambda soup: Score(sign * utility.of_soup(soup), higher_is_better=higher_is_better),
        minimum_gain=minimum_gain,
        strict=strict,
    )
    assert kept(soup) == textbook_greedy(names, utility, by_score=True, minimum_gain=minimum_gain, strict=strict)


@hundreds
@given(score_functions, pantries, st.integers(0, 3), st.booleans())
def test_in_the_order_given(utility: RandomScores, names: list[str], minimum_gain: int, strict: bool) -> None:
    soup = greedy(as_ingredients(names), utility.of_soup, order="given", minimum_gain=minimum_gain, strict=strict)
    assert kept(soup) == textbook_greedy(names, utility, by_score=False, minimum_gain=minimum_gain, strict=strict)


@hundreds
@given(score_functions, pantries, st.integers(0, 2**16))
def test_random_order_is_the_given_order_of_a_permutation(utility: RandomScores, names: list[str], seed: int) -> None:
    soup = greedy(as_ingredients(names), utility.of_soup, order="random", generator=np.random.default_rng(seed))
    shuffled = [names[position] for position in np.random.default_rng(seed).permutation(len(names))]
    assert kept(soup) == textbook_greedy(shuffled, utility, by_score=False, minimum_gain=0, strict=False)
    assert [step.ingredient.name for step in soup.steps] == shuffled


@hundreds
@given(score_functions, pantries)
def test_the_greedy_ensemble_is_the_same_greedy(utility: RandomScores, names: list[str]) -> None:
    weights = greedy(as_ingredients(names), utility.of_soup)
    logits = greedy(as_ingredients(names), utility.of_soup, combine="logits")
    assert (logits.ingredients, logits.coefficients, logits.steps) == (
        weights.ingredients,
        weights.coefficients,
        weights.steps,
    )
    assert (logits.combine, weights.combine) == ("logits", "weights")


def test_steps_hold_the_first_ingredients_own_score_and_then_each_candidates() -> None:
    utility = {"a": 3, "b": 4, "c": 1, "ba": 4, "bac": 2}
    soup = greedy(as_ingredients("abc"), lambda soup: utility["".join(kept(soup))])
    assert [(step.ingredient.name, step.score.value, step.accepted) for step in soup.steps] == [
        ("b", 4, True),
        ("a", 4, True),
        ("c", 2, False),
    ]


def test_rules_of_acceptance_reach_the_evaluator() -> None:
    seen = []

    def evaluate(soup: Soup, *, against: Any = None) -> float:
        seen.append(against)
        return 0.5

    greedy(as_ingredients("ab"), evaluate, order="given", minimum_gain=0.25, strict=True)
    assert seen[0] is None
    assert (seen[1].minimum_gain, seen[1].strict, seen[1].score.value) == (0.25, True, 0.5)


@pytest.mark.parametrize(
    ("order", "combine", "recipe"),
    [
        ("score", "weights", "greedy"),
        ("given", "weights", "greedy_given"),
        ("random", "weights", "greedy_random"),
        ("score", "logits", "greedy_ensemble"),
        ("given", "logits", "greedy_ensemble_given"),
        ("random", "logits", "greedy_ensemble_random"),
    ],
)
def test_the_recipes_name_says_how_to_repeat_it(order: Any, combine: Any, recipe: str) -> None:
    evaluated = []

    def evaluate(soup: Soup) -> float:
        evaluated.append((soup.recipe, soup.combine))
        return 0.5

    generator = np.random.default_rng(0)
    soup = greedy(as_ingredients("abc"), evaluate, order=order, combine=combine, generator=generator)
    assert soup.recipe == recipe
    assert set(evaluated) == {(recipe, combine)}


@pytest.mark.parametrize("generator", [None, 7, random.Random(7)], ids=["none", "a seed", "random.Random"])
def test_random_order_without_a_generator_is_refused(generator: Any) -> None:
    with pytest.raises(ConfigError, match=r"pass generator=numpy\.random\.default_rng\(seed\)"):
        greedy(as_ingredients("ab"), lambda soup: 0.5, order="random", generator=generator)


def test_a_generator_that_does_not_permute_is_refused() -> None:
    class Repeats:
        def permutation(self, x: int, /) -> list[int]:
            return [0] * x

    with pytest.raises(ConfigError, match=r"permutation\(2\) is \[0, 0\]"):
        greedy(as_ingredients("ab"), lambda soup: 0.5, order="random", generator=Repeats())


def test_every_wrong_option_is_named_at_once_and_nothing_is_evaluated() -> None:
    with pytest.raises(ConfigError) as raised:
        greedy(
            as_ingredients("ab"),
            lambda soup: pytest.fail("evaluated"),
            order="best",  # type: ignore[arg-type]
            combine="bytes",  # type: ignore[arg-type]
            minimum_gain=-0.1,
        )
    assert raised.value.problems == (
        "order is 'best', not one of score, given, random",
        "combine is 'bytes', not one of weights, logits",
        "minimum_gain is -0.1, not a finite number of at least 0",
    )


# --- a budget --------------------------------------------------------------------------------------------------------


def utility(soup: Soup) -> float:
    return crc32("".join(sorted(i.name for i in soup.ingredients)).encode()) % 997 / 997


def pantry(k: int) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}") for name in "abcdefghij"[:k]]


@pytest.mark.parametrize("budget", [1, 3, 8])
def test_a_budget_tries_what_promises_most(budget: int) -> None:
    soup = greedy(pantry(10), utility, max_evaluations=budget, forecast=lambda soup, _: utility(soup))
    assert soup.approximate
    assert len(soup.steps) == 1 + budget
    left = [ingredient for ingredient in pantry(10) if ingredient != soup.steps[0].ingredient]
    incumbent = [soup.steps[0].ingredient]
    for step in soup.steps[1:]:
        expected = {one: utility(Soup((*incumbent, one), Coefficients.equal(len(incumbent) + 1), "")) for one in left}
        assert step.ingredient == max(left, key=expected.__getitem__)
        left.remove(step.ingredient)
        incumbent += [step.ingredient] if step.accepted else []
    assert soup.ingredients == tuple(incumbent)
    assert utility(soup) >= max(utility(Soup((one,), Coefficients.equal(1), "")) for one in pantry(10))


@pytest.mark.parametrize("budget", [9, 100])
def test_a_budget_for_all_is_the_plain_search(budget: int) -> None:
    assert greedy(pantry(10), utility, max_evaluations=budget, forecast=lambda *_: 0.0) == greedy(pantry(10), utility)


@pytest.mark.parametrize("forecast", [None, lambda *_: None, lambda *_: 0.5])
def test_without_a_forecast_the_order_is_that_of_scores(forecast) -> None:
    soup, plain = greedy(pantry(10), utility, max_evaluations=4, forecast=forecast), greedy(pantry(10), utility)
    assert soup.steps == plain.steps[:5]
    assert not plain.approximate


def test_the_forecast_is_given_the_incumbent() -> None:
    seen: list[tuple[Soup, Incumbent]] = []
    greedy(pantry(4), utility, max_evaluations=2, forecast=lambda *asked: seen.append(asked))
    assert [soup.ingredients[:-1] == incumbent.soup.ingredients for soup, incumbent in seen] == [True] * 5


@pytest.mark.parametrize(("budget", "order"), [(0, "score"), (-1, "score"), (2, "given"), (2, "random")])
def test_budgets_that_make_no_sense(budget: int, order: str) -> None:
    with pytest.raises(ConfigError) as caught:
        greedy(pantry(3), utility, max_evaluations=budget, order=order, generator=np.random.default_rng(0))
    assert any("max_evaluations" in problem for problem in caught.value.problems)
