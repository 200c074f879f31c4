"""The line between two models (WiSE-FT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockpot.records import Line
from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.figures.points import SHAPES
from stockpot.reports.style import COLOURS, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["line"]


def line(found: Line) -> Figure:
    """Scores along (1 - alpha) * first + alpha * second, one curve per split, with the barrier of its loss.

    Args:
        found: alphas, ends, scores and barriers.

    Source:
        Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), 2022.
    """
    figure = new_figure(2.8)
    axes = figure.subplots()
    for index, (split, points) in enumerate(found.measured.items()):
        look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": SHAPES[index % len(SHAPES)]}
        name = short(split.replace("_", "-").removeprefix("shift:"), 14)
        barrier = f" ({found.barriers[split]:.3f})" if split in found.barriers else ""
        axes.plot(found.alphas, [point.score for point in points], label=name + barrier, **look)
    axes.set_xlabel(f"alpha (0: {short(found.ends[0], 18)}, 1: {short(found.ends[1], 18)})")
    axes.set_ylabel(short(found.metric))
    legend_below(figure, 2, notes=["in brackets: barrier of the loss"] if found.barriers else [])
    return figure
