"""Recipes: (ingredients, evaluate) -> Soup. Pure functions that know no files, no framework and no device.

A recipe sees the world through `evaluate` alone, once per question, and compares `Score.utility` alone. `RECIPES` maps
each name to a function called as ``RECIPES[name](ingredients, evaluate, Supplies(...), on_step=...)``; a recipe with no
use for one of these ignores it. To add one: a file here, a line in `_table.py`, a line in `tests/recipes/test_laws.py`.

The modules are private because `best`, `uniform` and `greedy` name functions, and a name should mean one thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot._lazy import lazily

if TYPE_CHECKING:
    from stockpot.recipes._best import best
    from stockpot.recipes._fold import fold_logit_scale
    from stockpot.recipes._greedy import Forecast, Order, Permutes, greedy, greedy_orders
    from stockpot.recipes._groups import Granularity, block_of, tensor_groups
    from stockpot.recipes._interpolate import ALPHAS, End, interpolate
    from stockpot.recipes._learned import LearningOptions, OnPoint, Parametrisation, learned
    from stockpot.recipes._model_stock import model_stock
    from stockpot.recipes._parts import Combine, OnStep, add_share, single, used_ingredients
    from stockpot.recipes._pruned import pruned
    from stockpot.recipes._table import NEEDS_INITIALISATION, RECIPES, OpenGradient, Recipe, Supplies
    from stockpot.recipes._top_k import top_k
    from stockpot.recipes._uniform import ensemble, uniform

__all__ = [
    "ALPHAS",
    "NEEDS_INITIALISATION",
    "RECIPES",
    "Combine",
    "End",
    "Forecast",
    "Granularity",
    "LearningOptions",
    "OnPoint",
    "OnStep",
    "OpenGradient",
    "Order",
    "Parametrisation",
    "Permutes",
    "Recipe",
    "Supplies",
    "add_share",
    "best",
    "block_of",
    "ensemble",
    "fold_logit_scale",
    "greedy",
    "greedy_orders",
    "interpolate",
    "learned",
    "model_stock",
    "pruned",
    "single",
    "tensor_groups",
    "top_k",
    "uniform",
    "used_ingredients",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "best": "_best",
            "fold_logit_scale": "_fold",
            **dict.fromkeys(
                [
                    "Forecast",
                    "Order",
                    "Permutes",
                    "greedy",
                    "greedy_orders",
                ],
                "_greedy",
            ),
            **dict.fromkeys(
                [
                    "Granularity",
                    "block_of",
                    "tensor_groups",
                ],
                "_groups",
            ),
            **dict.fromkeys(
                [
                    "ALPHAS",
                    "End",
                    "interpolate",
                ],
                "_interpolate",
            ),
            **dict.fromkeys(
                [
                    "LearningOptions",
                    "OnPoint",
                    "Parametrisation",
                    "learned",
                ],
                "_learned",
            ),
            "model_stock": "_model_stock",
            **dict.fromkeys(
                [
                    "Combine",
                    "OnStep",
                    "add_share",
                    "single",
                    "used_ingredients",
                ],
                "_parts",
            ),
            "pruned": "_pruned",
            **dict.fromkeys(
                [
                    "NEEDS_INITIALISATION",
                    "RECIPES",
                    "OpenGradient",
                    "Recipe",
                    "Supplies",
                ],
                "_table",
            ),
            "top_k": "_top_k",
            **dict.fromkeys(
                [
                    "ensemble",
                    "uniform",
                ],
                "_uniform",
            ),
        },
    )
