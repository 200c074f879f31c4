"""The plane through three models: contours of loss and error, with the models named."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot.records import Plane
from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.figures.points import SHAPES
from stockpot.reports.style import COLOURS, COLUMN_INCHES, new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["landscape"]

_N_LEVELS = 12
#: Above this share of the losses a contour would only show how bad the corners are.
_SHOWN_SHARE = 0.9


def landscape(plane: Plane) -> Figure:
    """Loss (above) and score (below), one column per split.

    Levels of the loss grow away from the minimum, so that the valley shows however high the corners are.

    Source:
        Wortsman et al., "Model soups", 2022, figure 2.
    """
    splits = list(plane.points[0].measured)
    figure = new_figure(2.1 * 2 + 0.5, 0.85 * COLUMN_INCHES * max(1.2, len(splits)))
    rows: Any = figure.subplots(2, len(splits), squeeze=False, sharex=True, sharey=True)
    for column, split in enumerate(splits):
        _contours(rows[0][column], plane, split, "loss")
        _contours(rows[1][column], plane, split, "score")
        rows[0][column].set_title(f"loss, {_title(split)}")
        rows[1][column].set_title(f"{short(plane.metric)}, {_title(split)}")
        rows[1][column].set_xlabel("distance in weights")
    rows[0][0].set_ylabel("distance in weights")
    rows[1][0].set_ylabel("distance in weights")
    legend_below(figure, 3)
    return figure


def _contours(axes: Axes, plane: Plane, split: str, what: str) -> None:
    xs, ys = (sorted({getattr(point, axis) for point in plane.points}) for axis in "xy")
    values = np.full((len(ys), len(xs)), np.nan)
    for point in plane.points:
        values[ys.index(point.y), xs.index(point.x)] = getattr(point.measured[split], what)
    colours = axes.contourf(xs, ys, values, levels=_levels(values, what), cmap="cividis", extend="both")
    axes.contour(xs, ys, values, levels=colours.levels, colors="white", linewidths=0.25, alpha=0.6)
    bar = axes.figure.colorbar(colours, ax=axes, shrink=0.9, pad=0.02, format=f"%.{_digits(values)}f")
    bar.ax.tick_params(labelsize=6)
    for index, point in enumerate(plane.named):
        axes.plot(
            [point.x], [point.y], linestyle="none", marker=SHAPES[index % len(SHAPES)], markeredgecolor="white",
            markeredgewidth=0.6, markersize=6, color=COLOURS[index % len(COLOURS)], label=short(_named(point.name), 26),
            clip_on=False,
        )  # fmt: skip
    axes.set_aspect("equal", adjustable="box")


def _levels(values: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """Rising levels; those of a loss are the denser the nearer to its minimum."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low == high:
        return np.array([low, low + 1e-9])
    if what == "score":
        return np.linspace(low, high, _N_LEVELS)
    top = float(np.nanquantile(values, _SHOWN_SHARE))
    top = top if top > low else high
    return low + (top - low) * np.linspace(0, 1, _N_LEVELS) ** 2


def _title(split: str) -> str:
    return short(split.replace("_", "-").removeprefix("shift:"), 14)


def _digits(values: np.ndarray[Any, Any]) -> int:
    """Decimals that tell eight steps of the range apart."""
    extent = float(np.nanmax(values) - np.nanmin(values))
    return 3 if extent <= 0 else min(6, max(1, 1 - math.floor(math.log10(extent / 8))))


def _named(name: str | None) -> str:
    return "uniform soup (projected)" if name == "uniform soup" else name or ""
