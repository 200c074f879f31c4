"""Angles between fine-tunes as a heat map, and how far each has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stockpot.records import Geometry
from stockpot.reports.style import COLOURS, COLUMN_INCHES, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["geometry"]

_MOST_NAMED = 24


def geometry(found: Geometry) -> Figure:
    """Left: angles between the directions from the initialisation, in degrees; right: their lengths."""
    k = len(found.names)
    figure = new_figure(max(2.2, min(5.0, 0.16 * k + 1.2)), 2 * COLUMN_INCHES)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.4, 1])
    angles = np.degrees(np.arccos(np.clip(found.cosines, -1, 1)))
    np.fill_diagonal(angles, np.nan)
    image = left.imshow(angles, cmap="cividis", aspect="auto")
    figure.colorbar(image, ax=left, label="angle, degrees", shrink=0.9)
    names = [short(name, 16) for name in found.names]
    if k <= _MOST_NAMED:
        left.set_xticks(range(k), names, rotation=90, fontsize=6)
        left.set_yticks(range(k), names, fontsize=6)
    right.barh(range(k), found.norms, color=COLOURS[0], height=0.7)
    right.set_xlabel("distance from " + ("the mean" if found.is_centred else "the initialisation"))
    return figure
