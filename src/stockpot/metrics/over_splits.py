"""Any metric over one split or several that share items: its mean, and what two methods differ by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import DataError
from stockpot.metrics._inputs import Array, check_count
from stockpot.metrics._metric import N_RESAMPLES, Metric, PerExample
from stockpot.metrics._registry import as_metric
from stockpot.metrics._resampling import Term, resampled, spread
from stockpot.metrics.means import item_numbers, shift_mean
from stockpot.metrics.paired import mcnemar_exact, paired_difference
from stockpot.types import Predictions, Score

__all__ = ["PairedTest", "compare_paired", "compare_values", "score_over_splits"]

Test: TypeAlias = Literal["mcnemar_exact", "paired_normal", "paired_bootstrap"]
#: One array of ids [n_s] per split.
ItemIds: TypeAlias = Sequence[npt.ArrayLike]


def score_over_splits(
    metric: str | Metric, predictions_by_split: Sequence[Predictions], item_ids_by_split: ItemIds
) -> Score:
    """Unweighted mean over splits of a metric, its standard error clustered by item.

    Means over examples: the sandwich of `shift_mean`. Other metrics: 1,000 seeded bootstrap resamples, in each of which
    the same items are drawn for all splits (see `bootstrap`; a resample that draws nothing of a split is left out).

    Args:
        metric: its name, or the metric.
        predictions_by_split: logits [n_s, classes] and labels [n_s] of each of S >= 1 splits.
        item_ids_by_split: [n_s] integers or strings per split; the same item in two splits under the same id.

    Returns:
        The mean; n counts examples over all splits. The standard error is None for a single item.

    Raises:
        DataError: no splits, an empty one, or ids that do not fit.
        DataError, EvaluationError: as the metric.
        ConfigError: an unknown metric.

    Example:
        >>> clean, typos = Predictions(np.eye(2)[[0, 1, 1]], np.array([0, 1, 0])), Predictions(np.eye(2), np.arange(2))
        >>> round(score_over_splits("accuracy", [clean, typos], [["a", "b", "c"], ["a", "b"]]).value, 4)
        0.8333
    """
    chosen = as_metric(metric)
    _check_splits(predictions_by_split)
    if chosen.per_example is not None:
        return shift_mean(
            _of_each(chosen.per_example, predictions_by_split),
            item_ids_by_split,
            metric=chosen.name,
            higher_is_better=chosen.higher_is_better,
        )
    items, n_items = item_numbers(_lengths(predictions_by_split), item_ids_by_split)
    terms = _terms(chosen, predictions_by_split, items)
    stderr = spread(resampled(terms, n_items, n_resamples=N_RESAMPLES, seed=0), n_items, N_RESAMPLES)
    value = _mean_of_splits(chosen, predictions_by_split)
    return chosen.score(value, stderr, n_examples=sum(_lengths(predictions_by_split)))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How far two methods differ on the same examples, and how surely.

    Args:
        difference: metric of a less metric of b, in the metric's unit and natural direction.
        stderr: its standard error, clustered by item; None where the data allow no estimate.
        n_examples: number of pairs, over all splits.
        n_items: number of distinct items among them.
        p: two-sided p of "no difference"; None where the data allow no estimate.
        n_changed: examples that count differently (means over examples) or are answered differently (metrics of
            predicted classes or numbers) by the two; None for metrics of probabilities that are no means.
        test: where p comes from.
    """

    difference: float
    stderr: float | None
    n_examples: int
    n_items: int
    p: float | None
    n_changed: int | None
    test: Test


