"""How a metric's numbers are written: accuracy in percent, everything else with as many digits as it is known to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from stockpot.records import Cell, Results

__all__ = ["Scale", "count", "scale_for", "scale_of"]

_LEAST_DECIMALS, _MOST_DECIMALS = 0, 6


@dataclass(frozen=True, slots=True)
class Scale:
    """Factor and decimals that all numbers of one table share.

    Args:
        factor: what values are multiplied by before they are shown.
        decimals: digits after the point.
        unit: of a difference: "points", or the metric's name.
    """

    factor: float
    decimals: int
    unit: str

    def rounded(self, value: float) -> float:
        """The number as shown; two values that look alike are alike."""
        return round(value * self.factor, self.decimals) + 0.0  # -0.0 + 0.0 is 0.0

    def number(self, value: float) -> str:
        """A value, as text.

        Example:
            >>> Scale(100, 1, "points").number(0.743)
            '74.3'
        """
        return f"{self.rounded(value):.{self.decimals}f}"

    def signed(self, difference: float) -> str:
        """A difference, as text that always has a sign.

        Example:
            >>> Scale(100, 1, "points").signed(0.0061), Scale(100, 1, "points").signed(-0.00001)
            ('+0.6', '+0.0')
        """
        return f"{self.rounded(difference):+.{self.decimals}f}"


def scale_of(results: Results) -> Scale:
    """The scale of all cells of a table."""
    return scale_for(results.metric, (cell for row in results.rows for cell in row.scores.values()))


def scale_for(metric: str, cells: Iterable[Cell]) -> Scale:
    """Accuracies in percent with one decimal; other metrics so that the smallest standard error shows two digits.

    Args:
        metric: its name; every `*accuracy` counts as accuracy.
        cells: all that will be shown.

    Example:
        >>> scale_for("nll", [Cell(0.8123, 0.012, 1000)])
        Scale(factor=1.0, decimals=3, unit='nll')
    """
    cells = list(cells)
    largest = max((abs(cell.value) for cell in cells), default=0.0)
    if metric.endswith("accuracy"):
        return Scale(100.0 if largest <= 1.0 else 1.0, 1, "points")  # a user's own may be in percent already
    errors = [cell.stderr for cell in cells if cell.stderr]
    step = min(errors) if errors else (largest or 1.0) / 100.0  # no errors: four significant digits of the largest
    decimals = 1 - math.floor(math.log10(step))
    return Scale(1.0, min(max(decimals, _LEAST_DECIMALS), _MOST_DECIMALS), metric)


def count(number: float) -> str:
    """A number of things, or a mean of such numbers with one decimal.

    Example:
        >>> count(128), count(13 / 3), count(4.0)
        ('128', '4.3', '4')
    """
    return f"{number:.1f}".removesuffix(".0")
