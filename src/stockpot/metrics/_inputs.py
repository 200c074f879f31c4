"""What metrics accept: arrays that fit each other, or an error that shows both sides."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import ConfigError, DataError, EvaluationError, MissingExtraError
from stockpot.types import Predictions

__all__ = [
    "Array",
    "Values",
    "check_count",
    "checked_classes",
    "checked_values",
    "library",
    "probabilities_of",
]

Array: TypeAlias = np.ndarray[Any, Any]

#: Fourth powers (the variance of squared errors) of larger numbers, summed over many examples, leave float64.
LARGEST_VALUE = 1e70


class Values(NamedTuple):
    """Predicted and true numbers [n] float64, finite."""

    predictions: Array
    targets: Array


def checked_classes(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Predictions:
    """Logits [n, classes] without NaN and labels [n] in 0 .. classes - 1, n >= 1."""
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


def checked_values(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Values:
    """Predictions [n] or [n, 1] and targets [n], n >= 1, as finite float64 [n] each."""
    predicted, true = np.asarray(predictions), np.asarray(targets)
    if true.shape == (0,):
        raise DataError("there are no examples to score", fix="check the split's file and filters")
    if true.ndim != 1 or predicted.shape not in (true.shape, (*true.shape, 1)):
        raise DataError(
            f"predictions {list(predicted.shape)} and targets {list(true.shape)} do not fit: [n] or [n, 1] and [n] are "
            "needed",
            fix="give one number and one target per example",
        )
    if true.dtype.kind not in "iuf" or predicted.dtype.kind not in "iuf":
        raise DataError(
            f"predictions are {predicted.dtype} and targets {true.dtype}, not numbers", fix="give real numbers"
        )
    found = Values(predicted.reshape(true.shape).astype(np.float64), true.astype(np.float64))
    if n_bad := _n_unusable(found.targets):
        raise DataError(f"{n_bad} of {len(true)} targets are not finite numbers", fix="check the label column")
    if n_bad := _n_unusable(found.predictions):
        raise EvaluationError(
            f"{n_bad} of {len(true)} predictions are not finite, or beyond 1e70",
            fix="evaluate with precision: fp32, and check the ingredients for diverged runs",
        )
    return found


def probabilities_of(checked: Predictions) -> Array:
    """softmax(logits) [n, classes] float64; a masked class (-inf) has probability 0."""
    wide = checked.logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite logits are judged below, once
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))  # the largest becomes exp(0): no overflow
    if n_bad := int(np.count_nonzero(np.isnan(powers).any(axis=1))):
        raise EvaluationError(
            f"the probabilities are undefined in {n_bad} of {len(powers)} examples: infinite logits",
            fix="give the model a finite logit for at least one class and none of +inf, or use accuracy",
        )
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def check_count(value: int, name: str) -> None:
    """Raises ConfigError unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} is {value!r}, not an integer of at least 1", fix=f"give {name} >= 1")


def library(module: str, *, needed_for: str) -> Any:
    """A module of scikit-learn or scipy, imported when it is first needed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        package = module.partition(".")[0]
        if exc.name is not None and exc.name.partition(".")[0] != package:
            raise  # installed, but broken: not a missing extra
        distribution = {"sklearn": "scikit-learn"}.get(package, package)
        raise MissingExtraError(distribution, extra="eval", needed_for=needed_for) from exc


def _n_unusable(values: Array) -> int:
    return int(np.count_nonzero(~(np.abs(values) <= LARGEST_VALUE)))


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
