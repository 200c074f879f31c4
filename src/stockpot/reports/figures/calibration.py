"""How far confidence is from accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.records import Results, Row
from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.style import COLOURS, new_figure, short
from stockpot.reports.table import method_title, ordered_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration"]

_BARS = (("ece", "as it comes", -0.2, COLOURS[1]), ("ece_scaled", "at the held-out temperature", 0.2, COLOURS[0]))


def calibration(results: Results, split: str = "test") -> Figure:
    """Expected calibration error of every method before and after temperature scaling, with standard errors."""
    rows = [row for row in ordered_rows(results) if _has(row, split)]
    figure = new_figure(max(1.6, 0.28 * len(rows) + 1))
    axes = figure.subplots()
    for name, label, offset, colour in _BARS:
        found = [(i, row.metrics[name][split]) for i, row in enumerate(rows) if row.metrics and name in row.metrics]
        axes.barh(
            [i + offset for i, _ in found], [cell.value for _, cell in found], height=0.38, label=label, color=colour,
            xerr=[cell.stderr or 0.0 for _, cell in found], error_kw={"elinewidth": 0.6},
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [short(method_title(row), 32) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(f"expected calibration error, {short(split)}")
    legend_below(figure)
    return figure


def _has(row: Row, split: str) -> bool:
    return row.metrics is not None and split in row.metrics.get("ece", {})
