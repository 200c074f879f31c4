"""What an experiment looks at beside its table: the paper's pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator

from stockpot.config._problems import Settings, several, shown

__all__ = ["ANALYSIS_PARTS", "AnalysisConfig"]

AnalysisPart = Literal["geometry", "plane", "line", "pairs", "count", "soup_vs_ensemble", "reliability"]
#: What can be asked for; all but geometry need a task.
ANALYSIS_PARTS: tuple[AnalysisPart, ...] = (
    "geometry", "plane", "line", "pairs", "count", "soup_vs_ensemble", "reliability",
)  # fmt: skip


class AnalysisConfig(Settings):
    """Which parts `run` looks at once the table is made, and how closely; as `stockpot analyse` takes them.

    Args:
        parts: of `ANALYSIS_PARTS`, each once; empty, as by default: all that the task allows.
        grid: points a side of the plane through the initialisation and the two best runs, >= 3.
        line_points: of the segment from the initialisation to the uniform soup, >= 3.
        pairs: most pairs of runs that are looked at, >= 1; of more, so many are drawn.
        orders: random orders behind the number of models, >= 1.
        splits: where the plane is measured; empty: held-out and test.
        seed: of drawn pairs and orders, [0, 2**32).

    Example:
        >>> AnalysisConfig(parts=["plane", "line"], grid=21).grid
        21
    """

    parts: Annotated[tuple[AnalysisPart, ...], Strict(False)] = ()
    grid: int = Field(default=9, ge=3)
    line_points: int = Field(default=11, ge=3)
    pairs: int = Field(default=15, ge=1)
    orders: int = Field(default=3, ge=1)
    splits: Annotated[tuple[str, ...], Strict(False)] = ()
    seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator("parts", "splits")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise several([((), f"got {shown(list(names))}; allowed: each once")])
        return names
