"""Test against the mean of the shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.reports.figures.points import Mark, draw_marks
from stockpot.reports.style import new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure1", "legend_below"]


def figure1(marks: Sequence[Mark], metric: str) -> Figure:
    """Every model's test score against its mean over the shifts, with bars of one standard error.

    Source:
        Wortsman et al., "Model soups", 2022, Figure 1.
    """
    figure = new_figure(3.6)
    axes = figure.subplots()
    draw_marks(axes, marks, "test", "shift_mean")
    axes.locator_params(nbins=5)
    axes.set_xlabel(f"test ({short(metric)})")
    axes.set_ylabel(f"mean of shifts ({short(metric)})")
    legend_below(figure)
    return figure


def legend_below(figure: Figure, columns: int = 2) -> None:
    """Each label once, under the axes, where it covers no data."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {label: h for handles, labels in found for h, label in zip(handles, labels, strict=True)}
    if by_label:
        figure.legend(list(by_label.values()), list(by_label), loc="outside lower center", ncols=columns)
