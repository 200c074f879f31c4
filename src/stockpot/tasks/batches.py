"""Batches of fixed shape: an example's logits do not depend on its companions or the order.

An example's bucket is a function of its own length, with bounds that are the split's; every batch has exactly
`batch_size` rows of one bucket, the last one filled up with dummies. At a fixed shape the order of the rows does not
change a row's logits, so rows may be reordered without changing a decision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Batch", "Encodings", "bucket_of", "fixed_batch", "fixed_batches", "loose_batches", "rows_by_bucket"]

# (up to this length, multiples of this): fine steps where texts are short, since padding costs as much as tokens.
_STEPS = ((32, 1), (128, 4), (512, 16))
_LAST_STEP = 32


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Model inputs by name, each [batch_size, bucket] int64, and the positions of the real rows (the first ones)."""

    inputs: Mapping[str, np.ndarray[Any, Any]]
    rows: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Encodings:
    """Tokenised examples.

    Args:
        inputs: model input name -> one list of integers per example; holds "input_ids".
        padding_values: what fills each input after the example's end.
        padding_side: "right" or "left", the tokenizer's.
        max_length: upper bound of the buckets; examples are at most this long.
    """

    inputs: Mapping[str, Sequence[Sequence[int]]]
    padding_values: Mapping[str, int]
    padding_side: str
    max_length: int

    def rows_by_bucket(self, batch_size: int) -> dict[int, list[int]]:
        """See the function of this name."""
        lengths = [len(tokens) for tokens in self.inputs["input_ids"]]
        return rows_by_bucket(lengths, batch_size=batch_size, max_length=self.max_length)


def bucket_of(length: int, max_length: int) -> int:
    """The least padded length of an example with `length` tokens; at most `max_length`.

    Example:
        >>> [bucket_of(n, 512) for n in (1, 31, 33, 70, 129, 512)]
        [1, 31, 36, 72, 144, 512]
    """
    step = next((step for limit, step in _STEPS if length <= limit), _LAST_STEP)
    return min(-(-length // step) * step, max_length)


def fixed_batches(encodings: Encodings, *, batch_size: int) -> list[Batch]:
    """Groups tokenised examples into batches of fixed shape, shortest bucket first.

    Args:
        encodings: of n examples.
        batch_size: rows of every batch, at least 1.

    Returns:
        Batches whose `rows` cover 0 .. n-1 once.
    """
    return [
        fixed_batch(encodings, rows[start : start + batch_size], batch_size, bucket)
        for bucket, rows in encodings.rows_by_bucket(batch_size).items()
        for start in range(0, len(rows), batch_size)
    ]


def rows_by_bucket(lengths: Sequence[int], *, batch_size: int, max_length: int) -> dict[int, list[int]]:
    """Padded length -> the examples that have it, shortest bucket first; bounds are where all batches cost least.

    The cost is the number of tokens of all batches, padding and dummies included. Few examples of a length of their
    own share the next larger bucket, so that no batch is made of dummies.

    Args:
        lengths: [n] tokens of each example.
        batch_size: rows of every batch, at least 1.
        max_length: the largest bucket.

    Example:
        >>> rows_by_bucket([3, 9, 3, 4, 9, 9], batch_size=3, max_length=16)
        {4: [0, 2, 3], 9: [1, 4, 5]}
    """
    least = [bucket_of(length, max_length) for length in lengths]
    bounds = _cheapest_bounds(sorted(Counter(least).items()), batch_size)
    found: dict[int, list[int]] = {bound: [] for bound in bounds}
    for row, bucket in enumerate(least):
        found[bounds[bisect_left(bounds, bucket)]].append(row)
    return found


def _cheapest_bounds(counts: Sequence[tuple[int, int]], batch_size: int) -> list[int]:
    """Which of the padded lengths in (length, examples), ascending, to keep: the best cut, by dynamic programming."""
    n_up_to = np.cumsum([0, *(n for _, n in counts)])
    costs, cuts = [0], []
    for stop, (length, _) in enumerate(counts, start=1):
        n_batches = -(-(n_up_to[stop] - n_up_to[:stop]) // batch_size)
        options = np.asarray(costs) + n_batches * batch_size * length
        cuts.append(int(options.argmin()))
        costs.append(int(options.min()))
    kept, stop = [], len(counts)
    while stop:
        kept.append(counts[stop - 1][0])
        stop = cuts[stop - 1]
    return kept[::-1]


def loose_batches(encodings: Encodings, rows: Sequence[int], *, batch_size: int) -> list[Batch]:
    """Some examples in batches of at most `batch_size`, those of similar length together and no dummies.

    For training, where a row's logits may depend on its companions.

    Args:
        encodings: of n examples.
        rows: which of them.
        batch_size: rows of the largest batch, at least 1.

    Returns:
        Batches whose `rows` cover `rows` once.
    """
    tokens = encodings.inputs["input_ids"]
    by_length = sorted(rows, key=lambda row: len(tokens[row]))
    parts = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    return [
        fixed_batch(encodings, part, len(part), bucket_of(len(tokens[part[-1]]), encodings.max_length))
        for part in parts
    ]


def fixed_batch(encodings: Encodings, rows: Sequence[int], batch_size: int, bucket: int) -> Batch:
    """Some examples of one bucket, filled up with dummies to `batch_size` rows."""
    # Dummies repeat the first row: a real text, so that no model meets an empty attention mask.
    filled = [*rows, *[rows[0]] * (batch_size - len(rows))]
    inputs = {}
    for name, values in encodings.inputs.items():
        padded = np.full((batch_size, bucket), encodings.padding_values[name], dtype=np.int64)
        for position, row in enumerate(filled):
            tokens = values[row]
            start = bucket - len(tokens) if encodings.padding_side == "left" else 0
            padded[position, start : start + len(tokens)] = tokens
        inputs[name] = padded
    return Batch(inputs, np.asarray(rows, dtype=np.int64))
