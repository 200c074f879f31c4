"""Every shift in a panel of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.reports.figures.figure1 import legend_below, shared_ylabel
from stockpot.reports.figures.points import Mark, draw_marks, in_view, notes_of_marks
from stockpot.reports.style import new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["shifts"]

_COLUMNS = 3


def shifts(marks: Sequence[Mark], metric: str) -> Figure:
    """Test score against the score on each shift, in small multiples that share the test axis."""
    splits = list(dict.fromkeys(split for mark in marks for split in mark.scores if split.startswith("shift:")))
    shown = in_view(marks, "test", *splits)
    across = 2 if len(splits) == 4 else min(_COLUMNS, max(1, len(splits)))
    down = max(1, math.ceil(len(splits) / across))
    figure = new_figure(2.0 * down + 0.9, max(3.3, 2.2 * across))
    panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
    for axes, split in zip(panels, splits, strict=False):
        draw_marks(axes, shown, "test", split)
        axes.set_title(short(split.removeprefix("shift:")))
        axes.set_xlabel(f"test ({short(metric)})")
        axes.tick_params(labelbottom=True)
        axes.locator_params(nbins=4)
    for axes in panels[len(splits) :]:
        axes.remove()
    legend_below(figure, across, notes=notes_of_marks(marks, "test", *splits))
    shared_ylabel(figure, f"shift ({short(metric)})")
    return figure
