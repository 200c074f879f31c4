"""Whether probabilities mean what they say: expected calibration error, reliability bins, temperature scaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import ConfigError
from stockpot.metrics._inputs import Array, check_count, checked_classes, probabilities_of
from stockpot.metrics._metric import Metric
from stockpot.metrics._resampling import Statistic, segment_sums
from stockpot.metrics._temperature import TEMPERATURE_BOUNDS, fit_temperature, scaled
from stockpot.types import Score

__all__ = [
    "CALIBRATION_METRICS",
    "TEMPERATURE_BOUNDS",
    "ReliabilityBin",
    "expected_calibration_error",
    "fit_temperature",
    "reliability",
    "scaled",
]

Bins: TypeAlias = Literal["mass", "width"]
#: Weights per group of equal confidences [resamples, groups] -> the bin of each group.
Assign: TypeAlias = Callable[[Array], Array]

N_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Examples of similar confidence.

    Args:
        mean_confidence: mean of their largest probabilities.
        accuracy: share of them whose largest logit is at the label.
        n: how many they are, >= 1.
    """

    mean_confidence: float
    accuracy: float
    n: int


def expected_calibration_error(
    logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = N_BINS, bins: Bins = "mass"
) -> Score:
    """Expected calibration error: how far confidence and accuracy are apart, over bins of similar confidence.

    ``sum_b (n_b / n) |accuracy_b - mean confidence_b|``, confidence being the largest probability. Bins of equal mass
    hold n / n_bins examples each: in order of confidence, example number i (from 0) is in bin ``floor(n_bins (i + 1/2)
    / n)``; equal confidences stay together, all in the bin of their middle. Bins of equal width are (b / n_bins, (b +
    1) / n_bins]. The error of a finite sample is biased upwards, most where bins are small; the bootstrapped standard
    error is about its spread alone.

    Args:
        logits: [n, classes], n >= 1, classes >= 1.
        labels: [n] integers in 0 .. classes - 1.
        n_bins: >= 1.
        bins: "mass" or "width".

    Returns:
        A score in 0 .. 1, lower is better; its standard error is None for n = 1.

    Raises:
        DataError: no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN or +inf among the logits.
        ConfigError: no bins, or another kind of them.

    Source:
        Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning"; Guo et al. 2017, "On
        calibration of modern neural networks" (equal width); Nguyen and O'Connor 2015, "Posterior calibration and
        exploratory analysis for natural language processing models" (equal mass).

    Example:
        >>> sure_and_half_right = [[50.0, 0.0]] * 4
        >>> round(expected_calibration_error(sure_and_half_right, [0, 0, 1, 1]).value, 6)
        0.5
    """
    return _ece_metric(n_bins, bins)(logits, labels)


def reliability(
    logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = N_BINS, bins: Bins = "mass"
) -> tuple[ReliabilityBin, ...]:
    """The bins behind `expected_calibration_error`, by rising confidence; empty ones are left out.

    Args:
        logits: [n, classes], n >= 1, classes >= 1.
        labels: [n] integers in 0 .. classes - 1.
        n_bins: >= 1.
        bins: "mass" or "width".

    Returns:
        At most n_bins bins, which hold every example once.

    Raises:
        DataError, EvaluationError, ConfigError: as `expected_calibration_error`.

    Example:
        >>> reliability([[0.0, 0.0], [0.0, 0.0]], [0, 1])
        (ReliabilityBin(mean_confidence=0.5, accuracy=0.5, n=2),)
    """
    _check_bins(n_bins, bins)
    found = _confidences(logits, labels)
    groups = _assignment(found.confidence, n_bins, bins)(segment_sums(np.ones((1, len(found.order))), found.starts))
    bin_of_row = np.repeat(groups[0], np.diff([*found.starts, len(found.order)]))
    return tuple(
        _bin(found.confidence[bin_of_row == number], found.is_right[bin_of_row == number])
        for number in np.unique(bin_of_row)
    )


def _bin(confidence: Array, is_right: Array) -> ReliabilityBin:
    n = len(confidence)
    return ReliabilityBin(math.fsum(confidence) / n, math.fsum(is_right) / n, n)


# --- expected calibration error ----------------------------------------------------------------------------------


class _Confidences(NamedTuple):
    """Examples by rising confidence, and where the runs of equal confidence begin."""

    order: Array
    confidence: Array
    is_right: Array
    starts: Array


def _confidences(logits: npt.ArrayLike, labels: npt.ArrayLike) -> _Confidences:
    checked = checked_classes(logits, labels)
    confidence = probabilities_of(checked).max(axis=1)
    is_right = (checked.logits.argmax(axis=1) == checked.labels).astype(np.float64)
    order = np.lexsort((is_right, confidence))
    ordered = confidence[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return _Confidences(order, ordered, is_right[order], starts)


def _ece_metric(n_bins: int, bins: Bins) -> Metric:
    _check_bins(n_bins, bins)

    def prepare(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Statistic:
        return _ece_statistic(_confidences(logits, labels), n_bins, bins)

    name = ("ece" if bins == "mass" else "ece_equal_width") + ("" if n_bins == N_BINS else f"_{n_bins}")
    return Metric(name, lambda logits, labels: prepare(logits, labels).value, higher_is_better=False, prepare=prepare)


def _ece_statistic(found: _Confidences, n_bins: int, bins: Bins) -> Statistic:
    """``n_b |accuracy_b - mean confidence_b|`` is the absolute sum over the bin of right (1 or 0) less confidence."""
    excess = found.is_right - found.confidence
    assign = _assignment(found.confidence, n_bins, bins)

    def of_weights(weights: Array) -> Array:
        in_group = segment_sums(weights, found.starts)
        excess_of_group = segment_sums(weights * excess, found.starts)
        cells = assign(in_group) + n_bins * np.arange(len(weights))[:, None]
        sums = np.bincount(cells.ravel(), weights=excess_of_group.ravel(), minlength=n_bins * len(weights))
        ece: Array = np.abs(sums).reshape(-1, n_bins).sum(axis=1) / weights.sum(axis=1)
        return ece

    return Statistic(found.order, of_weights)


def _assignment(ordered: Array, n_bins: int, bins: Bins) -> Assign:
    if bins == "mass":
        return lambda in_group: _mass_bins(in_group, n_bins)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    by_width = np.clip(np.searchsorted(edges, np.unique(ordered), side="left") - 1, 0, n_bins - 1)
    return lambda in_group: np.broadcast_to(by_width, in_group.shape)


def _mass_bins(in_group: Array, n_bins: int) -> Array:
    """``floor(n_bins m / n)`` for a group's middle m, in whole numbers."""
    whole = in_group.astype(np.int64)
    up_to = np.cumsum(whole, axis=1)
    found: Array = n_bins * (2 * up_to - whole) // (2 * up_to[:, -1:])
    return np.minimum(found, n_bins - 1)  # an undrawn group at the very end


def _check_bins(n_bins: int, bins: str) -> None:
    check_count(n_bins, "n_bins")
    if bins not in ("mass", "width"):
        raise ConfigError(f"bins is {bins!r}", fix="use 'mass' or 'width'")


#: The metrics of this file, in the order in which they are listed.
CALIBRATION_METRICS = (_ece_metric(N_BINS, "mass"), _ece_metric(N_BINS, "width"))
