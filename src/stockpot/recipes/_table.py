"""Recipes by name, all called in one way: what the command line and the comparison table choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeAlias

from stockpot.errors import ConfigError
from stockpot.recipes._best import best
from stockpot.recipes._greedy import Permutes, greedy
from stockpot.recipes._groups import Granularity
from stockpot.recipes._learned import LearningOptions, learned
from stockpot.recipes._parts import OnStep
from stockpot.recipes._uniform import ensemble, uniform
from stockpot.types import Gradient, Ingredient, Score, Soup

__all__ = ["RECIPES", "OpenGradient", "Recipe", "Supplies"]

#: Opens the gradient of the held-out loss for rows of coefficients of a granularity.
OpenGradient: TypeAlias = Callable[[Granularity], AbstractContextManager[Gradient]]


@dataclass(frozen=True, slots=True)
class Supplies:
    """What some recipes need beside ingredients and evaluate; a recipe that lacks what it needs says so.

    Args:
        generator: for random orders, a numpy Generator.
        gradient: for learned soups; a task makes it.
        learning: how learned soups are learned.
        layers: rows of the learned soup by layer.
    """

    generator: Permutes | None = None
    gradient: OpenGradient | None = None
    learning: LearningOptions = field(default_factory=LearningOptions)
    layers: Granularity = "tensor"


class Recipe(Protocol):
    """Ingredients -> soup, the way every entry of RECIPES is called; what a recipe has no use for it ignores."""

    def __call__(
        self,
        ingredients: Iterable[Ingredient],
        evaluate: Callable[..., float | Score],
        supplies: Supplies = ...,
        *,
        on_step: OnStep | None = None,
    ) -> Soup:
        """Cooks. `evaluate` must be able to score soups that combine logits if the recipe is an ensemble."""


def _cook_best(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    supplies: Supplies = Supplies(),  # noqa: ARG001 - the uniform calling convention; frozen
    *,
    on_step: OnStep | None = None,
) -> Soup:
    return best(ingredients, evaluate, on_step=on_step)


def _without_evaluation(recipe: Callable[[Iterable[Ingredient]], Soup]) -> Recipe:
    def cook(
        ingredients: Iterable[Ingredient],
        evaluate: Callable[..., float | Score],  # noqa: ARG001 - the uniform calling convention
        supplies: Supplies = Supplies(),  # noqa: ARG001
        *,
        on_step: OnStep | None = None,  # noqa: ARG001
    ) -> Soup:
        return recipe(ingredients)

    return cook


def _greedily(recipe: Callable[..., Soup]) -> Recipe:
    def cook(
        ingredients: Iterable[Ingredient],
        evaluate: Callable[..., float | Score],
        supplies: Supplies = Supplies(),
        *,
        on_step: OnStep | None = None,
    ) -> Soup:
        return recipe(ingredients, evaluate, generator=supplies.generator, on_step=on_step)

    return cook


def _by_gradient(name: str, *, by_layer: bool) -> Recipe:
    def cook(
        ingredients: Iterable[Ingredient],
        evaluate: Callable[..., float | Score],  # noqa: ARG001
        supplies: Supplies = Supplies(),
        *,
        on_step: OnStep | None = None,
    ) -> Soup:
        if supplies.gradient is None:
            raise ConfigError(
                f"{name} needs gradients of the held-out loss, which an evaluate function does not give",
                fix="give a task, or call stockpot.learned with your own Gradient",
            )
        with supplies.gradient(supplies.layers if by_layer else "model") as gradient:
            return learned(ingredients, gradient, supplies.learning, recipe=name, on_point=on_step)

    return cook


#: Name -> recipe. The name is also the `recipe` of the soup that comes out.
RECIPES: Mapping[str, Recipe] = {
    "best": _cook_best,
    "uniform": _without_evaluation(uniform),
    "greedy": _greedily(greedy),
    "greedy_given": _greedily(partial(greedy, order="given")),
    "greedy_random": _greedily(partial(greedy, order="random")),
    "learned": _by_gradient("learned", by_layer=False),
    "learned_by_layer": _by_gradient("learned_by_layer", by_layer=True),
    "ensemble": _without_evaluation(ensemble),
    "greedy_ensemble": _greedily(partial(greedy, combine="logits")),
}
