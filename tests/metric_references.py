"""Second, slow implementations of metrics and their errors, and what random data the tests of metrics draw from."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stockpot.errors import StockpotError


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Any, Any]:
    """Logits with many ties and some extremes, and labels that fit them."""
    n, n_classes = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    values = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e4, 1e4, width=32))
    logits = draw(hnp.arrays(np.float32, (n, n_classes), elements=values))
    return logits, draw(hnp.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)))


@st.composite
def splits(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """1 to 4 splits of unequal size whose items overlap in part; an item may occur twice in a split."""
    sizes = draw(st.lists(st.integers(2, 9), min_size=1, max_size=4))
    values = [draw(hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0, 0.25]))) for n in sizes]
    ids = [draw(hnp.arrays(np.int64, n, elements=st.integers(0, 11))) for n in sizes]
    ids[0][0], ids[0][1] = 12, 13  # at least two items
    return values, ids


def simulated_shifts(generator: np.random.Generator, n_items: int, *, gap: float = 0.0) -> Any:
    """Right or wrong under 3 shifts of two methods on the same items, whose difficulty they share."""
    difficulty = generator.normal(size=n_items)
    kept = [generator.random(n_items) < share for share in (1.0, 0.8, 0.6)]
    ids = [np.flatnonzero(chosen) for chosen in kept]
    a, b = (
        [(difficulty[i] + 0.7 * generator.normal(size=len(i)) + offset > 0).astype(float) for i in ids]
        for offset in (0.4 + gap, 0.4)
    )
    return a, b, ids


def textbook_nll(row: Any, label: int) -> float:
    """In Python's own numbers, with the sum over classes exactly rounded."""
    top = max(map(float, row))
    return math.log(math.fsum(math.exp(float(logit) - top) for logit in row)) - (float(row[label]) - top)


def textbook_sandwich(values_by_split: list[Any], ids_by_split: list[Any]) -> tuple[float, float]:
    """(X'WX)^-1 (sum_g X_g'W_g e_g e_g'W_g X_g) (X'WX)^-1 G/(G-1) of a regression on split dummies, then the mean."""
    n_splits = len(values_by_split)
    y = np.concatenate(values_by_split)
    split_of = np.repeat(np.arange(n_splits), [len(values) for values in values_by_split])
    x = np.eye(n_splits)[split_of]
    ids = np.concatenate(ids_by_split)
    bread = np.linalg.inv(x.T @ x)
    means = bread @ x.T @ y
    residuals = y - x @ means
    clusters = sorted(set(ids.tolist()))
    meat = np.zeros((n_splits, n_splits))
    for cluster in clusters:
        score = x[ids == cluster].T @ residuals[ids == cluster]
        meat += np.outer(score, score)
    covariance = bread @ meat @ bread * len(clusters) / (len(clusters) - 1)
    weights = np.full(n_splits, 1 / n_splits)
    return float(weights @ means), float(np.sqrt(weights @ covariance @ weights))


def textbook_ece(logits: Any, labels: Any, n_bins: int, bins: str) -> float:
    """One example at a time, in fractions where the bins need them."""
    confidences, rights = [], []
    for row, label in zip(np.asarray(logits).tolist(), np.asarray(labels).tolist(), strict=True):
        powers = np.exp(np.array(row) - max(row))
        confidences.append(float((powers / powers.sum()).max()))
        rights.append(float(row.index(max(row)) == label))
    n, members = len(rights), {}
    for confidence, right in zip(confidences, rights, strict=True):
        if bins == "mass":
            n_less, n_equal = sum(c < confidence for c in confidences), confidences.count(confidence)
            number = n_bins * Fraction(2 * n_less + n_equal, 2 * n) // 1
        else:
            number = next(
                b for b in range(n_bins) if confidence <= np.linspace(0, 1, n_bins + 1)[b + 1] or b == n_bins - 1
            )
        members.setdefault(number, []).append((confidence, right))
    gaps = (abs(math.fsum(right - confidence for confidence, right in pairs)) for pairs in members.values())
    return math.fsum(gaps) / n


def resampled_rows(function: Any, logits: Any, labels: Any, ids: Any, *, n_resamples: int, seed: int) -> list[float]:
    """The metric of rows that are copied for every resample of the items, with the library's draws; defined ones."""
    clusters = [np.flatnonzero(ids == item) for item in np.unique(ids)]
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(n_resamples):
        rows = np.concatenate([clusters[i] for i in generator.integers(0, len(clusters), len(clusters))])
        try:
            values.append(function(logits[rows], labels[rows]))
        except StockpotError:
            continue
    return values
