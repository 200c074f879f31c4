"""Comparing two methods on the same examples: paired differences, McNemar's exact test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError
from stockpot.metrics.means import Difference, as_values, clustered_mean

__all__ = ["mcnemar_exact", "paired_difference"]


def paired_difference(
    a_by_split: Sequence[npt.ArrayLike],
    b_by_split: Sequence[npt.ArrayLike],
    item_ids_by_split: Sequence[npt.ArrayLike],
) -> Difference:
    """Mean of a - b on the same examples, for one split or as a mean over splits, clustered by item.

    The equation is that of `shift_mean` with ``x_si = a_si - b_si``: what both methods find easy or hard cancels.

    Args:
        a_by_split: per split one number per example of method a: [n_s], from `per_example`.
        b_by_split: the same of method b, on the same examples in the same order.
        item_ids_by_split: [n_s] integers or strings per split; the same item in two splits under the same id.

    Returns:
        The difference with its standard error.

    Raises:
        DataError: no splits, an empty one, or arrays that do not fit each other.
        EvaluationError: values that are not finite.

    Example:
        >>> greedy, best = [1, 1, 1, 0, 1], [1, 0, 1, 0, 1]
        >>> difference = paired_difference([greedy], [best], [[0, 1, 2, 3, 4]])
        >>> round(difference.value, 6), round(difference.stderr, 6), round(difference.p_value, 4)
        (0.2, 0.2, 0.3173)
    """
    a, b = [as_values(values) for values in a_by_split], [as_values(values) for values in b_by_split]
    if [len(values) for values in a] != [len(values) for values in b]:
        raise DataError(
            f"the two methods have {[len(v) for v in a]} and {[len(v) for v in b]} examples on the splits",
            fix="compare predictions of the same examples in the same order",
        )
    return clustered_mean([left - right for left, right in zip(a, b, strict=True)], item_ids_by_split)


def mcnemar_exact(a_correct: npt.ArrayLike, b_correct: npt.ArrayLike) -> float:
    """Two-sided exact p of "both methods are right equally often" on one split of distinct items.

    With m examples on which exactly one of the two is right, c of them the rarer one::

        p = min(1, 2 sum_{i <= c} C(m, i) / 2^m)

    (McNemar 1947, in its exact binomial form). Exactly 1.0 when they never disagree.

    Args:
        a_correct: [n] 0 or 1 (or booleans) of method a.
        b_correct: [n] of method b, on the same examples in the same order.

    Returns:
        p in 0 .. 1, computed in integers and rounded once.

    Raises:
        DataError: arrays that do not fit each other, or hold something other than 0 and 1.

    Example:
        >>> mcnemar_exact([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1])
        0.21875
    """
    a, b = np.asarray(a_correct), np.asarray(b_correct)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(
            f"the two methods have {list(a.shape)} and {list(b.shape)} answers",
            fix="compare predictions of the same examples in the same order",
        )
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise DataError(
            "McNemar's test needs right (1) or wrong (0) for each example", fix='use per_example("accuracy")'
        )
    only_a, only_b = int(np.count_nonzero(a > b)), int(np.count_nonzero(a < b))
    n_discordant = only_a + only_b
    doubled_tail = 2 * _binomial_tail(n_discordant, min(only_a, only_b))
    return min(1.0, doubled_tail / (1 << n_discordant))  # Python rounds the quotient of two integers correctly


def _binomial_tail(n: int, last: int) -> int:
    """``sum_{i <= last} C(n, i)`` without a single factorial."""
    term = total = 1
    for i in range(1, last + 1):
        term = term * (n - i + 1) // i
        total += term
    return total
