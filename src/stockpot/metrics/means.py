"""Means over splits that may share items, with standard errors that know it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError, EvaluationError
from stockpot.metrics._inputs import Array
from stockpot.types import Score

__all__ = ["Difference", "as_values", "clustered_mean", "item_numbers", "mean_of_scores", "shift_mean"]


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
    mean = clustered_mean(values_by_shift, item_ids_by_shift)
    n = mean.n_examples
    return Score(mean.value, mean.stderr, n, n, metric=metric, higher_is_better=higher_is_better)


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


# --- the one mean ------------------------------------------------------------------------------------------------


def clustered_mean(
    values_by_split: Sequence[npt.ArrayLike], item_ids_by_split: Sequence[npt.ArrayLike] | None = None
) -> Difference:
    """The mean of means of `shift_mean`; without ids every example is its own item."""
    values = [as_values(values) for values in values_by_split]
    if not values:
        raise DataError("there are no splits to take the mean over", fix="name at least one split")
    means = [math.fsum(split) / len(split) for split in values]
    weighted = [(split - mean) / (len(values) * len(split)) for split, mean in zip(values, means, strict=True)]
    residuals: Array = np.concatenate(weighted)
    if item_ids_by_split is not None:
        items, n_items = item_numbers([len(split) for split in values], item_ids_by_split)
        residuals = np.bincount(np.concatenate(items), weights=residuals, minlength=n_items)
    n_items = len(residuals)
    variance = math.fsum(residuals**2) * n_items / (n_items - 1) if n_items > 1 else None
    stderr = None if variance is None else math.sqrt(variance)
    return Difference(math.fsum(means) / len(means), stderr, sum(map(len, values)), n_items)


def item_numbers(lengths: Sequence[int], item_ids_by_split: Sequence[npt.ArrayLike]) -> tuple[list[Array], int]:
    """The item of each example as numbers from 0, [n_s] per split, the same over all splits; and how many there are."""
    ids = [np.asarray(split_ids) for split_ids in item_ids_by_split]
    shapes = [list(split_ids.shape) for split_ids in ids]
    if shapes != [[length] for length in lengths]:
        raise DataError(
            f"item ids of shapes {shapes} do not fit values of lengths {list(lengths)}",
            fix="give one id per example and split",
        )
    distinct, numbers = np.unique(np.concatenate(ids), return_inverse=True)
    return np.split(numbers, np.cumsum(lengths)[:-1]), len(distinct)


def as_values(values: npt.ArrayLike) -> Array:
    """[n] float64, finite and not empty."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise DataError(f"values of shape {list(array.shape)} are no examples", fix="give [n] numbers with n >= 1")
    if n_bad := len(array) - int(np.count_nonzero(np.isfinite(array))):
        raise EvaluationError(
            f"{n_bad} of {len(array)} values are not finite", fix="look at those examples' logits and labels"
        )
    return array
