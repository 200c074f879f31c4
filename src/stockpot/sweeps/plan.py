"""The runs of a sweep before they have happened: drawn from the sweep's seed and their own number alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stockpot.config import SweepConfig
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
    """
    width = max(2, len(str(sweep.runs - 1)))
    return tuple(
        PlannedRun(f"run-{index:0{width}d}", draw(sweep.space, seed=sweep.seed, index=index))
        for index in range(sweep.runs)
    )
