"""The laws every recipe obeys. A new recipe enters by adding one line to CASES."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.errors import BlendError, ConfigError, EvaluationError
from stockpot.recipes import NEEDS_INITIALISATION, RECIPES, Supplies, used_ingredients
from stockpot.types import Incumbent, Ingredient, InnerProducts, Score, Soup

Counts = Callable[[int], Collection[int]]


@dataclass(frozen=True)
class Case:
    """What a recipe promises beyond the laws, for k ingredients.

    Args:
        n_evaluations: how many there may be; n_candidates of them have an incumbent.
        n_steps: of the log.
        among_equals: the positions used when all soups score the same; None: any order of all.
        never_below: methods whose held-out score the recipe's is never below, by theorem.
        grows: every candidate is the incumbent and one more share.
        keeps_steps: the accepted steps are the ingredients, in order.
        keeps_one: one ingredient is returned as it is.
    """

    name: str
    n_evaluations: Counts
    n_candidates: Counts
    n_steps: Counts
    among_equals: Callable[[int], list[int]] | None = lambda k: [*range(k)]
    never_below: tuple[str, ...] = ()
    grows: bool = False
    keeps_steps: bool = False
    keeps_one: bool = True
    combine: str = "weights"


def none(k: int) -> list[int]:
    return [0]


def one_each(k: int) -> list[int]:
    return [k]


def one_less(k: int) -> list[int]:
    return [k - 1]


def two_less_one(k: int) -> list[int]:
    return [2 * k - 1]


def tries(k: int) -> Collection[int]:
    """Every ingredient has its chance, but for the last one if all others are dropped."""
    return [k - 1, k] if k > 1 else [0]


GREEDY = {"grows": True, "keeps_steps": True}
CASES = [
    Case("best", one_each, none, one_each, lambda k: [0], ("best",), keeps_steps=True),
    Case("uniform", none, none, none, never_below=("uniform",)),
    Case("greedy", two_less_one, one_less, one_each, never_below=("best",), **GREEDY),
    Case("greedy_given", one_each, one_less, one_each, **GREEDY),
    Case("greedy_random", one_each, one_less, one_each, None, **GREEDY),
    Case("ensemble", none, none, none, combine="logits"),
    Case("greedy_ensemble", two_less_one, one_less, one_each, never_below=("best",), combine="logits", **GREEDY),
    Case(
        "pruned",
        lambda k: [k + 1 + n for n in tries(k)] if k > 1 else [1],
        tries,
        lambda k: [1 + n for n in tries(k)],
        lambda k: [0],
        ("uniform",),
    ),
    Case("top_k", two_less_one, one_less, one_each, lambda k: [0], ("best", "uniform")),
    Case("interpolate", lambda k: [11], lambda k: [10], lambda k: [11], never_below=("uniform",), keeps_one=False),
    Case("model_stock", none, none, none),
]
SIZES = [1, 2, 5, 9]
every_recipe = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
EVALUATING = [case for case in CASES if case.n_evaluations(2) != [0]]
every_evaluating_recipe = pytest.mark.parametrize("case", EVALUATING, ids=lambda case: case.name)
every_size = pytest.mark.parametrize("k", SIZES)
random_tables = settings(max_examples=60, deadline=None, derandomize=True)
#: A small alphabet: names repeat, so the same checkpoint is given several times.
pantries = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7)
seeds = st.integers(0, 2**32 - 1)


class Landscape:
    """A fixed random utility for every linear combination, coarse enough for ties; records how it was asked.

    It knows no order, and no ingredients whose coefficient is 0.
    """

    def __init__(self, seed: int, *, higher_is_better: bool = True, constant: float | None = None) -> None:
        self.seed, self.higher_is_better, self.constant = seed, higher_is_better, constant
        self.soups: list[Soup] = []
        self.incumbents: list[Incumbent | None] = []

    def utility(self, soup: Soup) -> float:
        if self.constant is not None:
            return self.constant
        pairs = zip(soup.ingredients, soup.coefficients, strict=True)
        parts = sorted((ord(i.name[0]), round(coefficient * 1e6)) for i, coefficient in pairs if coefficient)
        return crc32(f"{self.seed} {parts}".encode()) % 5 / 4

    def __call__(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        self.soups.append(soup)
        self.incumbents.append(against)
        utility = self.utility(soup)
        return Score(utility if self.higher_is_better else -utility, higher_is_better=self.higher_is_better)


START = Ingredient("initialisation", "base")


def pantry(k: int) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}") for name in "abcdefghijkl"[:k]]


def moves(k: int) -> InnerProducts:
    """Inner products of k made-up deltas for two tensors."""
    deltas = np.random.default_rng(k).standard_normal((2, k, 30)) + 1
    return InnerProducts((("weight",), ("bias",)), deltas @ deltas.transpose(0, 2, 1))


def supplies(k: int) -> Supplies:
    return Supplies(np.random.default_rng(7), initialisation=START, inner_products=lambda: moves(k))


def cook(case: Case, ingredients: list[Ingredient], evaluate: Callable[..., Any], **keywords: Any) -> Soup:
    return RECIPES[case.name](ingredients, evaluate, supplies(len(ingredients)), **keywords)


def fine_tunes(case: Case, soup: Soup) -> tuple[Ingredient, ...]:
    """The soup's ingredients but for the initialisation, which comes last where it is part of it."""
    if case.name not in NEEDS_INITIALISATION:
        return soup.ingredients
    assert soup.ingredients[-1] == START
    return soup.ingredients[:-1]


