"""Confidence against accuracy, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stockpot.records import Reliability
from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.figures.points import SHAPES
from stockpot.reports.style import COLOURS, COLUMN_INCHES, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reliability"]


def reliability(curves: Sequence[Reliability]) -> Figure:
    """Left as the logits come, right after scaling; the nearer to the diagonal, the better calibrated.

    Source:
        Guo et al., "On calibration of modern neural networks", 2017.
    """
    figure = new_figure(2.6, 1.6 * COLUMN_INCHES)
    panels: Any = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, is_scaled, title in zip(panels, (False, True), ("as they come", "after scaling"), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.7, zorder=0)
        shown = [curve for curve in curves if (curve.temperature != 1.0) == is_scaled]
        for index, curve in enumerate(shown):
            axes.plot(
                curve.confidences, curve.accuracies, color=COLOURS[index % len(COLOURS)],
                marker=SHAPES[index % len(SHAPES)], label=short(curve.method.replace("_", " ")),
            )  # fmt: skip
            axes.text(
                0.04, 0.94 - 0.075 * index, f"ECE {100 * curve.ece:.1f} %", transform=axes.transAxes, fontsize=6.5,
                color=COLOURS[index % len(COLOURS)],
            )  # fmt: skip
        axes.set_title(title)
        axes.set_xlabel("confidence")
    panels[0].set_ylabel("accuracy")
    legend_below(figure, 3)
    return figure
