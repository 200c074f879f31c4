"""The line between two models (WiSE-FT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.style import COLOURS, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["line"]


def line(alphas: Sequence[float], scores: Mapping[str, Sequence[float]], metric: str) -> Figure:
    """Scores along (1 - alpha) * first + alpha * second, one curve per split.

    Args:
        alphas: share of the second model, 0 to 1.
        scores: split -> one score per alpha.
        metric: its name.

    Source:
        Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), 2022.
    """
    figure = new_figure(2.8)
    axes = figure.subplots()
    for index, (split, values) in enumerate(scores.items()):
        look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": "osD^vPX"[index % 7]}
        axes.plot(alphas, values, label=short(split.replace("_", "-").removeprefix("shift:")), **look)
    axes.set_xlabel("alpha (0: initialisation, 1: fine-tuned)")
    axes.set_ylabel(short(metric))
    legend_below(figure, 3)
    return figure
