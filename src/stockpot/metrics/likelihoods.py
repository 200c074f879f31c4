"""Metrics of texts that a language model gave likelihoods: a column of log-likelihoods and the numbers of tokens."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError, EvaluationError
from stockpot.metrics._inputs import Array, Values, checked_values
from stockpot.metrics._metric import Metric, mean_metric
from stockpot.metrics._resampling import Statistic
from stockpot.types import Score

__all__ = ["LIKELIHOOD_METRICS", "text_nll", "token_nll"]

#: A mean log-likelihood may exceed 0 by rounding alone.
_ROUNDING = 1e-3


def text_nll(log_likelihoods: npt.ArrayLike, n_tokens: npt.ArrayLike) -> Score:
    """Mean over texts of the negative log-likelihood per token, in nats; lower is better.

    ``-(1/n) sum_j log_likelihood_j``: every text counts the same, however long it is; standard error ``sd / sqrt(n)``.

    Args:
        log_likelihoods: [n] or [n, 1], each the mean over the scored tokens of one text, n >= 1.
        n_tokens: [n] how many these are, >= 1; they do not weigh.

    Returns:
        A score of at least 0; its standard error is None for n = 1.

    Raises:
        DataError: no texts, shapes that do not fit, or texts without tokens.
        EvaluationError: numbers that are not finite, or above 0, which no log-likelihood is.

    Example:
        >>> text_nll([-1.0, -3.0], [10, 30]).value
        2.0
    """
    return _TEXT_NLL(log_likelihoods, n_tokens)


def token_nll(log_likelihoods: npt.ArrayLike, n_tokens: npt.ArrayLike) -> Score:
    """Negative log-likelihood per token of all texts together, the logarithm of perplexity; lower is better.

    ``-sum_j n_j log_likelihood_j / sum_j n_j``: long texts count more. The standard error is bootstrapped over texts.

    Args:
        log_likelihoods: [n] or [n, 1], each the mean over the scored tokens of one text, n >= 1.
        n_tokens: [n] how many these are, >= 1.

    Returns:
        A score of at least 0; its standard error is None for n = 1.

    Raises:
        DataError: no texts, shapes that do not fit, or texts without tokens.
        EvaluationError: numbers that are not finite, or above 0, which no log-likelihood is.

    Example:
        >>> token_nll([-1.0, -3.0], [10, 30]).value
        2.5
    """
    return _TOKEN_NLL(log_likelihoods, n_tokens)


def _checked(log_likelihoods: npt.ArrayLike, n_tokens: npt.ArrayLike) -> Values:
    found = checked_values(log_likelihoods, n_tokens)
    if n_bad := int(np.count_nonzero(found.targets < 1)):
        raise DataError(f"{n_bad} of {len(found.targets)} texts have no scored token", fix="remove empty texts")
    if n_bad := int(np.count_nonzero(found.predictions > _ROUNDING)):
        raise EvaluationError(
            f"{n_bad} of {len(found.targets)} log-likelihoods are above 0: these are other numbers",
            fix="score logits by accuracy or nll, predicted numbers by mse",
        )
    return found


def _text_values(log_likelihoods: npt.ArrayLike, n_tokens: npt.ArrayLike) -> Array:
    return -_checked(log_likelihoods, n_tokens).predictions


def _token_value(log_likelihoods: npt.ArrayLike, n_tokens: npt.ArrayLike) -> float:
    found = _checked(log_likelihoods, n_tokens)
    return -math.fsum(found.predictions * found.targets) / math.fsum(found.targets)


def _token_statistic(log_likelihoods: npt.ArrayLike, n_tokens: npt.ArrayLike) -> Statistic:
    found = _checked(log_likelihoods, n_tokens)
    order = np.lexsort(found)  # the sums inside run in one order, whatever the rows'
    sums, counts = (-found.predictions * found.targets)[order], found.targets[order]
    return Statistic(order, lambda weights: (weights @ sums) / (weights @ counts))


_TEXT_NLL = mean_metric("text_nll", _text_values, higher_is_better=False, kind="likelihoods")
_TOKEN_NLL = Metric(
    "token_nll",
    _token_value,
    higher_is_better=False,
    kind="likelihoods",
    prepare=_token_statistic,
    answers=_text_values,
)

#: The metrics of this file, in the order in which they are listed.
LIKELIHOOD_METRICS = (_TEXT_NLL, _TOKEN_NLL)
