"""Recipes by name, all called in one way: what the command line and the comparison table choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from stockpot.recipes._best import best
from stockpot.recipes._greedy import Permutes, greedy
from stockpot.recipes._parts import OnStep
from stockpot.recipes._uniform import ensemble, uniform
from stockpot.types import Ingredient, Score, Soup

__all__ = ["RECIPES", "Recipe"]


class Recipe(Protocol):
    """Ingredients -> soup, the way every entry of RECIPES is called; what a recipe has no use for it ignores."""

    def __call__(
        self,
        ingredients: Iterable[Ingredient],
        evaluate: Callable[..., float | Score],
        *,
        generator: Permutes | None = None,
        on_step: OnStep | None = None,
    ) -> Soup:
        """Cooks. `evaluate` must be able to score soups that combine logits if the recipe is an ensemble."""


def _best(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    *,
    generator: Permutes | None = None,  # noqa: ARG001 - the uniform calling convention
    on_step: OnStep | None = None,
) -> Soup:
    return best(ingredients, evaluate, on_step=on_step)


def _without_evaluation(recipe: Callable[[Iterable[Ingredient]], Soup]) -> Recipe:
    def cook(
        ingredients: Iterable[Ingredient],
        evaluate: Callable[..., float | Score],  # noqa: ARG001 - the uniform calling convention
        *,
        generator: Permutes | None = None,  # noqa: ARG001
        on_step: OnStep | None = None,  # noqa: ARG001
    ) -> Soup:
        return recipe(ingredients)

    return cook


#: Name -> recipe. The name is also the `recipe` of the soup that comes out.
RECIPES: Mapping[str, Recipe] = {
    "best": _best,
    "uniform": _without_evaluation(uniform),
    "greedy": greedy,
    "greedy_given": partial(greedy, order="given"),
    "greedy_random": partial(greedy, order="random"),
    "ensemble": _without_evaluation(ensemble),
    "greedy_ensemble": partial(greedy, combine="logits"),
}
