"""The runs of a sweep before they have happened: drawn from the sweep's seed and their own number alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product, repeat
from typing import Any

from stockpot.config import Fixed, SweepConfig
from stockpot.sweeps.space import draw

__all__ = ["PlannedRun", "plan_runs"]


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
