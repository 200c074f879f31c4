"""The plane through three models: coordinates for the eye, coefficients for the kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stockpot.errors import DataError

__all__ = ["PlaneBasis", "coarse_to_fine", "grid_of", "plane_basis"]

Array = np.ndarray[Any, Any]
#: The sine of the angle below which two directions span no plane that rounding would not turn.
_FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class PlaneBasis:
    """Orthonormal coordinates of the plane through theta_0 (the origin), theta_1 and theta_2.

    With d_i = theta_i - theta_0, by Gram and Schmidt::

        e_1 = d_1 / a,   e_2 = (d_2 - p e_1) / b
        a = |d_1|,  p = <d_2, e_1>,  b = |d_2 - p e_1|

    Args:
        a, p, b: as above; theta_1 lies at (a, 0), theta_2 at (p, b).
    """

    a: float
    p: float
    b: float

    def coefficients(self, x: float, y: float) -> tuple[float, float, float]:
        """What theta_0, theta_1, theta_2 count for at (x, y); they sum to 1.

        Example:
            >>> PlaneBasis(2.0, 1.0, 3.0).coefficients(2.0, 0.0), PlaneBasis(2.0, 1.0, 3.0).coefficients(1.0, 3.0)
            ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        """
        second = y / self.b
        first = (x - second * self.p) / self.a
        return 1.0 - first - second, first, second

    def position(self, with_first: float, with_second: float) -> tuple[float, float]:
        """The projection of a direction d onto the plane, from ``<d, d_1>`` and ``<d, d_2>``.

        Example:
            >>> PlaneBasis(2.0, 1.0, 3.0).position(4.0, 2.0)  # theta_1 itself
            (2.0, 0.0)
        """
        x = with_first / self.a
        return x, (with_second - self.p * x) / self.b


def plane_basis(gram: Array) -> PlaneBasis:
    """The basis from the inner products of the two directions.

    Args:
        gram: [2, 2], ``<d_i, d_j>``.

    Raises:
        DataError: the three models lie on one line.

    Source: Wortsman et al. 2022, figure 2 (after Garipov et al. 2018).

    Example:
        >>> plane_basis(np.array([[4.0, 2.0], [2.0, 10.0]]))
        PlaneBasis(a=2.0, p=1.0, b=3.0)
    """
    a = math.sqrt(gram[0, 0])
    p = float(gram[0, 1]) / a if a > 0 else 0.0
    rest = float(gram[1, 1]) - p * p
    if a == 0 or rest <= (_FLAT**2) * float(gram[1, 1]):
        raise DataError("the three models lie on one line, so no plane goes through them", fix="choose another pair")
    return PlaneBasis(a, p, math.sqrt(rest))


def grid_of(basis: PlaneBasis, n: int, *, margin: float = 0.3) -> tuple[Array, Array]:
    """Coordinates of a grid that holds the three models with room around them.

    Args:
        basis: of the plane.
        n: points a side, >= 2.
        margin: room on each side, as a share of the span.

    Returns:
        x [n] and y [n], rising.
    """
    if n < 2:
        raise DataError(f"a grid of {n} points a side shows nothing", fix="give at least 2")
    return tuple(  # type: ignore[return-value]
        np.linspace(low - margin * (high - low), high + margin * (high - low), n)
        for low, high in ((min(0.0, basis.p), max(basis.a, basis.p)), (0.0, basis.b))
    )


def coarse_to_fine(n: int) -> Iterator[tuple[int, int]]:
    """Every (column, row) of an n by n grid, so that a first picture stands early: corners, then halves, then the rest.

    Example:
        >>> list(coarse_to_fine(3))[:5]
        [(0, 0), (2, 0), (0, 2), (2, 2), (1, 0)]
    """
    seen: set[tuple[int, int]] = set()
    step = 1 << max(n - 2, 0).bit_length()
    while step:
        along = _every(n, step)
        for row in along:
            for column in along:
                if (column, row) not in seen:
                    seen.add((column, row))
                    yield column, row
        step //= 2


def _every(n: int, step: int) -> Sequence[int]:
    return sorted({*range(0, n, step), n - 1})
