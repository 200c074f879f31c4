"""Rank correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

__all__ = ["average_ranks", "spearman", "spearman_pairs"]

#: Two points always lie on a line, so their correlation says nothing.
_FEWEST = 3


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation: Pearson's correlation of the ranks, ties at their average rank.

    rho = cov(rank(a), rank(b)) / (sd(rank(a)) sd(rank(b)))

    Args:
        a, b: finite numbers [n], pair by pair.

    Returns:
        -1 to 1; None when fewer than 3 pairs are given or all values of one side are equal, for then it is undefined.

    Raises:
        ValueError: lengths that differ, or NaN.

    Source:
        Spearman, "The proof and measurement of association between two things", 1904.

    Example:
        >>> spearman([0.7, 0.8, 0.9], [10, 30, 20]), spearman([0.7, 0.8, 0.9], [5, 5, 5])
        (0.5, None)
    """
    return _correlation(average_ranks(a), average_ranks(b))


def spearman_pairs(columns: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """`spearman` of every two columns, each of which is ranked once.

    Args:
        columns: name -> finite numbers [n].

    Returns:
        "FIRST~SECOND" -> correlation, in the order of the columns.

    Raises:
        ValueError: lengths that differ, or NaN.

    Example:
        >>> spearman_pairs({"held_out": [1, 2, 3], "test": [2, 4, 6]})
        {'held_out~test': 1.0}
    """
    ranks = {name: average_ranks(values) for name, values in columns.items()}
    return {f"{a}~{b}": _correlation(ranks[a], ranks[b]) for a, b in combinations(ranks, 2)}


def average_ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Places from 1 in ascending order; equal values share the mean of their places.

    Args:
        values: numbers [n]; NaN has no place.

    Returns:
        Ranks [n], whole or half numbers.

    Raises:
        ValueError: NaN, or more than one dimension.

    Example:
        >>> average_ranks([0.3, 0.1, 0.3]).tolist()
        [2.5, 1.0, 2.5]
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isnan(array).any():
        raise ValueError("ranks need numbers in one dimension, without NaN")
    _, group, sizes = np.unique(array, return_inverse=True, return_counts=True)
    last_places = np.cumsum(sizes)
    return np.asarray((last_places - (sizes - 1) / 2)[group], dtype=np.float64)


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float | None:
    """Of ranks. Doubled and centred they are whole numbers, so up to 200,000 of them every sum is exact."""
    if a.size != b.size:
        raise ValueError(f"{a.size} and {b.size} values make no pairs")
    if a.size < _FEWEST:
        return None
    a, b = 2 * a - (a.size + 1), 2 * b - (b.size + 1)
    spread = float(a @ a) * float(b @ b)
    return max(-1.0, min(1.0, float(a @ b) / math.sqrt(spread))) if spread else None
