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

__all__ = ["numbers_at", "settings", "varied"]

_LARGE_RATIO = 10


def varied(settings_by_run: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of settings, seeds aside, that differ between runs, in the order of the first run that has them."""
    names = dict.fromkeys(name for chosen in settings_by_run.values() for name in chosen)
    return [
        name
        for name in names
        if name != "seed" and len({repr(chosen[name]) for chosen in settings_by_run.values() if name in chosen}) > 1
    ]


def numbers_at(values: Sequence[Any]) -> list[int] | None:
    """Where a setting's numbers are, if it is one of numbers: a missing value (None) among them makes it no text.

    Returns:
        Positions; None where there is a text, or only one number beside what is missing.

    Example:
        >>> numbers_at([0.1, None, 0.2]), numbers_at(["adam", "sgd"]), numbers_at([None, 0.1])
        ([0, 2], None, None)
    """
    found = [at for at, value in enumerate(values) if isinstance(value, int | float) and not isinstance(value, bool)]
    if any(values[at] is not None for at in range(len(values)) if at not in found):
        return None
    is_enough = len(found) == len(values) or len({values[at] for at in found}) > 1
    return found if found and is_enough else None


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
        n_drawn = _panel(axes, [settings_by_run[run][name] for run in runs], [scores[run] for run in runs])
        without = f"\n({len(runs) - n_drawn} without)" if n_drawn < len(runs) else ""
        axes.set_xlabel(short(name) + without)
    for axes in panels[len(names) :]:
        axes.remove()
    shared_ylabel(figure, f"held-out ({short(metric)})")
    return figure


def _panel(axes: Axes, values: Sequence[Any], heights: Sequence[float]) -> int:
    """Draws what has a value; returns how many that are."""
    numbers = numbers_at(values)
    if numbers is not None:
        values, heights = [values[at] for at in numbers], [heights[at] for at in numbers]
        axes.plot(values, heights, "o", color=COLOURS[0], alpha=0.8)
        if min(values) > 0 and max(values) >= _LARGE_RATIO * min(values):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # powers of ten would need mathematics, which is off for names
            axes.xaxis.set_minor_formatter(lambda _value, _position: "")
        else:
            axes.locator_params(axis="x", nbins=4)
        return len(values)
    kinds = list(dict.fromkeys(short(value, 14) for value in values))
    axes.plot([kinds.index(short(value, 14)) for value in values], heights, "o", color=COLOURS[0], alpha=0.8)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_xlim(-0.5, len(kinds) - 0.5)
    return len(values)
