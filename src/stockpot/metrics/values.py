"""Metrics of predicted numbers: mean squared error, R^2, Spearman's rank correlation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError, EvaluationError
from stockpot.metrics._inputs import Array, Values, checked_values, library
from stockpot.metrics._metric import Metric, mean_metric
from stockpot.metrics._resampling import Statistic, segment_sums
from stockpot.types import Score

__all__ = ["VALUE_METRICS", "mse", "r2", "spearman"]


def mse(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Score:
    """Mean squared error; lower is better.

    ``(1/n) sum_j (prediction_j - target_j)^2``, standard error ``sd / sqrt(n)``.

    Args:
        predictions: [n] or [n, 1] numbers, n >= 1.
        targets: [n] numbers.

    Returns:
        A score of at least 0; its standard error is None for n = 1.

    Raises:
        DataError: no examples, shapes that do not fit, or targets that are not finite.
        EvaluationError: predictions that are not finite.

    Example:
        >>> mse([1.0, 2.0], [1.0, 4.0]).value
        2.0
    """
    return _MSE(predictions, targets)


def r2(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Score:
    """Share of the targets' variance that is explained; 0 for their mean, below 0 for worse than that.

    ``1 - sum_j (target_j - prediction_j)^2 / sum_j (target_j - mean target)^2``

    Args:
        predictions: [n] or [n, 1] numbers, n >= 2.
        targets: [n] numbers that are not all the same.

    Returns:
        A score of at most 1 with a bootstrapped standard error.

    Raises:
        DataError: no examples, shapes that do not fit, targets that are not finite or all the same.
        EvaluationError: predictions that are not finite, or so far off that the value is beyond float64.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]).value.__round__(4)
        0.7857
    """
    return _R2(predictions, targets)


def spearman(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Score:
    """Spearman's rank correlation: Pearson's correlation of the ranks; equal values share their mean rank.

    Predictions that are all the same rank nothing: 0 (where the textbook formula has no value).

    Args:
        predictions: [n] or [n, 1] numbers, n >= 2.
        targets: [n] numbers that are not all the same.

    Returns:
        A score in -1 .. 1 with a bootstrapped standard error.

    Raises:
        DataError: no examples, shapes that do not fit, targets that are not finite or all the same.
        EvaluationError: predictions that are not finite.
        MissingExtraError: scipy is not installed.

    Source:
        Spearman 1904, "The proof and measurement of association between two things".

    Example:
        >>> spearman([0.1, 0.2, 9.0], [1.0, 2.0, 3.0]).value
        1.0
    """
    return _SPEARMAN(predictions, targets)


# --- values ------------------------------------------------------------------------------------------------------


def _squared_errors(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    found = checked_values(predictions, targets)
    return (found.predictions - found.targets) ** 2


def _predicted_value(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    return checked_values(predictions, targets).predictions


def _r2_value(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    found = _checked_varied("R^2", predictions, targets)
    order = np.lexsort(found)  # the sums inside run in one order, whatever the rows'
    with np.errstate(all="ignore"):  # what overflows is judged below
        score = library("sklearn.metrics", needed_for="the metric r2").r2_score(
            found.targets[order], found.predictions[order]
        )
    if not math.isfinite(score):
        raise EvaluationError(
            "R^2 is beyond float64: the errors are too large for targets that hardly differ",
            fix="check the ingredients for diverged runs, or use mse",
        )
    return float(score)


def _spearman_value(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    found = _checked_varied("Spearman's correlation", predictions, targets)
    rankdata = library("scipy.stats", needed_for="the metric spearman").rankdata
    # Twice the ranks less their mean: whole numbers, so that equal rankings give exactly 1.
    x, y = (2 * rankdata(values) - len(values) - 1 for values in found)
    spread = math.sqrt(math.fsum(x * x) * math.fsum(y * y))
    return max(-1.0, min(1.0, math.fsum(x * y) / spread)) if spread else 0.0


def _checked_varied(name: str, predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Values:
    found = checked_values(predictions, targets)
    deviations = found.targets - found.targets.mean()
    if found.targets.min() == found.targets.max() or not (deviations**2).sum():
        raise DataError(
            f"{name} is undefined: all {len(found.targets)} targets are the same, or differ by less than 1e-150",
            fix="check the label column, give more examples, or use mse",
        )
    return found


# --- by weight ---------------------------------------------------------------------------------------------------


def _r2_statistic(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Statistic:
    found = _checked_varied("R^2", predictions, targets)
    order = np.lexsort(found)  # by target, equal ones by prediction
    true = found.targets[order]
    starts = _starts(true)
    centred = true - true.mean()  # small numbers: their weighted variance does not cancel
    errors = (found.predictions[order] - true) ** 2

    def of_weights(weights: Array) -> Array:
        n = weights.sum(axis=1)
        varied = np.count_nonzero(segment_sums(weights, starts), axis=1) > 1
        with np.errstate(all="ignore"):
            total = weights @ centred**2 - (weights @ centred) ** 2 / n
            return np.where(varied & (total > 0), 1 - (weights @ errors) / total, np.nan)

    return Statistic(order, of_weights)


def _spearman_statistic(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Statistic:
    found = _checked_varied("Spearman's correlation", predictions, targets)
    order = np.lexsort((found.targets, found.predictions))  # by prediction, equal ones by target
    predicted, true = found.predictions[order], found.targets[order]
    by_target = np.argsort(true, kind="stable")
    predicted_starts, true_starts = _starts(predicted), _starts(true[by_target])
    predicted_group = np.unique(predicted, return_inverse=True)[1]
    true_group = np.unique(true, return_inverse=True)[1]

    def of_weights(weights: Array) -> Array:
        x, spread_x = _centred_ranks(segment_sums(weights, predicted_starts))
        y, spread_y = _centred_ranks(segment_sums(weights[:, by_target], true_starts))
        both = np.einsum("rn,rn,rn->r", weights, x[:, predicted_group], y[:, true_group])
        spreads = np.sqrt(spread_x) * np.sqrt(spread_y)
        correlation = np.divide(both, spreads, out=np.zeros_like(both), where=spreads > 0)
        return np.where(spread_y > 0, np.clip(correlation, -1.0, 1.0), np.nan)

    return Statistic(order, of_weights)


def _centred_ranks(group_weights: Array) -> tuple[Array, Array]:
    """Mean ranks less (n + 1) / 2 of groups of equal values [resamples, groups], and their weighted squares' sums."""
    up_to = np.cumsum(group_weights, axis=1)
    ranks = up_to - group_weights / 2 - up_to[:, -1:] / 2
    return ranks, np.einsum("rg,rg,rg->r", group_weights, ranks, ranks)


def _starts(ordered: Array) -> Array:
    """Where the runs of equal values begin."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


_MSE = mean_metric("mse", _squared_errors, higher_is_better=False, kind="values")
_R2 = Metric("r2", _r2_value, kind="values", prepare=_r2_statistic, answers=_predicted_value)
_SPEARMAN = Metric("spearman", _spearman_value, kind="values", prepare=_spearman_statistic, answers=_predicted_value)

#: The metrics of this file, in the order in which they are listed.
VALUE_METRICS = (_MSE, _R2, _SPEARMAN)
