"""How much of each ingredient is in a soup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.reports.layers import bands
from stockpot.reports.style import COLOURS, COLUMN_INCHES, new_figure, short
from stockpot.types import Soup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coefficients"]

_MOST_LABELS = 48
_MOST_INCHES = 9.0


def coefficients(soup: Soup) -> Figure:
    """Bars, one per ingredient; a heat map, one row per group of tensors, where the soup was learned by layer.

    Layers are as high as each other, however many tensors each has; their labels keep its number.
    """
    return _bars(soup) if len(soup.coefficients.rows) == 1 else _heat_map(soup)


def _bars(soup: Soup) -> Figure:
    names = [short(ingredient.name) for ingredient in soup.ingredients]
    figure = new_figure(max(1.2, min(0.2 * len(names) + 0.7, 9)))
    axes = figure.subplots()
    axes.barh(range(len(names)), soup.coefficients.rows[0], color=COLOURS[0], height=0.7)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(1 / len(names), color="0.5", linestyle="--", linewidth=0.8)
    axes.set_xlabel("coefficient (dashed: equal shares)")
    return figure


def _heat_map(soup: Soup) -> Figure:
    """Layers of equal height, each divided among its rows."""
    shown = bands(soup.coefficients.groups or ())
    height = min(max(0.17 * len(shown), 2.4) + 1.0, _MOST_INCHES)
    figure = new_figure(height, max(COLUMN_INCHES, min(0.14 * len(soup.ingredients) + 1.9, _MOST_INCHES)))
    axes = figure.subplots()
    edges = [top + i / len(band.rows) for top, band in enumerate(shown) for i in range(len(band.rows))]
    rows = [soup.coefficients.rows[row] for band in shown for row in band.rows]
    columns = [i - 0.5 for i in range(len(soup.ingredients) + 1)]
    image = axes.pcolormesh(columns, [*edges, len(shown)], rows, cmap="viridis", rasterized=True)
    names = [short(ingredient.name, 18) for ingredient in soup.ingredients]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    every = -(-len(shown) // _MOST_LABELS)
    labels = {top + 0.5: short(shown[top].label, 40) for top in range(0, len(shown), every)}
    axes.set_yticks(list(labels), list(labels.values()))
    axes.invert_yaxis()
    if len(rows) > len(shown):
        axes.set_ylabel("tensors, by layer")
        for top in range(1, len(shown)):
            axes.axhline(top, color="white", linewidth=0.6)
    figure.colorbar(image, label="coefficient")
    return figure
