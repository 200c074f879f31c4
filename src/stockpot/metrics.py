"""Scores and their standard errors: arrays in, numbers out.

Sums over examples are exactly rounded (`math.fsum`), so the order of the rows never shows in a score.

What a standard error is here, and where it ends:

- accuracy: binomial, ``sqrt(p (1 - p) / n)``; 0 when all or none are right, n = 1 included (the plug-in estimate, which
  says no more than that no wrong, or no right, example was seen);
- means of other quantities: ``sd / sqrt(n)`` with n - 1 in the variance; None for n = 1, where there is no estimate;
- means over splits that share items: clustered by item (`shift_mean`, `paired_difference`); None for a single item.

Nothing is NaN: what has no estimate is None, what has no value is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import ConfigError, DataError, EvaluationError
from stockpot.types import Predictions, Score

__all__ = [
    "METRICS",
    "Difference",
    "Metric",
    "accuracy",
    "mcnemar_exact",
    "mean_of_scores",
    "nll",
    "paired_difference",
    "per_example",
    "shift_mean",
]

Array: TypeAlias = np.ndarray[Any, Any]
Metric: TypeAlias = Callable[[npt.ArrayLike, npt.ArrayLike], Score]
PerExample: TypeAlias = Callable[[npt.ArrayLike, npt.ArrayLike], Array]


# --- metrics of logits -------------------------------------------------------------------------------------------


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
    right = _is_right(logits, labels)
    n, n_right = len(right), int(np.count_nonzero(right))
    stderr = math.sqrt(n_right * (n - n_right) / n**3)  # of integers: 0 exactly, where it should be
    return Score(n_right / n, stderr, n, n, metric="accuracy")


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
    mean = _clustered_mean([_nll_of_each(logits, labels)])
    return Score(mean.value, mean.stderr, mean.n_examples, mean.n_examples, metric="nll", higher_is_better=False)


#: Name -> metric of (logits, labels).
METRICS: Mapping[str, Metric] = {"accuracy": accuracy, "nll": nll}


def per_example(metric: str) -> PerExample:
    """The function that gives one number per example, whose mean is the metric.

    Args:
        metric: "accuracy" (0 or 1 each) or "nll" (nats).

    Returns:
        (logits [n, classes], labels [n]) -> [n] float64.

    Raises:
        ConfigError: a metric that is no mean over examples, or is unknown.

    Example:
        >>> per_example("accuracy")([[2.0, 1.0], [2.0, 1.0]], [0, 1])
        array([1., 0.])
    """
    if metric not in _PER_EXAMPLE:
        raise ConfigError(
            f"metric {metric!r} is not known as a mean over examples", fix=f"use one of: {', '.join(_PER_EXAMPLE)}"
        )
    return _PER_EXAMPLE[metric]


def _is_right_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    return _is_right(logits, labels).astype(np.float64)


def _is_right(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    checked = _checked(logits, labels)
    right: Array = checked.logits.argmax(axis=1) == checked.labels
    return right


def _nll_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    checked = _checked(logits, labels)
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


_PER_EXAMPLE: Mapping[str, PerExample] = {"accuracy": _is_right_of_each, "nll": _nll_of_each}


def _checked(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Predictions:
    """Logits and labels that fit each other."""
    scores, classes = np.asarray(logits), np.asarray(labels)
    if classes.shape == (0,):
        raise DataError("there are no examples to score", fix="check the split's file and filters")
    if scores.ndim != 2 or scores.shape[1] == 0 or classes.shape != scores.shape[:1]:
        raise DataError(
            f"logits {list(scores.shape)} and labels {list(classes.shape)} do not fit: [n, classes] and [n] are needed",
            fix="give one row of logits and one label per example",
        )
    _check_labels(classes, scores.shape[1])
    if n_bad := int(np.count_nonzero(np.isnan(scores).any(axis=1))):
        raise EvaluationError(
            f"the logits of {n_bad} of {len(scores)} examples are NaN",
            fix="evaluate with precision: fp32, and check the ingredients for diverged runs",
        )
    return Predictions(scores, classes)


def _check_labels(labels: Array, n_classes: int) -> None:
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}, not integers", fix="give class numbers from 0")
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(outside):
        raise DataError(
            f"{len(outside)} of {len(labels)} labels lie outside 0 .. {n_classes - 1}, "
            f"the first is {labels[outside[0]]} in row {outside[0]}",
            fix="give class numbers in the order of the model's classes",
        )


# --- means over splits -------------------------------------------------------------------------------------------


def mean_of_scores(scores: Sequence[Score]) -> Score:
    """Unweighted mean of scores on splits that share no items.

    ``mean = (1/S) sum_s score_s``, standard error ``(1/S) sqrt(sum_s stderr_s^2)``. For splits that perturb the same
    items this standard error is too small: use `shift_mean`.

    Args:
        scores: S >= 1 whole scores of one metric.

    Returns:
        Their mean; n is the sum over splits. The standard error and n are None where one of the scores has none.

    Raises:
        DataError: no scores.
        EvaluationError: abandoned scores, or scores of different metrics or directions.

    Example:
        >>> mean = mean_of_scores([Score(0.5, 0.03, 100, 100), Score(0.7, 0.04, 50, 50)])
        >>> round(mean.value, 6), round(mean.stderr, 6), mean.n_examples
        (0.6, 0.025, 150)
    """
    if not scores:
        raise DataError("there are no scores to take the mean of", fix="name at least one split")
    first, n_splits = scores[0], len(scores)
    if any(score.is_abandoned for score in scores):
        raise EvaluationError("an abandoned score has no value to take the mean of", fix="evaluate without against=")
    if len({(score.metric, score.higher_is_better) for score in scores}) > 1:
        raise EvaluationError(
            "scores of different metrics have no mean",
            problems=[
                f"{score.metric}, {'higher' if score.higher_is_better else 'lower'} is better" for score in scores
            ],
            fix="score every split with the same metric",
        )
    stderrs = [score.stderr for score in scores if score.stderr is not None]
    counts = [score.n_examples for score in scores if score.n_examples is not None]
    stderr = math.sqrt(math.fsum(stderr**2 for stderr in stderrs)) / n_splits if len(stderrs) == n_splits else None
    n = sum(counts) if len(counts) == n_splits else None
    value = math.fsum(score.value for score in scores) / n_splits
    return Score(value, stderr, n, n, metric=first.metric, higher_is_better=first.higher_is_better)


def shift_mean(
    values_by_shift: Sequence[npt.ArrayLike],
    item_ids_by_shift: Sequence[npt.ArrayLike],
    *,
    metric: str = "accuracy",
    higher_is_better: bool = True,
) -> Score:
    """Unweighted mean over shifts of per-shift means, its standard error clustered by item.

    The shifts often perturb the same test items, whose errors then go together. With x_si the value of item i in shift
    s (S shifts, n_s examples in shift s, G items in all)::

        mean = (1/S) sum_s mean_s,   mean_s = (1/n_s) sum_i x_si
        u_i  = sum_s (x_si - mean_s) / (S n_s)          over the shifts in which item i occurs
        stderr^2 = G / (G - 1) * sum_i u_i^2

    the sandwich variance of a mean of means (Liang and Zeger 1986, "Longitudinal data analysis using generalized linear
    models"; the factor G / (G - 1): Cameron and Miller 2015, "A practitioner's guide to cluster-robust inference").
    For one shift of distinct items it is ``sd / sqrt(n)``.

    Args:
        values_by_shift: for each shift one finite number per example: [n_s], from `per_example`.
        item_ids_by_shift: for each shift what identifies the item: [n_s] integers or strings, the same item in two
            shifts under the same id.
        metric: name of the metric whose values these are.
        higher_is_better: its direction.

    Returns:
        The mean; n counts examples, not items. The standard error is None for a single item.

    Raises:
        DataError: no shifts, an empty one, or ids that do not fit the values.
        EvaluationError: values that are not finite.

    Example:
        >>> typos, upper_case = [1, 1, 0, 1], [1, 0, 0, 1]
        >>> score = shift_mean([typos, upper_case], [[7, 8, 9, 10], [7, 8, 9, 10]])
        >>> score.value, round(score.stderr, 4), score.n_examples
        (0.625, 0.2394, 8)
    """
    mean = _clustered_mean(values_by_shift, item_ids_by_shift)
    n = mean.n_examples
    return Score(mean.value, mean.stderr, n, n, metric=metric, higher_is_better=higher_is_better)


# --- comparing two methods ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two methods differ on the same examples.

    Args:
        value: mean of a - b, in the metric's unit and natural direction.
        stderr: its standard error, clustered by item; None for a single item.
        n_examples: number of pairs, over all splits.
        n_items: number of distinct items among them.

    Example:
        >>> round(Difference(0.02, 0.01, 500, 500).p_value, 4)
        0.0455
    """

    value: float
    stderr: float | None
    n_examples: int
    n_items: int

    @property
    def p_value(self) -> float | None:
        """Two-sided p of "no difference" under a normal approximation; None where the data allow no estimate.

        ``p = erfc(|value| / (stderr sqrt 2))``. A difference with standard error 0 (the same on every example) has
        none, however clear it looks: for accuracy on one split, `mcnemar_exact` judges that case.
        """
        if self.value == 0.0 and self.stderr is not None:
            return 1.0
        if not self.stderr:
            return None
        return math.erfc(abs(self.value) / (self.stderr * math.sqrt(2)))


def paired_difference(
    a_by_split: Sequence[npt.ArrayLike],
    b_by_split: Sequence[npt.ArrayLike],
    item_ids_by_split: Sequence[npt.ArrayLike],
) -> Difference:
    """Mean of a - b on the same examples, for one split or as a mean over splits, clustered by item.

    The equation is that of `shift_mean` with ``x_si = a_si - b_si``: what both methods find easy or hard cancels.

    Args:
        a_by_split: per split one number per example of method a: [n_s], from `per_example`.
        b_by_split: the same of method b, on the same examples in the same order.
        item_ids_by_split: [n_s] integers or strings per split; the same item in two splits under the same id.

    Returns:
        The difference with its standard error.

    Raises:
        DataError: no splits, an empty one, or arrays that do not fit each other.
        EvaluationError: values that are not finite.

    Example:
        >>> greedy, best = [1, 1, 1, 0, 1], [1, 0, 1, 0, 1]
        >>> difference = paired_difference([greedy], [best], [[0, 1, 2, 3, 4]])
        >>> round(difference.value, 6), round(difference.stderr, 6), round(difference.p_value, 4)
        (0.2, 0.2, 0.3173)
    """
    a, b = [_as_values(values) for values in a_by_split], [_as_values(values) for values in b_by_split]
    if [len(values) for values in a] != [len(values) for values in b]:
        raise DataError(
            f"the two methods have {[len(v) for v in a]} and {[len(v) for v in b]} examples on the splits",
            fix="compare predictions of the same examples in the same order",
        )
    return _clustered_mean([left - right for left, right in zip(a, b, strict=True)], item_ids_by_split)


def mcnemar_exact(a_correct: npt.ArrayLike, b_correct: npt.ArrayLike) -> float:
    """Two-sided exact p of "both methods are right equally often" on one split of distinct items.

    With m examples on which exactly one of the two is right, c of them the rarer one::

        p = min(1, 2 sum_{i <= c} C(m, i) / 2^m)

    (McNemar 1947, in its exact binomial form). Exactly 1.0 when they never disagree.

    Args:
        a_correct: [n] 0 or 1 (or booleans) of method a.
        b_correct: [n] of method b, on the same examples in the same order.

    Returns:
        p in 0 .. 1, computed in integers and rounded once.

    Raises:
        DataError: arrays that do not fit each other, or hold something other than 0 and 1.

    Example:
        >>> mcnemar_exact([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1])
        0.21875
    """
    a, b = np.asarray(a_correct), np.asarray(b_correct)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(
            f"the two methods have {list(a.shape)} and {list(b.shape)} answers",
            fix="compare predictions of the same examples in the same order",
        )
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise DataError(
            "McNemar's test needs right (1) or wrong (0) for each example", fix='use per_example("accuracy")'
        )
    only_a, only_b = int(np.count_nonzero(a > b)), int(np.count_nonzero(a < b))
    n_discordant = only_a + only_b
    doubled_tail = 2 * _binomial_tail(n_discordant, min(only_a, only_b))
    return min(1.0, doubled_tail / (1 << n_discordant))  # Python rounds the quotient of two integers correctly


def _binomial_tail(n: int, last: int) -> int:
    """``sum_{i <= last} C(n, i)`` without a single factorial."""
    term = total = 1
    for i in range(1, last + 1):
        term = term * (n - i + 1) // i
        total += term
    return total


# --- the one mean ------------------------------------------------------------------------------------------------


def _clustered_mean(
    values_by_split: Sequence[npt.ArrayLike], item_ids_by_split: Sequence[npt.ArrayLike] | None = None
) -> Difference:
    """The mean of means of `shift_mean`; without ids every example is its own item."""
    values = [_as_values(values) for values in values_by_split]
    if not values:
        raise DataError("there are no splits to take the mean over", fix="name at least one split")
    means = [math.fsum(split) / len(split) for split in values]
    weighted = [(split - mean) / (len(values) * len(split)) for split, mean in zip(values, means, strict=True)]
    residuals = np.concatenate(weighted)
    if item_ids_by_split is not None:
        residuals = _sum_by_item(residuals, [len(split) for split in values], item_ids_by_split)
    n_items = len(residuals)
    variance = math.fsum(residuals**2) * n_items / (n_items - 1) if n_items > 1 else None
    stderr = None if variance is None else math.sqrt(variance)
    return Difference(math.fsum(means) / len(means), stderr, sum(map(len, values)), n_items)


def _sum_by_item(residuals: Array, lengths: Sequence[int], item_ids_by_split: Sequence[npt.ArrayLike]) -> Array:
    """[items]: the residuals of each item added up over the splits."""
    ids = [np.asarray(split_ids) for split_ids in item_ids_by_split]
    shapes = [list(split_ids.shape) for split_ids in ids]
    if shapes != [[length] for length in lengths]:
        raise DataError(
            f"item ids of shapes {shapes} do not fit values of lengths {list(lengths)}",
            fix="give one id per example and split",
        )
    _, items = np.unique(np.concatenate(ids), return_inverse=True)
    return np.bincount(items, weights=residuals)


def _as_values(values: npt.ArrayLike) -> Array:
    """[n] float64, finite and not empty."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise DataError(f"values of shape {list(array.shape)} are no examples", fix="give [n] numbers with n >= 1")
    if n_bad := len(array) - int(np.count_nonzero(np.isfinite(array))):
        raise EvaluationError(
            f"{n_bad} of {len(array)} values are not finite", fix="look at those examples' logits and labels"
        )
    return array
