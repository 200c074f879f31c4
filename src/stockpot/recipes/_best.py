"""The best single ingredient: what is done without soups, and what every soup is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from stockpot.recipes._parts import OnStep, listed, log, only_accepted, single, whole_score
from stockpot.types import Ingredient, Score, Soup, Step, as_evaluate

__all__ = ["best"]


def best(
    ingredients: Iterable[Ingredient], evaluate: Callable[..., float | Score], *, on_step: OnStep | None = None
) -> Soup:
    """The ingredient with the highest held-out utility; of equal ones, the first given.

    ``argmax_i utility(evaluate(i))``, with k evaluations for k ingredients, none of them against an incumbent: a table
    of individuals needs whole scores.

    Args:
        ingredients: at least one, in the order that settles ties.
        evaluate: held-out score of a soup, a float or a Score.
        on_step: told of each step at once; there, `accepted` means "leads so far".

    Returns:
        A soup of one ingredient. Its steps are all individuals in the order given; only the winner's is accepted.

    Raises:
        BlendError: no ingredients.
        EvaluationError: `evaluate` raised, or gave no finite number.

    Example:
        >>> accuracy = {"a": 0.71, "b": 0.74, "c": 0.74}
        >>> runs = [Ingredient(name, f"runs/{name}") for name in accuracy]
        >>> best(runs, lambda soup: accuracy[soup.ingredients[0].name]).ingredients[0].name
        'b'
    """
    evaluate = as_evaluate(evaluate)
    steps: list[Step] = []
    leader = 0
    for position, ingredient in enumerate(listed(ingredients)):
        score = whole_score(evaluate, single(ingredient, recipe="best"))
        leads = position == 0 or score.utility > steps[leader].score.utility
        leader = position if leads else leader
        log(steps, Step(ingredient, score, leads), on_step)
    return replace(single(steps[leader].ingredient, recipe="best"), steps=only_accepted(steps, leader))
