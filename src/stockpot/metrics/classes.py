"""Metrics of logits and class labels: accuracy and its kin, F1, Matthews, negative log-likelihood, Brier."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError, EvaluationError
from stockpot.metrics._confusion import accuracy_and_f1_of, confusion_statistic, f1_macro_of, f1_of, matthews_of
from stockpot.metrics._inputs import Array, check_count, checked_classes, library, probabilities_of
from stockpot.metrics._metric import Metric, mean_metric
from stockpot.metrics._resampling import Statistic
from stockpot.types import Score

__all__ = ["CLASS_METRICS", "accuracy", "accuracy_and_f1", "brier", "f1", "f1_macro", "matthews", "nll", "top_k"]


def accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
    """Share of examples whose largest logit is at the label; of equal logits the first class counts.

    ``p = correct / n``, standard error ``sqrt(p (1 - p) / n)``.

    Args:
        logits: [n, classes], n >= 1, classes >= 1.
        labels: [n] integers in 0 .. classes - 1.

    Returns:
        A score in 0 .. 1 with its binomial standard error.

    Raises:
        DataError: no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN among the logits.

    Example:
        >>> score = accuracy([[2.0, 1.0], [0.0, 3.0], [1.0, 1.0], [5.0, 0.0]], [0, 1, 1, 0])
        >>> score.value, round(score.stderr, 4), score.n_examples
        (0.75, 0.2165, 4)
    """
    return _ACCURACY(logits, labels)


def top_k(k: int) -> Metric:
    """Share of examples whose label is among the k largest logits; of equal logits the first classes count.

    ``top_k(1)`` is the accuracy. With k >= classes every example counts.

    Args:
        k: >= 1.

    Returns:
        A metric named `top_<k>` in 0 .. 1 with a binomial standard error; its errors are those of `accuracy`.

    Raises:
        ConfigError: k is no integer of at least 1.

    Source:
        Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge", made k = 5 common.

    Example:
        >>> top_k(2)([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [1, 2]).value
        0.5
    """
    check_count(k, "k")

    def is_among(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
        checked = checked_classes(logits, labels)
        own = checked.logits[np.arange(len(checked.labels)), checked.labels][:, None]
        is_earlier = np.arange(checked.logits.shape[1]) < checked.labels[:, None]
        n_ahead = np.count_nonzero((checked.logits > own) | ((checked.logits == own) & is_earlier), axis=1)
        return np.asarray(n_ahead < k, dtype=np.float64)

    return mean_metric(f"top_{k}", is_among, bounds=(0.0, 1.0), is_share=True)


def nll(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
    """Mean negative log-likelihood of the labels in nats; lower is better.

    ``-(1/n) sum_j log softmax(logits_j)[label_j]`` in float64, standard error ``sd / sqrt(n)``.

    Args:
        logits: [n, classes], n >= 1, classes >= 1.
        labels: [n] integers in 0 .. classes - 1.

    Returns:
        A score of at least 0; its standard error is None for n = 1.

    Raises:
        DataError: no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN among the logits, or a label whose probability is 0.

    Example:
        >>> score = nll([[0.0, 0.0], [0.0, 0.0]], [0, 1])
        >>> round(score.value, 6), score.stderr, score.utility == -score.value
        (0.693147, 0.0, True)
    """
    return _NLL(logits, labels)


def brier(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
    """Mean squared distance between the probabilities and the truth, over all classes; lower is better.

    ``(1/n) sum_j sum_k (softmax(logits_j)[k] - 1{label_j = k})^2`` in 0 .. 2, standard error ``sd / sqrt(n)``. For two
    classes it is twice what scikit-learn's `brier_score_loss` gives by default.

    Args:
        logits: [n, classes], n >= 1, classes >= 1.
        labels: [n] integers in 0 .. classes - 1.

    Returns:
        A score in 0 .. 2; its standard error is None for n = 1.

    Raises:
        DataError: no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN or +inf among the logits.

    Source:
        Brier 1950, "Verification of forecasts expressed in terms of probability".

    Example:
        >>> brier([[0.0, 0.0], [0.0, 0.0]], [0, 1]).value
        0.5
    """
    return _BRIER(logits, labels)


def f1(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
    """F1 of class 1 against class 0: harmonic mean of precision and recall; 0 where nothing is positive.

    ``2 TP / (2 TP + FP + FN)``; 0 where no label and no prediction is 1, as scikit-learn with `zero_division=0`.

    Args:
        logits: [n, 2], n >= 1.
        labels: [n] 0 or 1.

    Returns:
        A score in 0 .. 1; bootstrapped standard error, None for n = 1.

    Raises:
        DataError: other than two classes, no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN among the logits.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> round(f1([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [1, 0, 0]).value, 4)
        0.6667
    """
    return _F1(logits, labels)


def f1_macro(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
    """Unweighted mean over classes of F1, each class against the rest.

    The mean is over the classes that occur among labels or predictions, as in scikit-learn.

    Args:
        logits: [n, classes], n >= 1, classes >= 1.
        labels: [n] integers in 0 .. classes - 1.

    Returns:
        A score in 0 .. 1; bootstrapped standard error, None for n = 1.

    Raises:
        DataError: no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN among the logits.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> round(f1_macro([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [1, 0, 0]).value, 4)
        0.6667
    """
    return _F1_MACRO(logits, labels)


def matthews(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
    """Matthews correlation between labels and predicted classes; 0 where either of them never varies.

    ``(c n - sum_k p_k t_k) / sqrt((n^2 - sum_k p_k^2) (n^2 - sum_k t_k^2))`` with c correct predictions, p_k
    predictions and t_k labels of class k.

    Args:
        logits: [n, classes], n >= 1, classes >= 1.
        labels: [n] integers in 0 .. classes - 1.

    Returns:
        A score in -1 .. 1; bootstrapped standard error, None for n = 1.

    Raises:
        DataError: no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN among the logits.
        MissingExtraError: scikit-learn is not installed.

    Source:
        Matthews 1975; for more than two classes Gorodkin 2004, "Comparing two K-category assignments by a K-category
        correlation coefficient".

    Example:
        >>> round(matthews([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [1, 0, 0]).value, 4)
        0.5
    """
    return _MATTHEWS(logits, labels)


def accuracy_and_f1(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
    """Mean of the accuracy and the F1 of class 1: the metric of MRPC.

    Args:
        logits: [n, 2], n >= 1.
        labels: [n] 0 or 1.

    Returns:
        A score in 0 .. 1; bootstrapped standard error, None for n = 1.

    Raises:
        DataError: other than two classes, no examples, shapes that do not fit, or labels out of range.
        EvaluationError: NaN among the logits.
        MissingExtraError: scikit-learn is not installed.

    Source:
        Wang et al. 2019, "GLUE: A multi-task benchmark and analysis platform for natural language understanding".

    Example:
        >>> accuracy_and_f1([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [1, 1, 1, 0]).value
        1.0
    """
    return _ACCURACY_AND_F1(logits, labels)


# --- values per example ------------------------------------------------------------------------------------------


def _is_right_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    checked = checked_classes(logits, labels)
    return np.asarray(checked.logits.argmax(axis=1) == checked.labels, dtype=np.float64)


def _nll_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    checked = checked_classes(logits, labels)
    wide = checked.logits.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # infinite logits are judged below, once
        shifted = wide - wide.max(axis=1, keepdims=True)  # the largest becomes 0: exp cannot overflow
        log_total = np.log(np.exp(shifted).sum(axis=1))
        values: Array = log_total - shifted[np.arange(len(wide)), checked.labels]
    if n_infinite := len(values) - int(np.count_nonzero(np.isfinite(values))):
        raise EvaluationError(
            f"the label's probability is 0 or undefined in {n_infinite} of {len(values)} examples: infinite logits",
            fix="give the model a finite logit for every class that occurs, or use accuracy",
        )
    return values


def _brier_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    checked = checked_classes(logits, labels)
    shares = probabilities_of(checked)
    shares[np.arange(len(shares)), checked.labels] -= 1.0
    values: Array = (shares**2).sum(axis=1)
    return values


# --- values through scikit-learn ---------------------------------------------------------------------------------


def _predicted_class(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    predicted: Array = checked_classes(logits, labels).logits.argmax(axis=1)
    return predicted


def _f1_value(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    _check_two_classes(logits, labels)
    return float(_sklearn("f1").f1_score(np.asarray(labels), _predicted_class(logits, labels), zero_division=0))


def _f1_macro_value(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    predicted = _predicted_class(logits, labels)
    score = _sklearn("f1_macro").f1_score(np.asarray(labels), predicted, average="macro", zero_division=0)
    return float(score)


def _matthews_value(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    predicted, truth = _predicted_class(logits, labels), np.asarray(labels)
    if len(np.union1d(predicted, truth)) == 1:  # scikit-learn warns of a single class
        return 0.0
    return float(_sklearn("matthews").matthews_corrcoef(truth, predicted))


def _accuracy_and_f1_value(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    return (float(_is_right_of_each(logits, labels).mean()) + _f1_value(logits, labels)) / 2


def _sklearn(metric: str) -> Any:
    return library("sklearn.metrics", needed_for=f"the metric {metric}")


def _check_two_classes(logits: npt.ArrayLike, labels: npt.ArrayLike) -> None:
    n_classes = checked_classes(logits, labels).logits.shape[1]
    if n_classes != 2:
        raise DataError(f"the F1 of class 1 is about two classes, not {n_classes}", fix="use f1_macro")


def _f1_statistic(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Statistic:
    _check_two_classes(logits, labels)
    return confusion_statistic(f1_of)(logits, labels)


def _accuracy_and_f1_statistic(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Statistic:
    _check_two_classes(logits, labels)
    return confusion_statistic(accuracy_and_f1_of)(logits, labels)


_ACCURACY = mean_metric("accuracy", _is_right_of_each, bounds=(0.0, 1.0), is_share=True)
_NLL = mean_metric("nll", _nll_of_each, higher_is_better=False)
_BRIER = mean_metric("brier", _brier_of_each, higher_is_better=False, bounds=(0.0, 2.0))
_F1 = Metric("f1", _f1_value, prepare=_f1_statistic, answers=_predicted_class)
_F1_MACRO = Metric("f1_macro", _f1_macro_value, prepare=confusion_statistic(f1_macro_of), answers=_predicted_class)
_MATTHEWS = Metric("matthews", _matthews_value, prepare=confusion_statistic(matthews_of), answers=_predicted_class)
_ACCURACY_AND_F1 = Metric(
    "accuracy_and_f1", _accuracy_and_f1_value, prepare=_accuracy_and_f1_statistic, answers=_predicted_class
)

#: The metrics of this file, in the order in which they are listed.
CLASS_METRICS = (_ACCURACY, top_k(5), _F1, _F1_MACRO, _MATTHEWS, _ACCURACY_AND_F1, _NLL, _BRIER)
