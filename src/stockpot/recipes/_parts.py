"""What every recipe is made of: checked ingredients, soups of equal shares, whole scores, the log of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, TypeAlias

from stockpot.errors import BlendError, EvaluationError
from stockpot.types import Coefficients, CurvePoint, Evaluate, Ingredient, Score, Soup, Step

__all__ = ["Combine", "OnStep", "add_share", "equal_soup", "listed", "log", "single", "whole_score"]

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
