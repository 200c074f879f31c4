"""Every metric by its name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from stockpot.errors import ConfigError
from stockpot.metrics._metric import Metric, PerExample
from stockpot.metrics.calibration import CALIBRATION_METRICS
from stockpot.metrics.classes import CLASS_METRICS
from stockpot.metrics.likelihoods import LIKELIHOOD_METRICS
from stockpot.metrics.values import VALUE_METRICS

__all__ = ["METRICS", "as_metric", "loss_by_example", "per_example"]

#: Name -> metric of (logits, labels) or what its kind says instead.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*CLASS_METRICS, *CALIBRATION_METRICS, *VALUE_METRICS, *LIKELIHOOD_METRICS)}
)


def as_metric(metric: str | Metric) -> Metric:
    """The metric of that name, or the metric itself.

    Args:
        metric: a name in `METRICS`, or any metric.

    Raises:
        ConfigError: an unknown name.

    Example:
        >>> as_metric("nll").higher_is_better
        False
    """
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        nearest = difflib.get_close_matches(str(metric), METRICS, n=1)
        raise ConfigError(
            f"metric {metric!r} is unknown" + (f" (did you mean {nearest[0]!r}?)" if nearest else ""),
            fix=f"use one of: {', '.join(METRICS)}",
        )
    return METRICS[metric]


def per_example(metric: str) -> PerExample:
    """The function that gives one number per example, whose mean is the metric.

    Args:
        metric: "accuracy", "top_5" (0 or 1 each), "nll" (nats), "brier", "mse" or "text_nll" (nats).

    Returns:
        (logits [n, classes], labels [n]) -> [n] float64; for the last two what their kind says instead.

    Raises:
        ConfigError: a metric that is no mean over examples, or is unknown.

    Example:
        >>> per_example("accuracy")([[2.0, 1.0], [2.0, 1.0]], [0, 1])
        array([1., 0.])
    """
    found = METRICS[metric].per_example if metric in METRICS else None
    if found is None:
        means = [name for name, known in METRICS.items() if known.per_example]
        raise ConfigError(
            f"metric {metric!r} is not known as a mean over examples", fix=f"use one of: {', '.join(means)}"
        )
    return found


#: Kind of a metric -> the loss that is smooth in the weights.
_LOSSES = {"classes": "nll", "values": "mse", "likelihoods": "text_nll"}


def loss_by_example(metric: str) -> PerExample:
    """The smooth loss of the predictions that a metric is of: barriers and landscapes are drawn of it.

    Example:
        >>> loss_by_example("r2")([1.0, 2.0], [1.0, 4.0])
        array([0., 4.])
    """
    return per_example(_LOSSES[METRICS[metric].kind])
