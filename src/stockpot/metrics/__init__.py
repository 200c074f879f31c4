"""Scores and their standard errors: arrays in, numbers out.

Sums over examples are exactly rounded (`math.fsum`) or run in an order that follows from the examples, so the order of
the rows never shows in a score.

What a standard error is here, and where it ends:

- accuracy, top-k: binomial, ``sqrt(p (1 - p) / n)``; 0 when all or none are right, n = 1 included (the plug-in
  estimate, which says no more than that no wrong, or no right, example was seen);
- means of other quantities: ``sd / sqrt(n)`` with n - 1 in the variance; None for n = 1, where there is no estimate;
- what is no mean over examples (F1, Matthews, calibration errors, R^2, rank correlation): `bootstrap`, seeded;
- means over splits that share items: clustered by item (`shift_mean`, `paired_difference`, `score_over_splits`,
  `compare_paired`); None for a single item.

Nothing is NaN: what has no estimate is None, what has no value is an error. scikit-learn and scipy (the extra `eval`)
are imported by the metrics that need them.
"""

from __future__ import annotations

from stockpot.metrics._metric import Metric, PerExample
from stockpot.metrics._registry import METRICS, as_metric, loss_by_example, per_example
from stockpot.metrics.bootstrap import bootstrap
from stockpot.metrics.calibration import (
    TEMPERATURE_BOUNDS,
    ReliabilityBin,
    expected_calibration_error,
    fit_temperature,
    reliability,
    scaled,
)
from stockpot.metrics.classes import accuracy, accuracy_and_f1, brier, f1, f1_macro, matthews, nll, top_k
from stockpot.metrics.likelihoods import text_nll, token_nll
from stockpot.metrics.means import Difference, mean_of_scores, shift_mean
from stockpot.metrics.over_splits import PairedTest, compare_paired, compare_values, score_over_splits
from stockpot.metrics.paired import mcnemar_exact, paired_difference
from stockpot.metrics.selection import Optimism, best_mean, split_half_optimism
from stockpot.metrics.values import mse, r2, spearman

__all__ = [
    "METRICS",
    "TEMPERATURE_BOUNDS",
    "Difference",
    "Metric",
    "Optimism",
    "PairedTest",
    "PerExample",
    "ReliabilityBin",
    "accuracy",
    "accuracy_and_f1",
    "as_metric",
    "best_mean",
    "bootstrap",
    "brier",
    "compare_paired",
    "compare_values",
    "expected_calibration_error",
    "f1",
    "f1_macro",
    "fit_temperature",
    "loss_by_example",
    "matthews",
    "mcnemar_exact",
    "mean_of_scores",
    "mse",
    "nll",
    "paired_difference",
    "per_example",
    "r2",
    "reliability",
    "scaled",
    "score_over_splits",
    "shift_mean",
    "spearman",
    "split_half_optimism",
    "text_nll",
    "token_nll",
    "top_k",
]
