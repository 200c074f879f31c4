"""What a metric is: a number of predictions and truth, its direction, and how its standard error is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError, EvaluationError
from stockpot.metrics._inputs import Array
from stockpot.metrics._resampling import Prepare, Statistic, Term, mean_statistic, resampled, spread
from stockpot.types import Score

__all__ = ["N_RESAMPLES", "Kind", "Metric", "PerExample", "mean_metric"]

#: What predictions and truth are; metrics of one kind are of one another's predictions alone.
Kind: TypeAlias = Literal["classes", "values", "likelihoods"]
PerExample: TypeAlias = Callable[[npt.ArrayLike, npt.ArrayLike], Array]

#: Resamples behind a bootstrapped standard error: it is then itself known to about 2 %.
N_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, called with (logits, labels) or (predictions, targets); returns a `Score`.

    The standard error is binomial for shares, ``sd / sqrt(n)`` for other means over examples, and otherwise the
    standard deviation over 1,000 seeded bootstrap resamples; None where there is no estimate (n = 1).

    Args:
        name: what scores, task.yaml and tables call it.
        function: (logits, labels) -> the value alone.
        higher_is_better: its direction.
        per_example: gives the numbers [n] whose mean is the metric; None when it is no such mean.
        kind: "classes" (logits [n, classes], integer labels [n]), "values" (predictions [n] or [n, 1], targets [n]) or
            "likelihoods" (mean log-likelihoods per token [n] or [n, 1], numbers of tokens [n]).
        bounds: smallest and largest value one example can have; None when there are none.
        is_share: whether each example counts 0 or 1: binomial standard error, McNemar's test.
        prepare: for metrics that are no means: the examples' weighted form, for the bootstrap. Without it each resample
            calls `function`, which is slow.
        answers: for metrics that are no means: gives one number per example [n] (the predicted class or value) through
            which alone the predictions count; None where there is none.

    Example:
        >>> shares = Metric("first", lambda logits, labels: float(np.mean(np.asarray(labels) == 0)))
        >>> shares([[0.0, 1.0], [1.0, 0.0]], [0, 1]).value
        0.5
    """

    name: str
    function: Callable[[npt.ArrayLike, npt.ArrayLike], float]
    higher_is_better: bool = True
    per_example: PerExample | None = None
    kind: Kind = "classes"
    bounds: tuple[float, float] | None = None
    is_share: bool = False
    prepare: Prepare | None = None
    answers: PerExample | None = None

    def __call__(self, logits: npt.ArrayLike, labels: npt.ArrayLike) -> Score:
        """The score of these predictions with its standard error.

        Raises:
            DataError: no examples, shapes that do not fit, labels or targets for which the metric is undefined.
            EvaluationError: predictions that are NaN, or for which the metric is undefined.
        """
        if self.per_example is not None:
            values = self.per_example(logits, labels)
            return self.score(math.fsum(values) / len(values), self._stderr_of_mean(values), n_examples=len(values))
        value, n = self.function(logits, labels), len(np.asarray(labels))
        found = resampled([Term(self.statistic(logits, labels))], n, n_resamples=N_RESAMPLES, seed=0)
        return self.score(value, spread(found, n, N_RESAMPLES), n_examples=n)

    def score(self, value: float, stderr: float | None, *, n_examples: int) -> Score:
        """A whole score of this metric."""
        return Score(value, stderr, n_examples, n_examples, metric=self.name, higher_is_better=self.higher_is_better)

    def statistic(self, logits: npt.ArrayLike, labels: npt.ArrayLike) -> Statistic:
        """The metric of these examples as a function of their weights, for the bootstrap."""
        if self.prepare is not None:
            return self.prepare(logits, labels)
        if self.per_example is not None:
            return mean_statistic(self.per_example(logits, labels))
        return self._slow_statistic(np.asarray(logits), np.asarray(labels))

    def _slow_statistic(self, logits: Array, labels: Array) -> Statistic:
        def value(counts: Array) -> float:
            rows = np.repeat(np.arange(len(labels)), counts)
            try:
                return self.function(logits[rows], labels[rows])
            except (DataError, EvaluationError):  # undefined on this resample
                return math.nan

        return Statistic(np.arange(len(labels)), lambda weights: np.array([value(row) for row in weights]))

    def _stderr_of_mean(self, values: Array) -> float | None:
        n, total = len(values), math.fsum(values)
        if n == 1:
            return None
        if self.is_share:
            return math.sqrt(total * (n - total) / n**3)  # of whole numbers: 0 exactly, where it should be
        mean = total / n
        return math.sqrt(math.fsum((values - mean) ** 2) / (n * (n - 1)))


def mean_metric(
    name: str,
    per_example: PerExample,
    *,
    higher_is_better: bool = True,
    kind: Kind = "classes",
    bounds: tuple[float, float] | None = None,
    is_share: bool = False,
) -> Metric:
    """A metric that is the mean of one number per example."""

    def function(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
        values = per_example(logits, labels)
        return math.fsum(values) / len(values)

    return Metric(name, function, higher_is_better, per_example, kind, bounds, is_share)
