"""How well one split ranks the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stockpot.reports.style import COLOURS, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ranks"]


def ranks(spearman: Mapping[str, float | None]) -> Figure:
    """Spearman's rank correlation of every two splits, as bars; undefined ones are left out."""
    found = {pair: value for pair, value in spearman.items() if value is not None}
    names = [" ~ ".join(short(_words(split), 16) for split in pair.split("~", 1)) for pair in found]
    figure = new_figure(max(1.3, min(0.2 * len(found) + 0.7, 9)))
    axes = figure.subplots()
    axes.barh(range(len(found)), list(found.values()), color=COLOURS[0], height=0.7)
    axes.set_yticks(range(len(found)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="0.5", linewidth=0.7)
    axes.set_xlim(min(0.0, *found.values(), 0.0), 1)
    axes.set_xlabel("Spearman's rank correlation")
    return figure


def _words(split: str) -> str:
    return split.removeprefix("shift:").replace("shift_mean", "mean of shifts").replace("held_out", "held-out")