def abandons_early(evaluate: Landscape) -> Callable[..., Score]:
    """The same scores, except that what cannot be accepted stays without one."""

    def early(soup: Soup, *, against: Incumbent | None = None) -> Score:
        score = evaluate(soup)
        if against is None or against.yields_to(score):
            return score
        return Score(math.nan, n_examples=10, n_evaluated=4, at_most=score.value)

    return early


def without_scores(soup: Soup) -> Soup:
    return replace(soup, steps=())


def test_every_recipe_is_in_the_suite() -> None:
    by_gradient = {"learned", "learned_by_layer"}  # test_learned.py: they evaluate nothing
    assert [case.name for case in CASES] == [name for name in RECIPES if name not in by_gradient]


@every_recipe
@every_size
def test_is_deterministic_and_leaves_its_arguments_alone(case: Case, k: int) -> None:
    ingredients = pantry(k)
    assert cook(case, ingredients, Landscape(1)) == cook(case, ingredients, Landscape(1))
    assert ingredients == pantry(k)


@every_recipe
def test_takes_any_iterable(case: Case) -> None:
    soup = RECIPES[case.name](iter(pantry(4)), Landscape(1), supplies(4))
    assert soup == cook(case, pantry(4), Landscape(1))


@every_recipe
@every_size
def test_soup_is_well_formed(case: Case, k: int) -> None:
    soup = cook(case, pantry(k), Landscape(2))
    assert soup.recipe == case.name
    assert soup.combine == case.combine
    members = fine_tunes(case, soup)
    assert set(members) <= set(pantry(k))
    assert len(members) == len(set(members))
    assert len(soup.steps) in case.n_steps(k)
    assert all(sum(row) == pytest.approx(1) for row in soup.coefficients.rows)
    assert all(0 <= coefficient <= 1 for row in soup.coefficients.rows for coefficient in row)
    if case.name in NEEDS_INITIALISATION:  # what is not the initialisation's is shared equally
        assert all(len(set(row[:-1])) == 1 for row in soup.coefficients.rows)
    else:
        assert soup.coefficients.is_equal
    if case.keeps_steps:
        assert tuple(step.ingredient for step in soup.steps if step.accepted) == soup.ingredients


@every_recipe
def test_one_ingredient_is_returned_as_it_is(case: Case) -> None:
    (only,) = pantry(1)
    soup = cook(case, [only], Landscape(3, constant=None if case.keeps_one else 0.5))
    assert used_ingredients(soup) == (only,)
    assert all(row[0] == 1.0 for row in soup.coefficients.rows)


@every_recipe
def test_no_ingredient_is_refused(case: Case) -> None:
    with pytest.raises(BlendError, match="at least one ingredient"):
        cook(case, [], Landscape(0))


@every_recipe
def test_things_that_are_no_ingredients_are_refused_all_at_once(case: Case) -> None:
    with pytest.raises(BlendError, match="2 of 3 things") as raised:
        cook(case, ["runs/x", *pantry(1), "runs/y"], Landscape(0))  # type: ignore[list-item]
    assert raised.value.problems == ("0: 'runs/x'", "2: 'runs/y'")


@every_recipe
@every_size
def test_number_of_evaluations_is_as_documented(case: Case, k: int) -> None:
    evaluate = Landscape(4)
    cook(case, pantry(k), evaluate)
    assert len(evaluate.soups) in case.n_evaluations(k)
    assert sum(incumbent is not None for incumbent in evaluate.incumbents) in case.n_candidates(k)


