"""The runs of a sweep before they have happened: drawn from the sweep's seed and their own number alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, repeat
from typing import Any

from stockpot.config import Fixed, SweepConfig
from stockpot.sweeps.space import draw

__all__ = ["PlannedRun", "loaders_of_run", "plan_runs", "warm_up_notes"]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run before it has happened; it depends on the sweep's seed and its own number alone."""

    name: str
    settings: dict[str, Any]


def plan_runs(sweep: SweepConfig) -> tuple[PlannedRun, ...]:
    """Draws the settings of every run.

    Example:
        >>> from stockpot.config import SweepConfig
        >>> [run.name for run in plan_runs(SweepConfig(runs=2))]
        ['run-00', 'run-01']
        >>> runs = plan_runs(SweepConfig(grid={"epochs": [1, 2], "learning_rate": [1e-5, 1e-4]}))
        >>> [(run.settings["epochs"], run.settings["learning_rate"]) for run in runs]
        [(1, 1e-05), (1, 0.0001), (2, 1e-05), (2, 0.0001)]
    """
    width = max(2, len(str(sweep.runs - 1)))
    points = product(*(choice.options for choice in sweep.grid.values())) if sweep.grid else repeat((), sweep.runs)
    return tuple(
        PlannedRun(
            f"run-{index:0{width}d}",
            draw(
                {**sweep.space, **dict(zip(sweep.grid, map(Fixed, point), strict=True))}, seed=sweep.seed, index=index
            ),
        )
        for index, point in enumerate(points)
    )


def warm_up_notes(runs: Sequence[Mapping[str, Any]], n_train: int) -> Iterator[str]:
    """One sentence where runs end before their warm-up does, and so never reach their learning rate.

    Args:
        runs: their settings.
        n_train: examples of the training split.

    Example:
        >>> list(warm_up_notes([{"epochs": 2, "batch_size": 10, "warmup_steps": 50}], 100))
        ['Warm-up is no shorter than 1 of 1 runs (50 steps of 20): they never reach their learning rate.']
    """
    late = [
        (warm_up, steps)
        for run in runs
        if (warm_up := run.get("warmup_steps", 0)) >= (steps := math.ceil(n_train / run["batch_size"]) * run["epochs"])
    ]
    if late:
        warm_up, steps = min(late, key=lambda pair: pair[1])
        yield (
            f"Warm-up is no shorter than {len(late)} of {len(runs)} runs ({warm_up} steps of {steps}): "
            "they never reach their learning rate."
        )


def loaders_of_run(n_cores: int, *, n_workers: int, n_gpus: int) -> int:
    """Processes that decode images ahead of each run: a GPU would wait for one, while cores have runs of their own.

    Example:
        >>> loaders_of_run(32, n_workers=4, n_gpus=4), loaders_of_run(32, n_workers=32, n_gpus=0)
        (7, 0)
    """
    return min(16, max(1, n_cores // n_workers - 1)) if n_gpus else 0
