"""The segment between two models, and the barrier on it."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.errors import DataError

__all__ = ["barrier"]


def barrier(alphas: Sequence[float], losses: Sequence[float]) -> float:
    """How far the loss rises above the straight line between its ends.

    ``max over alpha of L(alpha) - ((1 - alpha) L(0) + alpha L(1))``; 0 where it nowhere does, as at the ends.

    Args:
        alphas: rising, from 0 to 1.
        losses: one per alpha.

    Raises:
        DataError: other lengths, or a line without its ends.

    Source: Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis".

    Example:
        >>> barrier([0.0, 0.5, 1.0], [1.0, 2.0, 2.0])
        0.5
    """
    if len(alphas) != len(losses) or len(alphas) < 2 or (alphas[0], alphas[-1]) != (0, 1):
        raise DataError("a barrier needs losses from alpha 0 to alpha 1", fix="give one loss for each alpha")
    first, last = losses[0], losses[-1]
    return max(loss - ((1 - alpha) * first + alpha * last) for alpha, loss in zip(alphas, losses, strict=True))
