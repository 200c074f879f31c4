"""The bootstrap's arithmetic: statistics of weighted examples, evaluated for many resamples at once.

A resample draws as many items as there are, with replacement. It is described by how often each item was drawn, so that
a statistic needs no copy of any row: it sums with these weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.metrics._inputs import Array

__all__ = ["Prepare", "Statistic", "Term", "mean_statistic", "resampled", "segment_sums", "spread"]

#: Numbers in one chunk of weights: what bounds the memory, 16 MiB for each array of them.
CHUNK_ELEMENTS = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """A metric of fixed examples as a function of their weights.

    Args:
        order: [n] the rows in an order that follows from their content, so that the order given never shows.
        of_weights: integer weights [resamples, n], columns in that order, each row's sum at least 1 -> [resamples]
            float64; NaN where the metric is undefined.
    """

    order: Array
    of_weights: Callable[[Array], Array]

    @property
    def value(self) -> float:
        """The metric of the examples as they are."""
        return float(self.of_weights(np.ones((1, len(self.order)), np.int64))[0])


#: (logits, labels) -> the metric of these examples by weight.
Prepare: TypeAlias = Callable[[npt.ArrayLike, npt.ArrayLike], Statistic]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One statistic in a sum that is resampled jointly.

    Args:
        statistic: of the examples of one split.
        items: [n] number of each row's item, rows as given; None where every row is its own item.
        factor: what the statistic is multiplied by.
    """

    statistic: Statistic
    items: Array | None = None
    factor: float = 1.0

    def values(self, counts: Array) -> Array:
        """[resamples]: factor times the statistic; NaN where no example of the split was drawn."""
        weights = counts if self.items is None else counts[:, self.items[self.statistic.order]]
        is_empty = weights.sum(axis=1) == 0
        if is_empty.any():
            weights = np.where(is_empty[:, None], 1, weights)
        return np.where(is_empty, np.nan, self.factor * self.statistic.of_weights(weights))


def resampled(terms: Sequence[Term], n_items: int, *, n_resamples: int, seed: int) -> Array:
    """The sum of the terms on resamples of the items: [resamples where every term is defined] float64."""
    widest = max(n_items, *(len(term.statistic.order) for term in terms))
    chunks = []
    for counts in _draws(n_items, n_resamples, max(1, CHUNK_ELEMENTS // widest), seed):
        total = terms[0].values(counts)
        for term in terms[1:]:
            total = total + term.values(counts)
        chunks.append(total)
    values = np.concatenate(chunks)
    defined: Array = values[np.isfinite(values)]
    return defined


def spread(values: Array, n_items: int, n_resamples: int) -> float | None:
    """Standard deviation over resamples; None for a single item or where fewer than half of them are defined."""
    if n_items < 2 or len(values) < 2 or 2 * len(values) < n_resamples:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1))


def mean_statistic(values: Array) -> Statistic:
    """The weighted mean of one number per example."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return Statistic(order, lambda weights: (weights @ ordered) / weights.sum(axis=1))


def segment_sums(weights: Array, starts: Array) -> Array:
    """[resamples, segments]: sums over runs of columns that begin at `starts`."""
    sums: Array = np.add.reduceat(weights, starts, axis=1)
    return sums


def _draws(n_items: int, n_resamples: int, rows: int, seed: int) -> Iterator[Array]:
    """Chunks of how often each item was drawn: [at most `rows`, items]; the same numbers for every chunk size."""
    generator = np.random.default_rng(seed)
    for start in range(0, n_resamples, rows):
        n = min(rows, n_resamples - start)
        drawn = generator.integers(0, n_items, size=(n, n_items)) + n_items * np.arange(n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=n * n_items).reshape(n, n_items)
