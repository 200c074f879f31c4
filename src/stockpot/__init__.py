"""stockpot: one better model from many fine-tuned ones.

Model soups (Wortsman et al. 2022): average the weights of fine-tunes of one pre-trained network. Names are imported
when they are first used, so that `import stockpot` costs next to nothing.

Example:
    >>> from stockpot import Ingredient, greedy
    >>> runs = [Ingredient("a", "runs/a"), Ingredient("b", "runs/b"), Ingredient("c", "runs/c")]
    >>> held_out = {"a": 0.80, "b": 0.81, "ba": 0.83, "c": 0.60, "bac": 0.82}
    >>> soup = greedy(runs, lambda soup: held_out["".join(i.name for i in soup.ingredients)])
    >>> [ingredient.name for ingredient in soup.ingredients], list(soup.coefficients)
    (['b', 'a'], [0.5, 0.5])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stockpot._version import __version__

if TYPE_CHECKING:
    from stockpot.assembly import materialize, write
    from stockpot.checkpoints import ingredients, open_checkpoint
    from stockpot.errors import (
        BlendError,
        CheckpointError,
        ConfigError,
        DataError,
        EvaluationError,
        IncompatibleError,
        MissingExtraError,
        OutputError,
        RecordError,
        RunError,
        StockpotError,
    )
    from stockpot.experiment import run
    from stockpot.kernel import blend
    from stockpot.recipes import best, greedy, learned, uniform
    from stockpot.records import read_soup
    from stockpot.tasks import load_task
    from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

__all__ = [
    "BlendError",
    "CheckpointError",
    "Coefficients",
    "ConfigError",
    "DataError",
    "EvaluationError",
    "IncompatibleError",
    "Ingredient",
    "MissingExtraError",
    "OutputError",
    "RecordError",
    "RunError",
    "Score",
    "Soup",
    "Step",
    "StockpotError",
    "__version__",
    "best",
    "blend",
    "greedy",
    "ingredients",
    "learned",
    "load_task",
    "materialize",
    "open_checkpoint",
    "read_soup",
    "run",
    "uniform",
    "write",
]

_ROOM_BY_NAME = {
    **dict.fromkeys(["materialize", "write"], "assembly"),
    **dict.fromkeys(["ingredients", "open_checkpoint"], "checkpoints"),
    **dict.fromkeys([name for name in __all__ if name.endswith("Error")], "errors"),
    **dict.fromkeys(["best", "greedy", "learned", "uniform"], "recipes"),
    **dict.fromkeys(["Coefficients", "Ingredient", "Score", "Soup", "Step"], "types"),
    "blend": "kernel",
    "load_task": "tasks",
    "read_soup": "records",
    "run": "experiment",
}


def __getattr__(name: str) -> Any:
    """Imports the room a public name lives in."""
    room = _ROOM_BY_NAME.get(name)
    if room is None:
        raise AttributeError(f"module 'stockpot' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stockpot.{room}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