def compare_paired(
    metric: str | Metric,
    a_by_split: Sequence[Predictions],
    b_by_split: Sequence[Predictions],
    item_ids_by_split: ItemIds,
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> PairedTest:
    """Whether two methods differ on the same examples, by the test that fits the metric.

    - "mcnemar_exact": shares (accuracy, top-k) on one split of distinct items; `mcnemar_exact`.
    - "paired_normal": other means over examples, and shares over several splits: `paired_difference`.
    - "paired_bootstrap": all other metrics. Items are resampled jointly for both methods and all splits, and
      ``p = min(1, 2 min(#(d <= 0) + 1, #(d >= 0) + 1) / (n_resamples + 1))`` over the resampled differences d. For
      calibration errors it is conservative: resampling raises the smaller of two such errors more than the larger one.

    Args:
        metric: its name, or the metric.
        a_by_split: logits [n_s, classes] and labels [n_s] of method a, S >= 1 splits.
        b_by_split: the same of method b: the same examples in the same order.
        item_ids_by_split: [n_s] integers or strings per split; the same item in two splits under the same id.
        seed: of the bootstrap.
        n_resamples: of the bootstrap, >= 1; p cannot be below 2 / (n_resamples + 1).

    Returns:
        The difference with its standard error and p.

    Raises:
        DataError: no splits, splits or labels of the two methods that differ, or ids that do not fit.
        DataError, EvaluationError: as the metric.
        ConfigError: an unknown metric, or n_resamples below 1.

    Source:
        McNemar 1947; Davison and Hinkley 1997, "Bootstrap methods and their application", section 4.4 (+1).

    Example:
        >>> labels = np.array([0, 1, 1, 0, 1])
        >>> a, b = (Predictions(np.eye(2)[answers], labels) for answers in ([0, 1, 1, 0, 1], [0, 1, 0, 0, 1]))
        >>> found = compare_paired("accuracy", [a], [b], [range(5)])
        >>> round(found.difference, 4), found.p, found.n_changed, found.test
        (0.2, 1.0, 1, 'mcnemar_exact')
    """
    check_count(n_resamples, "n_resamples")
    chosen = as_metric(metric)
    _check_splits(a_by_split)
    _check_same_examples(a_by_split, b_by_split)
    items, n_items = item_numbers(_lengths(a_by_split), item_ids_by_split)
    if chosen.per_example is None:
        return _bootstrapped(chosen, (a_by_split, b_by_split), items, n_items, n_resamples, seed)
    a, b = (_of_each(chosen.per_example, splits) for splits in (a_by_split, b_by_split))
    return compare_values(chosen, a, b, items)


def compare_values(
    metric: str | Metric, a_by_split: Sequence[Array], b_by_split: Sequence[Array], item_ids_by_split: ItemIds
) -> PairedTest:
    """`compare_paired` for a mean over examples whose values are there already.

    Args:
        metric: a mean over examples.
        a_by_split: [n_s] of method a, from the metric's `per_example`.
        b_by_split: the same of method b.
        item_ids_by_split: [n_s] integers or strings per split.

    Returns:
        The difference with its standard error and p.

    Raises:
        DataError: arrays that do not fit each other.
        EvaluationError: values that are not finite.

    Example:
        >>> compare_values("accuracy", [np.array([1.0, 1.0])], [np.array([1.0, 0.0])], [[0, 1]]).n_changed
        1
    """
    chosen, a, b = as_metric(metric), a_by_split, b_by_split
    found = paired_difference(a, b, item_ids_by_split)
    is_exact = chosen.is_share and len(a) == 1 and found.n_items == len(a[0])
    return PairedTest(
        found.value,
        found.stderr,
        found.n_examples,
        found.n_items,
        mcnemar_exact(a[0], b[0]) if is_exact else found.p_value,
        _n_different(a, b),
        "mcnemar_exact" if is_exact else "paired_normal",
    )


def _bootstrapped(
    metric: Metric,
    methods: tuple[Sequence[Predictions], Sequence[Predictions]],
    items: Sequence[Array],
    n_items: int,
    n_resamples: int,
    seed: int,
) -> PairedTest:
    a, b = methods
    values = [_mean_of_splits(metric, method) for method in methods]
    terms = [
        term for method, sign in zip(methods, (1, -1), strict=True) for term in _terms(metric, method, items, sign)
    ]
    differences = resampled(terms, n_items, n_resamples=n_resamples, seed=seed)
    stderr = spread(differences, n_items, n_resamples)
    n_changed = None
    if metric.answers is not None:
        n_changed = _n_different(_of_each(metric.answers, a), _of_each(metric.answers, b))
    p = None if stderr is None else _two_sided(differences)
    return PairedTest(values[0] - values[1], stderr, sum(_lengths(a)), n_items, p, n_changed, "paired_bootstrap")


def _two_sided(differences: Array) -> float:
    rarer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, 2 * (int(rarer) + 1) / (len(differences) + 1))


def _terms(metric: Metric, splits: Sequence[Predictions], items: Sequence[Array], sign: int = 1) -> list[Term]:
    """The mean over splits, as a sum."""
    return [
        Term(metric.statistic(split.logits, split.labels), numbers, sign / len(splits))
        for split, numbers in zip(splits, items, strict=True)
    ]


def _mean_of_splits(metric: Metric, splits: Sequence[Predictions]) -> float:
    return math.fsum(metric.function(split.logits, split.labels) for split in splits) / len(splits)


def _of_each(function: PerExample, splits: Sequence[Predictions]) -> list[Array]:
    return [function(split.logits, split.labels) for split in splits]


def _n_different(a: Sequence[Array], b: Sequence[Array]) -> int:
    return sum(int(np.count_nonzero(left != right)) for left, right in zip(a, b, strict=True))


def _lengths(splits: Sequence[Predictions]) -> list[int]:
    return [len(split.labels) for split in splits]


def _check_splits(splits: Sequence[Predictions]) -> None:
    if not splits:
        raise DataError("there are no splits to take the mean over", fix="name at least one split")


def _check_same_examples(a_by_split: Sequence[Predictions], b_by_split: Sequence[Predictions]) -> None:
    if _lengths(a_by_split) != _lengths(b_by_split):
        raise DataError(
            f"the two methods have {_lengths(a_by_split)} and {_lengths(b_by_split)} examples on the splits",
            fix="compare predictions of the same examples in the same order",
        )
    problems = [
        f"split {number}: {np.count_nonzero(a.labels != b.labels)} of {len(a.labels)} labels differ"
        for number, (a, b) in enumerate(zip(a_by_split, b_by_split, strict=True))
        if not np.array_equal(a.labels, b.labels)
    ]
    if problems:
        raise DataError(
            "the two methods were not scored on the same labels",
            problems=problems,
            fix="compare predictions of the same examples in the same order",
        )