@every_recipe
def test_nothing_is_asked_twice(case: Case) -> None:
    """A soup may come again with another incumbent: whether it can replace that one is another question."""
    for seed in range(30):
        evaluate = Landscape(seed)
        cook(case, pantry(6), evaluate)
        rivals = [
            incumbent and (incumbent.soup.ingredients, incumbent.soup.coefficients) for incumbent in evaluate.incumbents
        ]
        asked = [(s.ingredients, s.coefficients, rival) for s, rival in zip(evaluate.soups, rivals, strict=True)]
        assert len(asked) == len(set(asked))


@every_recipe
def test_every_soup_that_is_evaluated_combines_alike(case: Case) -> None:
    evaluate = Landscape(5)
    cook(case, pantry(5), evaluate)
    assert {soup.combine for soup in evaluate.soups} <= {case.combine}


@every_recipe
def test_every_candidate_meets_an_incumbent_that_was_scored(case: Case) -> None:
    for seed in range(20):
        evaluate = Landscape(seed)
        cook(case, pantry(7), evaluate)
        for soup, incumbent in zip(evaluate.soups, evaluate.incumbents, strict=True):
            if incumbent is not None:
                assert incumbent.soup.recipe == soup.recipe == case.name
                assert incumbent.score.utility == evaluate.utility(incumbent.soup)
                assert any(incumbent.soup.coefficients == s.coefficients for s in evaluate.soups)


@pytest.mark.parametrize("case", [case for case in CASES if case.grows], ids=lambda case: case.name)
def test_every_candidate_is_the_incumbent_and_one_more_share(case: Case) -> None:
    for seed in range(20):
        evaluate = Landscape(seed)
        cook(case, pantry(7), evaluate)
        for soup, incumbent in zip(evaluate.soups, evaluate.incumbents, strict=True):
            assert soup.coefficients.is_equal
            assert soup.ingredients[:-1] == (() if incumbent is None else incumbent.soup.ingredients)


@every_recipe
@random_tables
@given(seeds, pantries)
def test_lower_is_better_gives_the_mirrored_choice(case: Case, seed: int, names: list[str]) -> None:
    ingredients = [Ingredient(name, f"runs/{name}") for name in names]
    gain = cook(case, ingredients, Landscape(seed))
    loss = cook(case, ingredients, Landscape(seed, higher_is_better=False))
    assert without_scores(gain) == without_scores(loss)
    assert [(step.accepted, step.label) for step in gain.steps] == [(s.accepted, s.label) for s in loss.steps]
    assert [step.score.value for step in gain.steps] == [-step.score.value for step in loss.steps]


def utility_of(method: str, ingredients: list[Ingredient], evaluate: Landscape) -> float:
    return evaluate.utility(RECIPES[method](ingredients, evaluate))


@pytest.mark.parametrize("case", [case for case in CASES if case.never_below], ids=lambda case: case.name)
@random_tables
@given(seeds, pantries)
def test_held_out_score_is_never_below_where_the_recipe_starts(case: Case, seed: int, names: list[str]) -> None:
    ingredients = [Ingredient(name, f"runs/{name}") for name in names]
    evaluate = Landscape(seed)
    soup = cook(case, ingredients, evaluate)
    for method in case.never_below:
        assert evaluate.utility(soup) >= utility_of(method, ingredients, Landscape(seed))
    accepted = [step.score.utility for step in soup.steps if step.accepted]
    assert not accepted or evaluate.utility(soup) == max(accepted)


@every_recipe
def test_among_equals_the_first_given_comes_first(case: Case) -> None:
    ingredients = pantry(5)
    soup = cook(case, ingredients, Landscape(0, constant=0.5))
    if case.among_equals is None:
        assert set(soup.ingredients) == set(ingredients)
    else:
        assert list(fine_tunes(case, soup)) == [ingredients[position] for position in case.among_equals(5)]
    if case.name == "interpolate":
        assert soup.coefficients.rows[0][-1] == 0.0  # the largest alpha


@every_recipe
def test_duplicates_are_ingredients_like_any_other(case: Case) -> None:
    for seed in range(10):
        a, b = pantry(2)
        evaluate = Landscape(seed)
        soup = cook(case, [a, b, a, a], evaluate)
        assert len(evaluate.soups) in case.n_evaluations(4)
        assert len(soup.steps) in case.n_steps(4)
        members = fine_tunes(case, soup)
        assert Counter(members) <= Counter([a, b, a, a])
        if case.keeps_steps:
            assert tuple(step.ingredient for step in soup.steps if step.accepted) == soup.ingredients
        elif not soup.steps:
            assert members == (a, b, a, a)


