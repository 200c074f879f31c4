"""The numbers of models that methods are compared at."""

from __future__ import annotations

import numpy as np

__all__ = ["model_counts"]


def model_counts(k: int, most: int = 12) -> tuple[int, ...]:
    """1 to k, at most `most` of them, evenly.

    Args:
        k: number of ingredients, >= 1.
        most: numbers, >= 2.

    Example:
        >>> model_counts(4), model_counts(72, most=5)
        ((1, 2, 3, 4), (1, 19, 36, 54, 72))
    """
    return tuple(sorted({round(value) for value in np.linspace(1, k, min(k, most))}))
