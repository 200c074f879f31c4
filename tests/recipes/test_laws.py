"""The laws every recipe obeys. A new recipe enters by adding one line to CASES."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from stockpot.errors import BlendError, EvaluationError
from stockpot.recipes import RECIPES, Supplies
from stockpot.types import Incumbent, Ingredient, Score, Soup


@dataclass(frozen=True)
class Case:
    """What a recipe promises beyond the laws, for k ingredients."""

    name: str
    n_evaluations: Callable[[int], int]
    n_candidates: Callable[[int], int]  # evaluations that have an incumbent
    n_steps: Callable[[int], int]
    never_below_best: bool = False
    combine: str = "weights"


def none(k: int) -> int:
    return 0


CASES = [
    Case("best", lambda k: k, none, lambda k: k, never_below_best=True),
    Case("uniform", none, none, none),
    Case("greedy", lambda k: 2 * k - 1, lambda k: k - 1, lambda k: k, never_below_best=True),
    Case("greedy_given", lambda k: k, lambda k: k - 1, lambda k: k),
    Case("greedy_random", lambda k: k, lambda k: k - 1, lambda k: k),
    Case("ensemble", none, none, none, combine="logits"),
    Case("greedy_ensemble", lambda k: 2 * k - 1, lambda k: k - 1, lambda k: k, never_below_best=True, combine="logits"),
]
SIZES = [1, 2, 5, 9]
every_recipe = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_evaluating_recipe = pytest.mark.parametrize(
    "case", [case for case in CASES if case.n_evaluations(2)], ids=lambda case: case.name
)
every_size = pytest.mark.parametrize("k", SIZES)


class Landscape:
    """A fixed random utility for every sequence of names, coarse enough for ties; records how it was asked."""

    def __init__(self, seed: int, *, higher_is_better: bool = True, constant: float | None = None) -> None:
        self.seed, self.higher_is_better, self.constant = seed, higher_is_better, constant
        self.soups: list[Soup] = []
        self.incumbents: list[Incumbent | None] = []

    def utility(self, soup: Soup) -> float:
        if self.constant is not None:
            return self.constant
        key = [self.seed, *(ord(character) for i in soup.ingredients for character in i.name)]
        return float(np.random.default_rng(key).integers(0, 5)) / 4

    def __call__(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        self.soups.append(soup)
        self.incumbents.append(against)
        utility = self.utility(soup)
        return Score(utility if self.higher_is_better else -utility, higher_is_better=self.higher_is_better)


def pantry(k: int) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}") for name in "abcdefghijkl"[:k]]


def cook(case: Case, ingredients: list[Ingredient], evaluate: Callable[..., Any], **keywords: Any) -> Soup:
    return RECIPES[case.name](ingredients, evaluate, Supplies(np.random.default_rng(7)), **keywords)


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
    assert cook(case, iter(pantry(4)), Landscape(1)) == cook(case, pantry(4), Landscape(1))  # type: ignore[arg-type]


@every_recipe
@every_size
def test_soup_is_well_formed(case: Case, k: int) -> None:
    soup = cook(case, pantry(k), Landscape(2))
    assert soup.recipe == case.name
    assert soup.combine == case.combine
    assert soup.coefficients.is_equal
    assert set(soup.ingredients) <= set(pantry(k))
    assert len(soup.ingredients) == len(set(soup.ingredients))
    assert len(soup.steps) == case.n_steps(k)
    if soup.steps:
        assert tuple(step.ingredient for step in soup.steps if step.accepted) == soup.ingredients


@every_recipe
def test_one_ingredient_is_returned_as_it_is(case: Case) -> None:
    (only,) = pantry(1)
    soup = cook(case, [only], Landscape(3))
    assert soup.ingredients == (only,)
    assert list(soup.coefficients) == [1.0]


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
    assert len(evaluate.soups) == case.n_evaluations(k)
    assert sum(incumbent is not None for incumbent in evaluate.incumbents) == case.n_candidates(k)


@every_recipe
def test_no_soup_is_evaluated_twice(case: Case) -> None:
    for seed in range(30):
        evaluate = Landscape(seed)
        cook(case, pantry(6), evaluate)
        asked = [(soup.ingredients, soup.coefficients) for soup in evaluate.soups]
        assert len(asked) == len(set(asked))


@every_recipe
def test_every_soup_that_is_evaluated_combines_alike(case: Case) -> None:
    evaluate = Landscape(5)
    cook(case, pantry(5), evaluate)
    assert {soup.combine for soup in evaluate.soups} <= {case.combine}


@every_recipe
def test_every_candidate_is_the_incumbent_and_one_more_share(case: Case) -> None:
    for seed in range(20):
        evaluate = Landscape(seed)
        cook(case, pantry(7), evaluate)
        for soup, incumbent in zip(evaluate.soups, evaluate.incumbents, strict=True):
            if incumbent is None:
                assert len(soup.ingredients) == 1
            else:
                assert soup.ingredients[:-1] == incumbent.soup.ingredients
                assert soup.coefficients.is_equal
                assert incumbent.score.utility == evaluate.utility(incumbent.soup)


@every_recipe
def test_lower_is_better_gives_the_mirrored_choice(case: Case) -> None:
    for seed in range(60):
        gain = cook(case, pantry(6), Landscape(seed))
        loss = cook(case, pantry(6), Landscape(seed, higher_is_better=False))
        assert without_scores(gain) == without_scores(loss)
        assert [step.accepted for step in gain.steps] == [step.accepted for step in loss.steps]
        assert [step.score.value for step in gain.steps] == [-step.score.value for step in loss.steps]


@pytest.mark.parametrize("case", [case for case in CASES if case.never_below_best], ids=lambda case: case.name)
def test_held_out_score_is_never_below_the_best_ingredients(case: Case) -> None:
    for seed in range(60):
        evaluate = Landscape(seed)
        soup = cook(case, pantry(6), evaluate)
        assert evaluate.utility(soup) >= evaluate.utility(cook(CASES[0], pantry(6), evaluate))
        assert evaluate.utility(soup) == max(step.score.utility for step in soup.steps if step.accepted)


@every_recipe
def test_among_equals_the_first_given_comes_first(case: Case) -> None:
    ingredients = pantry(5)
    soup = cook(case, ingredients, Landscape(0, constant=0.5))
    if case.name == "best":
        assert list(soup.ingredients) == ingredients[:1]
    elif case.name == "greedy_random":
        assert set(soup.ingredients) == set(ingredients)
    else:
        assert list(soup.ingredients) == ingredients


@every_recipe
def test_duplicates_are_ingredients_like_any_other(case: Case) -> None:
    for seed in range(10):
        a, b = pantry(2)
        evaluate = Landscape(seed)
        soup = cook(case, [a, b, a, a], evaluate)
        assert len(evaluate.soups) == case.n_evaluations(4)
        assert len(soup.steps) == case.n_steps(4)
        if soup.steps:
            assert tuple(step.ingredient for step in soup.steps if step.accepted) == soup.ingredients
        else:
            assert soup.ingredients == (a, b, a, a)


@every_evaluating_recipe
@every_size
def test_an_evaluate_that_fails_half_way_is_named_not_swallowed(case: Case, k: int) -> None:
    for n_before in range(case.n_evaluations(k)):
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
        assert len(heard) <= n_before


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
def test_individuals_may_not_be_abandoned(case: Case) -> None:
    with pytest.raises(EvaluationError, match="abandoned 'a' though no incumbent") as raised:
        RECIPES[case.name](pantry(1), lambda soup: Score(math.nan, at_most=0.4), Supplies(np.random.default_rng(7)))
    assert "against=" in str(raised.value)


@every_evaluating_recipe
def test_abandoning_what_cannot_be_accepted_changes_nothing(case: Case) -> None:
    for seed in range(30):
        abandoned, whole = (
            cook(case, pantry(6), abandons_early(Landscape(seed))),
            cook(case, pantry(6), Landscape(seed)),
        )
        assert without_scores(abandoned) == without_scores(whole)
        assert [step.accepted for step in abandoned.steps] == [step.accepted for step in whole.steps]


@every_recipe
def test_each_step_is_told_at_once_and_in_order(case: Case) -> None:
    evaluate, heard = Landscape(8), []
    soup = cook(case, pantry(5), evaluate, on_step=lambda step: heard.append((step, len(evaluate.soups))))
    assert [step.ingredient for step, _ in heard] == [step.ingredient for step in soup.steps]
    assert [step.score for step, _ in heard] == [step.score for step in soup.steps]
    n_evaluated = [n for _, n in heard]
    n_before_first = case.n_evaluations(5) - case.n_steps(5)
    assert n_evaluated == [n_before_first + position + 1 for position in range(case.n_steps(5))]


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
