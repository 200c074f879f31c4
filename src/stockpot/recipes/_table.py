"""Recipes by name, all called in one way: what the command line and the comparison table choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias

from stockpot.errors import ConfigError
from stockpot.recipes._best import best
from stockpot.recipes._greedy import Forecast, Permutes, greedy
from stockpot.recipes._groups import Granularity
from stockpot.recipes._interpolate import interpolate
from stockpot.recipes._learned import LearningOptions, learned
from stockpot.recipes._model_stock import model_stock
from stockpot.recipes._parts import OnStep, listed
from stockpot.recipes._pruned import pruned
from stockpot.recipes._top_k import top_k
from stockpot.recipes._uniform import ensemble, uniform
from stockpot.types import Gradient, Ingredient, InnerProducts, Score, Soup

__all__ = ["NEEDS_INITIALISATION", "RECIPES", "OpenGradient", "Recipe", "Supplies"]

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
        initialisation: for recipes that go back towards it.
        inner_products: for model_stock, asked for only there; they cost a reading of every checkpoint.
        max_evaluations: of candidates, for greedy alone; None: all.
        forecast: orders them where there is such a budget.
        rule: minimum_gain, strict and significance of the recipes that accept one ingredient after the other.
    """

    generator: Permutes | None = None
    gradient: OpenGradient | None = None
    learning: LearningOptions = field(default_factory=LearningOptions)
    layers: Granularity = "tensor"
    initialisation: Ingredient | None = None
    inner_products: Callable[[], InnerProducts] | None = None
    max_evaluations: int | None = None
    forecast: Forecast | None = None
    rule: Mapping[str, Any] = field(default_factory=dict)


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


def _by_scores(recipe: Callable[..., Soup]) -> Recipe:
    def cook(
        ingredients: Iterable[Ingredient],
        evaluate: Callable[..., float | Score],
        supplies: Supplies = Supplies(),  # noqa: ARG001 - the uniform calling convention; frozen
        *,
        on_step: OnStep | None = None,
    ) -> Soup:
        return recipe(ingredients, evaluate, on_step=on_step)

    return cook


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
        return recipe(ingredients, evaluate, generator=supplies.generator, on_step=on_step, **supplies.rule)

    return cook


def _greedy(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    supplies: Supplies = Supplies(),
    *,
    on_step: OnStep | None = None,
) -> Soup:
    budget = {"max_evaluations": supplies.max_evaluations, "forecast": supplies.forecast}
    return greedy(ingredients, evaluate, on_step=on_step, **budget, **supplies.rule)  # type: ignore[arg-type]


def _pruned(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    supplies: Supplies = Supplies(),
    *,
    on_step: OnStep | None = None,
) -> Soup:
    return pruned(ingredients, evaluate, on_step=on_step, **supplies.rule)


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


def _interpolate(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    supplies: Supplies = Supplies(),
    *,
    on_step: OnStep | None = None,
) -> Soup:
    start = _start("interpolate", supplies)
    return interpolate(ingredients, evaluate, initialisation=start, on_step=on_step)


def _model_stock(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],  # noqa: ARG001
    supplies: Supplies = Supplies(),
    *,
    on_step: OnStep | None = None,  # noqa: ARG001
) -> Soup:
    start = _start("model_stock", supplies)
    given = listed(ingredients)
    if supplies.inner_products is None:
        raise ConfigError(
            "model_stock needs the inner products of what fine-tuning has changed",
            fix="pass inner_products=lambda: stockpot.assembly.inner_products(ingredients, initialisation)",
        )
    return model_stock(given, initialisation=start, inner_products=supplies.inner_products())


def _start(recipe: str, supplies: Supplies) -> Ingredient:
    if supplies.initialisation is None:
        raise ConfigError(
            f"{recipe} needs the initialisation, the checkpoint that all ingredients were fine-tuned from",
            fix="pass --initialisation (in Python: initialisation=...)",
        )
    return supplies.initialisation


#: Recipes whose soups have the initialisation as their first ingredient.
NEEDS_INITIALISATION = frozenset({"interpolate", "model_stock"})
#: Name -> recipe. The name is also the `recipe` of the soup that comes out.
RECIPES: Mapping[str, Recipe] = {
    "best": _by_scores(best),
    "uniform": _without_evaluation(uniform),
    "greedy": _greedy,
    "greedy_given": _greedily(partial(greedy, order="given")),
    "greedy_random": _greedily(partial(greedy, order="random")),
    "learned": _by_gradient("learned", by_layer=False),
    "learned_by_layer": _by_gradient("learned_by_layer", by_layer=True),
    "ensemble": _without_evaluation(ensemble),
    "greedy_ensemble": _greedily(partial(greedy, combine="logits")),
    "pruned": _pruned,
    "top_k": _by_scores(top_k),
    "interpolate": _interpolate,
    "model_stock": _model_stock,
}
