"""Standard errors by resampling: for metrics that are no means over examples, and for examples that share items."""

from __future__ import annotations

import numpy.typing as npt

from stockpot.metrics._inputs import check_count
from stockpot.metrics._metric import N_RESAMPLES, Metric
from stockpot.metrics._registry import as_metric
from stockpot.metrics._resampling import Term, resampled, spread
from stockpot.metrics.means import item_numbers
from stockpot.types import Score

__all__ = ["bootstrap"]


def bootstrap(
    metric: str | Metric,
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    item_ids: npt.ArrayLike | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Score:
    """A score whose standard error is the standard deviation of the metric over resamples of the items.

    A resample draws as many items as there are, with replacement; with an item come all its examples. Resamples on
    which the metric is undefined (targets that are all the same, for R^2 and rank correlations) are left out; with
    fewer than half of them left, or a single item, the standard error is None. All built-in metrics are computed from
    how often each item was drawn, many resamples at once, and give what resampled rows would give.

    Args:
        metric: its name, or the metric.
        logits: [n, classes], or predictions [n].
        labels: [n], or targets [n].
        item_ids: [n] integers or strings: what identifies an example's item; None where every example is its own.
        n_resamples: >= 1; the standard error is itself known to about 1 / sqrt(2 n_resamples).
        seed: of the draws: the same for every call, so that two methods are judged on the same resamples.

    Returns:
        The metric's value on all examples with this standard error.

    Raises:
        DataError, EvaluationError: as the metric; ids that do not fit.
        ConfigError: an unknown metric, or n_resamples below 1.

    Source:
        Efron 1979, "Bootstrap methods: another look at the jackknife"; of clusters: Davison and Hinkley 1997,
        "Bootstrap methods and their application", section 3.8.

    Example:
        >>> import numpy as np
        >>> logits, labels = np.eye(2)[[0, 1, 1, 0, 1, 0] * 20], [0, 1, 0, 0, 1, 1] * 20
        >>> score = bootstrap("ece", logits, labels)
        >>> round(score.value, 2), round(score.stderr, 2)
        (0.06, 0.04)
    """
    check_count(n_resamples, "n_resamples")
    chosen = as_metric(metric)
    statistic = chosen.statistic(logits, labels)
    n = n_items = len(statistic.order)
    items = None
    if item_ids is not None:
        (items,), n_items = item_numbers([n], [item_ids])
    found = resampled([Term(statistic, items)], n_items, n_resamples=n_resamples, seed=seed)
    return chosen.score(chosen.function(logits, labels), spread(found, n_items, n_resamples), n_examples=n)
