"""Giving up on a candidate as soon as it provably cannot be accepted: the hard examples first, whole numbers, no guess.

With n examples of which a candidate must get r right, it is lost once n - r + 1 of those evaluated are wrong. An order
that brings the wrong ones first finds that out after about the error rate's share of the examples; any order finds the
same answer. The order comes from logits that are cached already: those of the incumbent and of the candidate's newest
ingredient, averaged as their weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Raced", "hard_first", "margins", "race"]

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Raced:
    """Logits [m, classes] of the examples `rows` [m] that were evaluated, in the order of evaluation."""

    rows: Array
    logits: Array


def margins(logits: Array, labels: Array) -> Array:
    """[n]: the label's logit less the best other one; below 0 where the answer is wrong.

    Args:
        logits: [n, classes], what the candidate's are expected to be like.
        labels: [n].

    Example:
        >>> margins(np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([0, 0])).tolist()
        [3.0, -1.0]
    """
    everyone = np.arange(len(labels))
    others = logits.astype(np.float64)
    own = others[everyone, labels].copy()
    others[everyone, labels] = -np.inf
    difference: Array = own - others.max(axis=1)
    return difference


def hard_first(expected: Array, rows_by_bucket: Sequence[Sequence[int]], *, batch_size: int) -> list[tuple[int, Array]]:
    """Batches of one bucket each, in an order in which the wrong answers come as early as whole batches allow.

    Within a bucket the smallest margins come first; of all batches those come first that hold the most examples with a
    margin below 0, then those with the smallest mean margin.

    Args:
        expected: [n] margins.
        rows_by_bucket: for each bucket the positions of its examples.
        batch_size: rows of a batch, at least 1.

    Returns:
        (number of the bucket, positions) of every batch; they cover every position once.

    Example:
        >>> order = hard_first(np.array([1.0, -1.0, 2.0, -3.0]), [[0, 1], [2, 3]], batch_size=1)
        >>> [rows.tolist() for _, rows in order]
        [[3], [1], [0], [2]]
    """
    batches = []
    for bucket, rows in enumerate(rows_by_bucket):
        ordered = np.asarray(rows, dtype=np.int64)
        ordered = ordered[np.argsort(expected[ordered], kind="stable")]
        batches += [(bucket, ordered[start : start + batch_size]) for start in range(0, len(ordered), batch_size)]
    return sorted(batches, key=lambda b: (-int(np.count_nonzero(expected[b[1]] < 0)), float(expected[b[1]].mean())))


def race(
    order: Sequence[tuple[int, Array]],
    forward: Callable[[Sequence[tuple[int, Array]]], Sequence[Array]],
    n_wrong_of: Callable[[Array, Array], int],
    is_lost: Callable[[int], bool],
    *,
    wave: int,
) -> Raced:
    """Evaluates batch by batch until the candidate is lost, or to the end.

    What has been evaluated when it is lost depends on the order of the batches alone: batches of the same wave that
    come after the one that decides are thrown away, so that no log depends on the number of cores.

    Args:
        order: batches as from `hard_first`.
        forward: logits [rows, classes] of each of some batches.
        n_wrong_of: (positions, logits) -> how many of these are wrong.
        is_lost: whether so many wrong answers are too many.
        wave: batches that are evaluated side by side.
    """
    rows: list[Array] = []
    logits: list[Array] = []
    n_wrong = 0
    for start in range(0, len(order), wave):
        batches = order[start : start + wave]
        for (_, positions), found in zip(batches, forward(batches), strict=True):
            rows.append(positions)
            logits.append(found)
            n_wrong += n_wrong_of(positions, found)
            if is_lost(n_wrong):
                return Raced(np.concatenate(rows), np.concatenate(logits))
    return Raced(np.concatenate(rows), np.concatenate(logits))
