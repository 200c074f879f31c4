"""Methods against the number of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stockpot.records import CountCurve
from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.figures.points import SHAPES
from stockpot.reports.style import COLOURS, COLUMN_INCHES, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["count"]

_MOST_PANELS = 3


def count(curves: Sequence[CountCurve], metric: str) -> Figure:
    """Score of best single model, uniform soup, greedy soup and ensemble; the band is one standard deviation.

    Source:
        Wortsman et al., "Model soups", 2022, figure on the number of models.
    """
    splits = list(curves[0].means)
    figure = new_figure(2.4 * ((len(splits) - 1) // _MOST_PANELS + 1), COLUMN_INCHES * min(len(splits), _MOST_PANELS))
    n_columns = min(len(splits), _MOST_PANELS)
    grid: Any = figure.subplots((len(splits) - 1) // n_columns + 1, n_columns, squeeze=False, sharex=True)
    panels = list(grid.flat)
    for axes, split in zip(panels, splits, strict=False):
        for index, curve in enumerate(curves):
            colour, means, sds = COLOURS[index % len(COLOURS)], curve.means[split], curve.sds[split]
            axes.plot(curve.counts, means, color=colour, marker=SHAPES[index % len(SHAPES)], label=curve.method)
            low, high = ([m + sign * s for m, s in zip(means, sds, strict=True)] for sign in (-1, 1))
            axes.fill_between(curve.counts, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_title(short(split.replace("_", "-").removeprefix("shift:"), 20))
        axes.set_xlabel("number of models")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in panels[len(splits) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(short(metric))
    legend_below(figure, 4)
    return figure
