"""What every recipe is made of: checked ingredients, soups of equal shares, whole scores, the log of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

from stockpot.errors import BlendError, EvaluationError
from stockpot.types import Coefficients, CurvePoint, Evaluate, Incumbent, Ingredient, Score, Soup, Step

__all__ = [
    "Combine",
    "OnStep",
    "Trial",
    "add_share",
    "equal_soup",
    "first_of_the_best",
    "listed",
    "log",
    "only_accepted",
    "ranked",
    "rule_problems",
    "single",
    "used_ingredients",
    "whole_score",
]

Combine: TypeAlias = Literal["weights", "logits"]
#: Told of every step, or point of a curve, at the moment it is decided.
OnStep: TypeAlias = Callable[[Step | CurvePoint], None]


def listed(ingredients: Iterable[Ingredient]) -> tuple[Ingredient, ...]:
    """The ingredients in the caller's order, at least one.

    Raises:
        BlendError: no ingredients, or things that are none.

    Example:
        >>> [ingredient.name for ingredient in listed([Ingredient("a", "runs/a")])]
        ['a']
    """
    given = tuple(ingredients)
    if not given:
        raise BlendError("a recipe needs at least one ingredient", fix="give at least one checkpoint")
    strangers = [f"{position}: {thing!r}" for position, thing in enumerate(given) if not isinstance(thing, Ingredient)]
    if strangers:
        raise BlendError(
            f"{len(strangers)} of {len(given)} things given to a recipe are no ingredients",
            problems=strangers,
            fix="make them with stockpot.ingredients(*sources)",
        )
    return given


def equal_soup(ingredients: Iterable[Ingredient], *, recipe: str, combine: Combine = "weights") -> Soup:
    """1/k of each of k ingredients, in the order given.

    Example:
        >>> list(equal_soup([Ingredient("a", "a"), Ingredient("b", "b")], recipe="uniform").coefficients)
        [0.5, 0.5]
    """
    given = listed(ingredients)
    return Soup(given, Coefficients.equal(len(given)), recipe, combine)


def single(ingredient: Ingredient, *, recipe: str = "single", combine: Combine = "weights") -> Soup:
    """One ingredient with coefficient 1: the ingredient itself, as a soup.

    Example:
        >>> list(single(Ingredient("a", "runs/a")).coefficients)
        [1.0]
    """
    return equal_soup([ingredient], recipe=recipe, combine=combine)


def add_share(soup: Soup, ingredient: Ingredient) -> Soup:
    """Equal shares over the soup's ingredients and one more, which comes last.

    The order of acceptance is kept because it is the order in which a running sum adds: the running sum and a blend
    from scratch then give the same bytes.

    Args:
        soup: the soup so far; its own coefficients do not matter.
        ingredient: the next one; may be in the soup already, then it counts twice.

    Returns:
        1/(k+1) of each, same recipe, same way of combining.

    Example:
        >>> soup = add_share(single(Ingredient("a", "a")), Ingredient("b", "b"))
        >>> [ingredient.name for ingredient in soup.ingredients], list(soup.coefficients)
        (['a', 'b'], [0.5, 0.5])
    """
    ingredients = (*soup.ingredients, ingredient)
    return replace(soup, ingredients=ingredients, coefficients=Coefficients.equal(len(ingredients)))


def whole_score(evaluate: Evaluate, soup: Soup) -> Score:
    """The score of a soup that nothing competes with yet, so it may not be abandoned.

    Raises:
        EvaluationError: the evaluation was abandoned all the same.

    Example:
        >>> from stockpot.types import as_evaluate
        >>> whole_score(as_evaluate(lambda soup: 0.5), single(Ingredient("a", "a"))).value
        0.5
    """
    score = evaluate(soup)
    if score.is_abandoned:
        raise EvaluationError(
            f"evaluate abandoned {soup.ingredients[0].name!r} though no incumbent was given",
            fix="return a nan value only when called with against=",
        )
    return score


def log(steps: list[Step], step: Step, on_step: OnStep | None) -> None:
    """Appends a step and tells the listener, if there is one.

    Example:
        >>> steps = []
        >>> log(steps, Step(Ingredient("a", "a"), Score(0.5), accepted=True), on_step=None)
        >>> len(steps)
        1
    """
    steps.append(step)
    if on_step is not None:
        on_step(step)


def ranked(scores: Sequence[Score]) -> list[int]:
    """Positions of scores, best first; of equal ones the first given comes first.

    Example:
        >>> ranked([Score(0.5), Score(0.7), Score(0.7)])
        [1, 2, 0]
    """
    return sorted(range(len(scores)), key=lambda position: scores[position].utility, reverse=True)


class Trial(NamedTuple):
    """A soup to try, and what its step in the log says."""

    soup: Soup
    ingredient: Ingredient
    label: str


def first_of_the_best(
    trials: Sequence[Trial], evaluate: Evaluate, *, first_score: Score | None = None, on_step: OnStep | None = None
) -> Soup:
    """The soup with the highest held-out utility; of equal ones, the first.

    All but the first are scored `against` the best so far, so an evaluator may abandon them.

    Args:
        trials: at least one, in the order that settles ties.
        evaluate: held-out score of a soup.
        first_score: of the first one, where it is known already.
        on_step: told of each step at once; there, `accepted` means "leads so far".

    Returns:
        The soup, its steps in the order tried; only its own is accepted.
    """
    first, *others = trials
    score = whole_score(evaluate, first.soup) if first_score is None else first_score
    steps: list[Step] = []
    log(steps, Step(first.ingredient, score, True, first.label), on_step)
    incumbent, leader = Incumbent(first.soup, score, strict=True), 0
    for position, trial in enumerate(others, start=1):
        score = evaluate(trial.soup, against=incumbent)
        leads = incumbent.yields_to(score)
        log(steps, Step(trial.ingredient, score, leads, trial.label), on_step)
        if leads:
            incumbent, leader = replace(incumbent, soup=trial.soup, score=score), position
    return replace(incumbent.soup, steps=only_accepted(steps, leader))


def only_accepted(steps: Sequence[Step], leader: int) -> tuple[Step, ...]:
    """The same steps, of which the one at `leader` is accepted and no other."""
    return tuple(replace(step, accepted=position == leader) for position, step in enumerate(steps))


def rule_problems(minimum_gain: float, significance: float | None) -> list[str]:
    """What is wrong with a rule of acceptance, one line each."""
    problems = []
    # A negative gain would let the score drift below where it started, one step at a time.
    if not (math.isfinite(minimum_gain) and minimum_gain >= 0):
        problems.append(f"minimum_gain is {minimum_gain!r}, not a finite number of at least 0")
    if significance is not None and not 0 < significance < 1:
        problems.append(f"significance is {significance!r}, not a number between 0 and 1")
    return problems


def used_ingredients(soup: Soup) -> tuple[Ingredient, ...]:
    """The ingredients that have a coefficient other than 0 in any group of tensors.

    Example:
        >>> soup = Soup((Ingredient("a", "a"), Ingredient("b", "b")), Coefficients.of([0, 1]), "interpolate")
        >>> [ingredient.name for ingredient in used_ingredients(soup)]
        ['b']
    """
    columns = zip(*soup.coefficients.rows, strict=True)
    return tuple(i for i, column in zip(soup.ingredients, columns, strict=True) if any(column))
