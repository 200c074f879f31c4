"""Metrics of the confusion matrix, for many weightings of the same examples at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stockpot.metrics._inputs import Array, checked_classes
from stockpot.metrics._resampling import Prepare, Statistic, segment_sums

__all__ = ["Confusion", "accuracy_and_f1_of", "confusion_statistic", "f1_macro_of", "f1_of", "matthews_of"]


class Confusion(NamedTuple):
    """Counts per resample and class; classes [k] are those among labels or predictions.

    Args:
        classes: [k] class numbers, ascending.
        right: [resamples, k] examples of the class that are predicted as it, float64 whole numbers like all counts.
        actual: [resamples, k] examples of the class.
        predicted: [resamples, k] predictions of the class.
    """

    classes: Array
    right: Array
    actual: Array
    predicted: Array


def confusion_statistic(formula: Callable[[Confusion], Array]) -> Prepare:
    """What turns (logits, labels) into the statistic `formula` of their confusion matrix."""

    def prepare(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Statistic:
        checked = checked_classes(logits, labels)
        actual, predicted = checked.labels, checked.logits.argmax(axis=1)
        order = np.lexsort((predicted, actual))
        count = _counter(actual[order], predicted[order])
        return Statistic(order, lambda weights: formula(count(weights)))

    return prepare


def _counter(actual: Array, predicted: Array) -> Callable[[Array], Confusion]:
    """Rows are sorted by (actual, predicted), so that every cell of the matrix is a run of columns."""
    classes, numbers = np.unique(np.concatenate([actual, predicted]), return_inverse=True)
    row, column = numbers[: len(actual)], numbers[len(actual) :]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(row) != 0) | (np.diff(column) != 0)]))
    cell_row, cell_column, k = row[starts], column[starts], len(classes)
    diagonal = np.flatnonzero(cell_row == cell_column)

    def count(weights: Array) -> Confusion:
        cells = segment_sums(weights, starts).astype(np.float64)
        right = _by_class(cells[:, diagonal], cell_row[diagonal], k)
        return Confusion(classes, right, _by_class(cells, cell_row, k), _by_class(cells, cell_column, k))

    return count


def _by_class(cells: Array, class_of_cell: Array, k: int) -> Array:
    """[resamples, k]: the cells of each class added up."""
    sums = np.zeros((len(cells), k))
    if len(class_of_cell):
        order = np.argsort(class_of_cell, kind="stable")
        present, starts = np.unique(class_of_cell[order], return_index=True)
        sums[:, present] = segment_sums(cells[:, order], starts)
    return sums


# --- the formulas, [resamples] each ------------------------------------------------------------------------------


def f1_of(counts: Confusion) -> Array:
    """F1 of class 1; 0 where it is neither a label nor a prediction."""
    is_positive = counts.classes == 1
    parts = (part[:, is_positive].sum(axis=1) for part in (counts.right, counts.actual, counts.predicted))
    return _f1(*parts)


def f1_macro_of(counts: Confusion) -> Array:
    """Mean F1 over the classes among the labels or predictions of the resample."""
    n_present = np.count_nonzero(counts.actual + counts.predicted, axis=1)
    mean: Array = _f1(counts.right, counts.actual, counts.predicted).sum(axis=1) / n_present
    return mean


def accuracy_and_f1_of(counts: Confusion) -> Array:
    """Mean of the accuracy and the F1 of class 1."""
    mean: Array = (counts.right.sum(axis=1) / counts.actual.sum(axis=1) + f1_of(counts)) / 2
    return mean


def matthews_of(counts: Confusion) -> Array:
    """Matthews correlation; 0 where labels or predictions never vary."""
    n = counts.actual.sum(axis=1)
    both = counts.right.sum(axis=1) * n - (counts.actual * counts.predicted).sum(axis=1)
    spreads = [n**2 - (part**2).sum(axis=1) for part in (counts.actual, counts.predicted)]
    return _ratio(both, np.sqrt(spreads[0]) * np.sqrt(spreads[1]))


def _f1(right: Array, actual: Array, predicted: Array) -> Array:
    return _ratio(2 * right, actual + predicted)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient; 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
