"""What the sweep varied against what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockpot.reports.figures.figure1 import shared_ylabel
from stockpot.reports.style import COLOURS, new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["settings", "varied"]

_LARGE_RATIO = 10


def varied(settings_by_run: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of settings, seeds aside, that differ between runs, in the order of the first run that has them."""
    names = dict.fromkeys(name for chosen in settings_by_run.values() for name in chosen)
    return [
        name
        for name in names
        if name != "seed" and len({repr(chosen.get(name)) for chosen in settings_by_run.values()}) > 1
    ]


def settings(settings_by_run: Mapping[str, Mapping[str, Any]], scores: Mapping[str, float], metric: str) -> Figure:
    """A panel per setting that varied: its value against the held-out score of every run.

    The axis is logarithmic where the values are positive and the largest is ten times the smallest or more.
    """
    names = varied({run: chosen for run, chosen in settings_by_run.items() if run in scores})
    across = min(3, max(1, len(names)))
    down = max(1, math.ceil(len(names) / across))
    figure = new_figure(1.9 * down, max(3.3, 2.2 * across))
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        runs = [run for run in scores if name in settings_by_run.get(run, {})]
        _panel(axes, [settings_by_run[run][name] for run in runs], [scores[run] for run in runs])
        axes.set_xlabel(short(name))
    for axes in panels[len(names) :]:
        axes.remove()
    shared_ylabel(figure, f"held-out ({short(metric)})")
    return figure


def _panel(axes: Axes, values: Sequence[Any], heights: Sequence[float]) -> None:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        axes.plot(values, heights, "o", color=COLOURS[0], alpha=0.8)
        if min(values) > 0 and max(values) >= _LARGE_RATIO * min(values):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # powers of ten would need mathematics, which is off for names
            axes.xaxis.set_minor_formatter(lambda _value, _position: "")
        else:
            axes.locator_params(axis="x", nbins=4)
        return
    kinds = list(dict.fromkeys(short(value, 14) for value in values))
    axes.plot([kinds.index(short(value, 14)) for value in values], heights, "o", color=COLOURS[0], alpha=0.8)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_xlim(-0.5, len(kinds) - 0.5)
