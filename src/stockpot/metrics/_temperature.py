"""Temperature scaling: one number that makes probabilities fit the labels, and leaves every answer as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import ConfigError, EvaluationError
from stockpot.metrics._inputs import Array, checked_classes
from stockpot.metrics.classes import nll

__all__ = ["TEMPERATURE_BOUNDS", "fit_temperature", "scaled"]

#: Smallest and largest temperature that a fit returns.
TEMPERATURE_BOUNDS = (0.01, 100.0)

_TOLERANCE = 1e-12
_MOST_STEPS = 200


class _Slope(NamedTuple):
    """First and second derivative of the mean negative log-likelihood by b = 1 / T."""

    first: float
    second: float


_Slopes: TypeAlias = Callable[[float], _Slope]


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature T that minimises the negative log-likelihood of ``logits / T``.

    The loss is convex in b = 1 / T; with p = softmax(b z) its slope is ``mean_j (E_p[z_j] - z_j[label_j])`` and its
    curvature ``mean_j Var_p(z_j)``: Newton's method inside a shrinking bracket, in float64. T lies in
    `TEMPERATURE_BOUNDS`, 0.01 to 100. Data in which the label always has the largest logit have no minimum: their T is
    0.01; where labels go against the logits it is 100. Where no temperature changes the loss (equal logits in every
    row), it is 1.

    Args:
        logits: [n, classes], n >= 1; of a split that was not trained on.
        labels: [n] integers in 0 .. classes - 1.

    Returns:
        T, to a relative 1e-9 where the loss is curved enough to tell.

    Raises:
        DataError: no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN among the logits, or a label whose probability is 0.

    Source:
        Guo et al. 2017, "On calibration of modern neural networks", section 4.2.

    Example:
        >>> twice_too_sure = [[2 * math.log(3), 0.0]] * 4  # says 9 to 1, and is right 3 times of 4
        >>> round(fit_temperature(twice_too_sure, [0, 0, 0, 1]), 6)
        2.0
    """
    nll(logits, labels)  # refuses what has no likelihood
    checked = checked_classes(logits, labels)
    coolest, hottest = TEMPERATURE_BOUNDS
    slopes = _slopes(checked.logits.astype(np.float64), checked.labels)
    low, high = 1 / hottest, 1 / coolest
    at_low, at_high = slopes(low).first, slopes(high).first
    if at_low == at_high == 0:
        return 1.0
    if at_high <= 0:
        return coolest
    if at_low >= 0:
        return hottest
    return 1 / _root(slopes, low, high)


def scaled(logits: npt.ArrayLike, temperature: float) -> Array:
    """``logits / temperature`` in float64; the largest logit of a row stays where it is.

    Where rounding would make an earlier class as large as a row's largest logit, that is raised by one last place.

    Args:
        logits: [n, classes], classes >= 1.
        temperature: > 0, finite.

    Returns:
        [n, classes] float64.

    Raises:
        ConfigError: a temperature that is not above 0 and finite.
        EvaluationError: other shapes, NaN, or finite logits that leave float64.

    Example:
        >>> scaled([[2.0, 1.0]], 2.0)
        array([[1. , 0.5]])
    """
    if not (0 < temperature < math.inf):
        raise ConfigError(f"the temperature is {temperature!r}, not above 0 and finite", fix="use fit_temperature")
    given = np.asarray(logits, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] == 0 or np.isnan(given).any():
        raise EvaluationError(
            f"logits {list(given.shape)} are not [n, classes], or NaN", fix="give one row per example"
        )
    with np.errstate(over="ignore", under="ignore"):
        result: Array = given / temperature
    if (np.isinf(result) & np.isfinite(given)).any():
        raise EvaluationError(
            f"logits up to {np.abs(given).max():.3g} over a temperature of {temperature:.3g} leave float64",
            fix="subtract each row's largest logit first",
        )
    rows, best = np.arange(len(given)), given.argmax(axis=1)
    moved = rows[result.argmax(axis=1) != best] if len(given) else rows
    result[moved, best[moved]] = np.nextafter(result[moved, best[moved]], math.inf)
    return result


def _slopes(logits: Array, labels: Array) -> _Slopes:
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)  # at most 0; a masked class is -inf
    own = shifted[np.arange(len(labels)), labels]

    def slopes(b: float) -> _Slope:
        with np.errstate(over="ignore", under="ignore"):
            powers = np.exp(b * shifted)
            finite = np.where(powers > 0, shifted, 0.0)  # 0 times -inf is 0 here
            shares = powers / powers.sum(axis=1, keepdims=True)
            mean = (shares * finite).sum(axis=1)
            variance = (shares * (finite - mean[:, None]) ** 2).sum(axis=1)
        return _Slope(math.fsum(mean - own) / len(own), math.fsum(variance) / len(own))

    return slopes


def _root(slopes: _Slopes, low: float, high: float) -> float:
    """Where the rising first derivative passes 0 between `low` (below 0) and `high` (above 0)."""
    b, last_step = math.sqrt(low * high), math.inf
    for _ in range(_MOST_STEPS):
        slope = slopes(b)
        if slope.first == 0:
            return b
        low, high = (b, high) if slope.first < 0 else (low, b)
        newton = b - slope.first / slope.second if slope.second > 0 else math.inf
        # Newton's steps must stay inside and shrink, else it creeps along an exponential tail: halve the bracket then.
        is_good = low < newton < high and abs(newton - b) <= last_step / 2
        following = newton if is_good else math.sqrt(low * high)
        b, last_step = following, abs(following - b)
        if last_step <= _TOLERANCE * b:
            return b
    return b
