"""Giving up on a candidate as soon as it provably cannot be accepted: the hard examples first, whole numbers, no guess.

With n examples of which a candidate must get r right, it is lost once n - r + 1 of those evaluated are wrong. An order
that brings the wrong ones first finds that out after about the error rate's share of the examples; any order finds the
same answer. The order comes from logits that are cached already, and from what the first batches have shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Raced", "hard_first", "margins", "race", "wrong_chances"]

Array: TypeAlias = np.ndarray[Any, Any]
Batches: TypeAlias = list[tuple[int, Array]]
#: The rest is put in order anew after so many batches, then after twice as many, and so on: never more than a few
#: times, and at the same batches whatever the number of cores.
_FIRST_LOOK = 4


@dataclass(frozen=True, slots=True, eq=False)
class Raced:
    """Logits [m, classes] of the examples `rows` [m] that are known, in the order of evaluation."""

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


def wrong_chances(guesses: Array, rows: Array, observed: Array) -> Array:
    """[n]: how likely each example is answered wrong, from guessed margins and those seen so far.

    With two guesses the margin is taken to be ``g_1 + rho (g_0 - g_1)`` and noise of spread sigma; rho, in [0, 1], and
    sigma are the least-squares ones over what was seen. Then ``P(wrong) = 1 / (1 + exp(1.7 margin / sigma))``, which is
    the normal tail to within 0.01. Before anything was seen: rho 1, and the spread that the guesses have between them,
    at least 0.3 of the usual margin.

    Args:
        guesses: [2, n] margins; the first is trusted until the evaluation shows that the second is nearer.
        rows: [m] examples seen, in any order; may be empty.
        observed: [m] their margins.

    Example:
        >>> guesses = np.array([[1.0, -1.0, 2.0], [-1.0, 1.0, 2.0]])
        >>> wrong_chances(guesses, np.array([], dtype=int), np.array([])).round(2).tolist()
        [0.26, 0.74, 0.11]
        >>> wrong_chances(guesses, np.array([0]), np.array([-1.0])).argmax()  # the second guess was right
        np.int64(0)
    """
    first, second = guesses
    apart = first - second
    rho, spread = 1.0, max(math.sqrt(float(np.mean(apart**2))), 0.3 * float(np.abs(first).mean()))
    if len(rows):
        seen = apart[rows]
        weight = float(seen @ seen)
        rho = min(max(float((observed - second[rows]) @ seen) / weight, 0.0), 1.0) if weight > 0 else 1.0
        spread = math.sqrt(float(np.mean((observed - second[rows] - rho * seen) ** 2)))
    margin = second + rho * apart
    # A tenth of the usual size at least: one batch that is met exactly must not make a certainty of the rest.
    spread = max(spread, 0.1 * float(np.abs(margin).mean()), 1e-9)
    chances: Array = 1.0 / (1.0 + np.exp(np.clip(1.7 * margin / spread, -500.0, 500.0)))
    return chances


def hard_first(chances: Array, rows_by_bucket: Sequence[Sequence[int] | Array], *, batch_size: int) -> Batches:
    """Batches of one bucket each, in an order in which the wrong answers come as early as whole batches allow.

    Within a bucket the likeliest come first; of all batches those come first that are expected to hold most.

    Args:
        chances: [n], how likely each example is answered wrong.
        rows_by_bucket: for each bucket the positions of its examples.
        batch_size: rows of a batch, at least 1.

    Returns:
        (number of the bucket, positions) of every batch; they cover every position once.

    Example:
        >>> order = hard_first(np.array([0.3, 0.8, 0.1, 0.9]), [[0, 1], [2, 3]], batch_size=1)
        >>> [rows.tolist() for _, rows in order]
        [[3], [1], [0], [2]]
    """
    batches = []
    for bucket, rows in enumerate(rows_by_bucket):
        ordered = np.asarray(rows, dtype=np.int64)
        ordered = ordered[np.argsort(-chances[ordered], kind="stable")]
        batches += [(bucket, ordered[start : start + batch_size]) for start in range(0, len(ordered), batch_size)]
    return sorted(batches, key=lambda batch: -float(chances[batch[1]].sum()))


def race(
    guesses: Array,
    labels: Array,
    rows_by_bucket: Sequence[Sequence[int] | Array],
    forward: Callable[[Batches], Sequence[Array]],
    n_wrong_of: Callable[[Array, Array], int],
    is_lost: Callable[[int], bool],
    *,
    batch_size: int,
    wave: int,
    known: Raced | None = None,
) -> Raced:
    """Evaluates batch by batch until the candidate is lost, or to the end.

    What has been evaluated when it is lost depends on the order of the batches alone: batches of the same wave that
    come after the one that decides are thrown away, so that no log depends on the number of cores.

    Args:
        guesses: [2, n] margins that the candidate's are expected to be like; they decide the order alone.
        labels: [n].
        rows_by_bucket: for each bucket the positions of its examples.
        forward: logits [rows, classes] of each of some batches.
        n_wrong_of: (positions, logits) -> how many of these are wrong.
        is_lost: whether so many wrong answers are too many.
        batch_size: rows of a batch, at least 1.
        wave: batches that are evaluated side by side.
        known: what was evaluated before; it counts, and is not evaluated again.

    Returns:
        What is known now, `known` included and first.
    """
    rows = [] if known is None else [known.rows]
    logits = [] if known is None else [known.logits]
    n_wrong = 0 if known is None else n_wrong_of(known.rows, known.logits)
    left = [np.asarray(bucket, dtype=np.int64) for bucket in rows_by_bucket]
    n_batches = _FIRST_LOOK
    while not (rows and is_lost(n_wrong)):
        seen = np.concatenate([np.empty(0, np.int64), *rows])
        left = [bucket[~np.isin(bucket, seen)] for bucket in left]
        observed = margins(np.concatenate(logits), labels[seen]) if len(seen) else np.empty(0)
        order = hard_first(wrong_chances(guesses, seen, observed), left, batch_size=batch_size)
        if not order:
            break
        for positions, found in _evaluated(order[:n_batches], forward, wave):
            rows.append(positions)
            logits.append(found)
            n_wrong += n_wrong_of(positions, found)
            if is_lost(n_wrong):
                break
        n_batches *= 2
    return Raced(np.concatenate(rows), np.concatenate(logits))


def _evaluated(
    batches: Batches, forward: Callable[[Batches], Sequence[Array]], wave: int
) -> Iterator[tuple[Array, Array]]:
    for start in range(0, len(batches), wave):
        together = batches[start : start + wave]
        for (_, positions), found in zip(together, forward(together), strict=True):
            yield positions, found
