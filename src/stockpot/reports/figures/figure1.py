"""Test against the mean of the shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.reports.figures.points import Mark, draw_marks, in_view, notes_of_marks
from stockpot.reports.style import new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure1", "legend_below", "shared_ylabel"]


def figure1(marks: Sequence[Mark], metric: str) -> Figure:
    """Every model's test score against its mean over the shifts, with bars of one standard error.

    An initialisation that is far off is named with its scores instead.

    Source:
        Wortsman et al., "Model soups", 2022, Figure 1.
    """
    figure = new_figure(3.6)
    axes = figure.subplots()
    draw_marks(axes, in_view(marks, "test", "shift_mean"), "test", "shift_mean")
    axes.locator_params(nbins=5)
    axes.set_xlabel(f"test ({short(metric)})")
    axes.set_ylabel(f"mean of shifts ({short(metric)})")
    legend_below(figure, notes=notes_of_marks(marks, "test", "shift_mean"))
    return figure


def legend_below(figure: Figure, columns: int = 2, *, notes: Sequence[str] = ()) -> None:
    """The notes, a line each, and each label once, under the axes, where they cover no data."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {label: h for handles, labels in found for h, label in zip(handles, labels, strict=True)}
    if by_label:
        figure.legend(
            list(by_label.values()), list(by_label), loc="outside lower center", ncols=columns,
            title="\n".join(notes) or None, title_fontsize=7,
        )  # fmt: skip


def shared_ylabel(figure: Figure, text: str) -> None:
    """One label for all panels, beside their middle and not the figure's, which has its legend below; call it last."""
    label = figure.supylabel(text, fontsize=8)
    figure.draw_without_rendering()  # only the layout knows where the panels are
    boxes = [axes.get_position() for axes in figure.axes]
    label.set_y((min(box.y0 for box in boxes) + max(box.y1 for box in boxes)) / 2)
