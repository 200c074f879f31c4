"""How much of each ingredient is in a soup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.reports.style import COLOURS, new_figure, short
from stockpot.types import Soup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coefficients"]

_MOST_ROWS = 30


def coefficients(soup: Soup) -> Figure:
    """Bars, one per ingredient; a heat map, one row per group of tensors, where the soup was learned by layer."""
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
    rows, groups = soup.coefficients.rows, soup.coefficients.groups or ()
    figure = new_figure(max(2.0, min(0.16 * len(rows) + 1, 8)), 4.6)
    axes = figure.subplots()
    image = axes.imshow(rows, aspect="auto", cmap="viridis", interpolation="nearest")
    names = [short(ingredient.name, 18) for ingredient in soup.ingredients]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    every = -(-len(rows) // _MOST_ROWS)
    shown = range(0, len(rows), every)
    axes.set_yticks(shown, [short(groups[i][0] if groups[i] else i, 34) for i in shown])
    figure.colorbar(image, label="coefficient")
    return figure
