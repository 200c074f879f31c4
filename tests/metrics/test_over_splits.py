from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stockpot.errors import ConfigError, DataError
from stockpot.metrics import (
    METRICS,
    bootstrap,
    compare_paired,
    mcnemar_exact,
    paired_difference,
    per_example,
    score_over_splits,
    shift_mean,
)
from stockpot.types import Predictions

RESAMPLED = [name for name, metric in METRICS.items() if metric.per_example is None]


def methods(
    seed: int, n_items: int, *, shares: Any = (1.0,), gap: float = 0.0, values: bool = False
) -> tuple[Any, Any, Any]:
    """Two methods on the same items, which they find hard together; a split holds a share of the items."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=n_items) if values else generator.integers(0, 2, n_items)
    common = generator.normal(size=n_items)
    a, b, ids = [], [], []
    for share in shares:
        kept = np.flatnonzero(generator.random(n_items) < share)
        for found, strength in ((a, 1 + gap), (b, 1.0)):
            noise = common[kept] + 0.7 * generator.normal(size=len(kept))
            margin = strength * (truth[kept] if values else 2 * truth[kept] - 1) + noise
            found.append(Predictions(margin if values else np.stack([0 * margin, margin], axis=1), truth[kept]))
        ids.append(kept)
    return a, b, ids


def of_kind(metric: str, seed: int, n_items: int, **more: Any) -> tuple[Any, Any, Any]:
    a, b, ids = methods(seed, n_items, values=METRICS[metric].kind != "classes", **more)
    if METRICS[metric].kind == "likelihoods":
        a, b = ([_as_likelihoods(split) for split in splits] for splits in (a, b))
    return a, b, ids


def _as_likelihoods(split: Predictions) -> Predictions:
    """Numbers below 0 and whole ones above."""
    return Predictions(-np.exp(-split.logits / 2), 1 + np.round(10 * np.abs(split.labels)).astype(np.int64))


# --- score_over_splits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["accuracy", "top_5", "nll", "brier", "mse"])
def test_means_are_shift_means(metric: str) -> None:
    a, _, ids = of_kind(metric, 0, 60, shares=(1, 0.7))
    values = [per_example(metric)(split.logits, split.labels) for split in a]
    expected = shift_mean(values, ids, metric=metric, higher_is_better=METRICS[metric].higher_is_better)
    assert score_over_splits(metric, a, ids) == expected


@pytest.mark.parametrize("metric", RESAMPLED)
def test_one_split_is_the_bootstrap(metric: str) -> None:
    a, _, ids = of_kind(metric, 1, 80)
    found = score_over_splits(metric, a, [ids[0] // 2])
    assert found == bootstrap(metric, a[0].logits, a[0].labels, ids[0] // 2)


@pytest.mark.parametrize("metric", RESAMPLED)
def test_the_same_answers_under_every_shift_are_no_new_evidence(metric: str) -> None:
    a, _, ids = of_kind(metric, 2, 80)
    once, thrice = score_over_splits(metric, a, ids), score_over_splits(METRICS[metric], a * 3, ids * 3)
    assert thrice.value == pytest.approx(once.value)
    assert thrice.stderr == pytest.approx(once.stderr)
    assert thrice.n_examples == 3 * once.n_examples
    apart = score_over_splits(metric, a * 3, [ids[0] + 1000 * n for n in range(3)])
    assert apart.stderr == pytest.approx(once.stderr / math.sqrt(3), rel=0.12)


@pytest.mark.parametrize("metric", ["f1", "spearman"])
def test_splits_count_the_same_and_resamples_are_joint(metric: str) -> None:
    a, _, ids = of_kind(metric, 3, 30, shares=(1, 0.6))
    found = score_over_splits(metric, a, ids)
    value = np.mean([METRICS[metric].function(split.logits, split.labels) for split in a])
    generator, means = np.random.default_rng(0), []
    for _ in range(1000):
        drawn = generator.integers(0, 30, 30)
        rows = [np.concatenate([np.flatnonzero(split_ids == item) for item in drawn]) for split_ids in ids]
        means.append(
            np.mean([METRICS[metric].function(s.logits[r], s.labels[r]) for s, r in zip(a, rows, strict=True)])
        )
        if len(means) == 60:  # a loop is slow: the first 60 resamples, through the comparison with nothing
            break
    nothing = [Predictions(np.zeros_like(s.logits), s.labels) for s in a]  # F1 and correlation 0 in every resample
    short = compare_paired(metric, a, nothing, ids, n_resamples=60)
    assert found.value == short.difference == pytest.approx(value)
    assert short.stderr == pytest.approx(np.std(means, ddof=1), rel=1e-9)


def test_a_split_that_a_resample_misses_makes_it_undefined() -> None:
    a, _, ids = methods(4, 6)
    rare = Predictions(a[0].logits[:1], a[0].labels[:1])
    score = score_over_splits("f1", [a[0], rare], [ids[0], ids[0][:1]])
    assert math.isfinite(score.value)
    assert score.stderr is None or score.stderr >= 0  # 1 - (5/6)^6 = 67 % of the resamples hold the rare item
    assert score.stderr is not None


def test_score_over_splits_refuses() -> None:
    a, _, ids = methods(5, 10)
    with pytest.raises(DataError, match="no splits"):
        score_over_splits("f1", [], [])
    with pytest.raises(DataError, match="item ids of shapes"):
        score_over_splits("f1", a, [ids[0][1:]])
    with pytest.raises(DataError, match="no examples"):
        score_over_splits("f1", [Predictions(np.zeros((0, 2)), np.zeros(0, int))], [[]])
    with pytest.raises(ConfigError, match="unknown"):
        score_over_splits("f2", a, ids)


# --- compare_paired ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["accuracy", "top_5"])
def test_shares_on_one_split_of_distinct_items_get_mcnemars_test(metric: str) -> None:
    a, b, ids = methods(6, 100, gap=0.5)
    values = [per_example(metric)(split[0].logits, split[0].labels) for split in (a, b)]
    found, difference = compare_paired(metric, a, b, ids), paired_difference([values[0]], [values[1]], ids)
    assert (found.difference, found.stderr) == (difference.value, difference.stderr)
    assert (found.p, found.test) == (mcnemar_exact(*values), "mcnemar_exact")
    assert found.n_changed == np.count_nonzero(values[0] != values[1])
    assert (found.n_examples, found.n_items) == (100, 100)


@pytest.mark.parametrize(
    ("metric", "shares", "together"),
    [("accuracy", (1, 1), 1), ("accuracy", (1,), 2), ("nll", (1,), 1), ("mse", (1,), 1)],
)
def test_other_means_get_the_normal_test(metric: str, shares: Any, together: int) -> None:
    a, b, ids = of_kind(metric, 7, 60, shares=shares, gap=0.3)
    ids = [split // together for split in ids]
    values = [[per_example(metric)(split.logits, split.labels) for split in method] for method in (a, b)]
    found, difference = compare_paired(metric, a, b, ids), paired_difference(*values, ids)
    assert (found.difference, found.stderr, found.p) == (difference.value, difference.stderr, difference.p_value)
    assert (found.test, found.n_items, found.n_examples) == ("paired_normal", 60 // together, 60 * len(shares))


@pytest.mark.parametrize("metric", RESAMPLED)
def test_the_rest_gets_the_paired_bootstrap(metric: str) -> None:
    a, b, ids = of_kind(metric, 8, 60, shares=(1, 0.7), gap=1.0)
    found, mirrored = compare_paired(metric, a, b, ids), compare_paired(metric, b, a, ids)
    scores = [score_over_splits(metric, method, ids) for method in (a, b)]
    assert found.test == "paired_bootstrap"
    assert found.difference == pytest.approx(scores[0].value - scores[1].value) == -mirrored.difference
    assert mirrored.stderr == pytest.approx(found.stderr, rel=1e-9)
    assert mirrored.p == pytest.approx(found.p, abs=1e-3)
    assert 0 < found.p <= 1
    assert found.n_examples == len(ids[0]) + len(ids[1])
    if metric.startswith("ece"):
        assert found.n_changed is None
    else:
        answers = [[s.logits if s.logits.ndim == 1 else s.logits.argmax(axis=1) for s in m] for m in (a, b)]
        assert found.n_changed == sum(np.count_nonzero(x != y) for x, y in zip(*answers, strict=True))


def test_pairing_removes_what_the_methods_share() -> None:
    a, b, ids = methods(9, 200)
    alone = [score_over_splits("f1", method, ids).stderr for method in (a, b)]
    assert compare_paired("f1", a, b, ids).stderr < 0.9 * math.hypot(*alone)


@pytest.mark.parametrize("metric", list(METRICS))
def test_a_method_against_itself(metric: str) -> None:
    a, _, ids = of_kind(metric, 10, 40)
    found = compare_paired(metric, a, a, ids)
    assert (found.difference, found.stderr, found.p) == (0.0, 0.0, 1.0)
    assert found.n_changed == (None if metric.startswith("ece") else 0)


@pytest.mark.parametrize("metric", ["f1", "nll", "ece"])
def test_one_item_allows_no_test(metric: str) -> None:
    a, b, ids = methods(11, 12, gap=2)
    found = compare_paired(metric, a, b, [0 * ids[0]])
    assert (found.stderr, found.p, found.n_items) == (None, None, 1)


def test_p_of_the_bootstrap_counts_both_tails_and_itself() -> None:
    a, b, ids = methods(12, 300, gap=3.0)
    found = compare_paired("matthews", a, b, ids, n_resamples=199)
    assert found.p == 2 / 200  # no resample reaches 0
    assert found.difference > 4 * found.stderr
    again = compare_paired("matthews", a, b, ids, n_resamples=199, seed=1)
    assert again.stderr != found.stderr


@pytest.mark.parametrize("metric", ["f1", "spearman"])
def test_the_bootstrap_finds_nothing_where_nothing_is_5_times_in_100(metric: str) -> None:
    p_values = [
        compare_paired(metric, *of_kind(metric, 100 + seed, 60, shares=(1,)), n_resamples=199).p for seed in range(200)
    ]
    assert np.mean([p <= 0.05 for p in p_values]) == pytest.approx(0.05, abs=0.035)
    assert np.mean([p <= 0.5 for p in p_values]) == pytest.approx(0.5, abs=0.1)


def test_methods_on_other_examples_are_refused() -> None:
    a, b, ids = methods(13, 10)
    fewer = [Predictions(b[0].logits[1:], b[0].labels[1:])]
    other = [Predictions(b[0].logits, 1 - b[0].labels)]
    for metric in ("accuracy", "f1"):
        with pytest.raises(DataError, match=r"have \[10\] and \[9\] examples"):
            compare_paired(metric, a, fewer, ids)
        with pytest.raises(DataError, match=r"not scored on the same labels\n  split 0: 10 of 10 labels differ"):
            compare_paired(metric, a, other, ids)
        with pytest.raises(DataError, match="no splits"):
            compare_paired(metric, [], [], [])
        with pytest.raises(ConfigError, match="n_resamples"):
            compare_paired(metric, a, b, ids, n_resamples=0)