@every_evaluating_recipe
@every_size
def test_an_evaluate_that_fails_half_way_is_named_not_swallowed(case: Case, k: int) -> None:
    whole, told = Landscape(6), []
    cook(case, pantry(k), whole, on_step=lambda step: told.append((len(whole.soups), step)))
    for n_before in range(len(whole.soups)):
        evaluate = Landscape(6)
        heard: list[Any] = []

        def fails(soup: Soup, *, against: Incumbent | None = None, n: int = n_before, e: Landscape = evaluate) -> Score:
            if len(e.soups) == n:
                raise RuntimeError("out of memory")
            return e(soup, against=against)

        with pytest.raises(EvaluationError, match=r"RuntimeError.*out of memory") as raised:
            cook(case, pantry(k), fails, on_step=heard.append)
        assert isinstance(raised.value.__cause__, RuntimeError)
        assert len(evaluate.soups) == n_before
        assert heard == [step for n_evaluated, step in told if n_evaluated <= n_before]


@every_evaluating_recipe
def test_ctrl_c_passes_through(case: Case) -> None:
    def interrupted(soup: Soup) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cook(case, pantry(3), interrupted)


@every_evaluating_recipe
@pytest.mark.parametrize("bad", [math.nan, math.inf, "0.5", None])
def test_scores_that_are_no_finite_number_are_refused(case: Case, bad: object) -> None:
    with pytest.raises(EvaluationError, match="not a finite number"):
        cook(case, pantry(3), lambda soup: bad)


@every_evaluating_recipe
def test_the_first_score_may_not_be_abandoned(case: Case) -> None:
    with pytest.raises(EvaluationError, match=r"abandoned '(a|initialisation)' though no incumbent") as raised:
        cook(case, pantry(1), lambda soup: Score(math.nan, at_most=0.4))
    assert "against=" in str(raised.value)


@every_evaluating_recipe
@random_tables
@given(seeds, pantries)
def test_abandoning_what_cannot_be_accepted_changes_nothing(case: Case, seed: int, names: list[str]) -> None:
    ingredients = [Ingredient(name, f"runs/{name}") for name in names]
    whole, abandoned = (
        cook(case, ingredients, Landscape(seed)), cook(case, ingredients, abandons_early(Landscape(seed)))
    )  # fmt: skip
    assert without_scores(abandoned) == without_scores(whole)
    assert [(s.accepted, s.label) for s in abandoned.steps] == [(s.accepted, s.label) for s in whole.steps]


@every_recipe
def test_each_step_is_told_at_once_and_in_order(case: Case) -> None:
    evaluate, heard = Landscape(8), []
    soup = cook(case, pantry(5), evaluate, on_step=lambda step: heard.append((step, len(evaluate.soups))))
    assert [(step.ingredient, step.score, step.label) for step, _ in heard] == [
        (step.ingredient, step.score, step.label) for step in soup.steps
    ]
    n_before_first = len(evaluate.soups) - len(soup.steps)
    assert [n for _, n in heard] == [n_before_first + position + 1 for position in range(len(soup.steps))]


@pytest.mark.parametrize("name", sorted(NEEDS_INITIALISATION))
def test_what_a_recipe_lacks_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs the initialisation") as raised:
        RECIPES[name](pantry(2), Landscape(0), Supplies())
    assert "--initialisation" in str(raised.value)
    if name == "model_stock":
        with pytest.raises(ConfigError, match="needs the inner products"):
            RECIPES[name](pantry(2), Landscape(0), Supplies(initialisation=START))


def test_inner_products_are_asked_for_by_model_stock_alone() -> None:
    def never() -> InnerProducts:
        raise AssertionError

    for case in CASES:
        if case.name != "model_stock":
            RECIPES[case.name](
                pantry(3), Landscape(0), Supplies(np.random.default_rng(0), initialisation=START, inner_products=never)
            )


@every_evaluating_recipe
def test_plain_floats_are_scores(case: Case) -> None:
    evaluate = Landscape(9)
    plain = cook(case, pantry(6), lambda soup: evaluate(soup).value)
    assert plain == cook(case, pantry(6), Landscape(9))


def test_recipes_import_no_framework() -> None:
    heavy = "{'torch', 'safetensors', 'sklearn'}"
    code = f"import sys, stockpot.recipes; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
