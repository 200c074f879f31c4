from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_references import resampled_rows
from stockpot.errors import ConfigError, DataError
from stockpot.metrics import METRICS, bootstrap, expected_calibration_error, shift_mean
from stockpot.metrics import _resampling as resampling

RESAMPLED = [name for name, metric in METRICS.items() if metric.per_example is None]


def given_to(metric: str, n: int, seed: int, *, ties: bool = False) -> tuple[Any, Any]:
    """Predictions that are better than chance."""
    generator = np.random.default_rng(seed)
    if METRICS[metric].kind == "values":
        targets = generator.normal(size=n)
        predictions = targets + generator.normal(size=n)
        return (np.round(predictions), np.round(targets)) if ties else (predictions, targets)
    if METRICS[metric].kind == "likelihoods":
        means = -generator.gamma(4.0, 0.5, n)
        return (np.round(means) if ties else means), generator.integers(1, 5 if ties else 500, n)
    n_classes = 2 if metric in ("f1", "accuracy_and_f1") else 4
    labels = generator.integers(0, n_classes, n)
    logits = generator.normal(size=(n, n_classes)) + np.eye(n_classes)[labels]
    return (np.round(logits) if ties else logits), labels


# --- against rows resampled in a loop ----------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("metric", list(METRICS))
def test_weights_give_what_resampled_rows_give(metric: str, ties: bool) -> None:
    logits, labels = given_to(metric, 40, 1, ties=ties)
    statistic = METRICS[metric].statistic(logits, labels)
    generator = np.random.default_rng(2)
    counts = np.stack([np.bincount(generator.integers(0, 40, 40), minlength=40) for _ in range(12)])
    fast = statistic.of_weights(counts[:, statistic.order])
    slow = [
        METRICS[metric].function(logits[rows], labels[rows]) for rows in (np.repeat(np.arange(40), c) for c in counts)
    ]
    assert fast == pytest.approx(slow, rel=1e-9, abs=1e-9)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(0, 99), st.sampled_from([*RESAMPLED, "nll"]))
def test_clusters_come_whole(n_items: int, seed: int, metric: str) -> None:
    logits, labels = given_to(metric, 15, seed, ties=True)
    ids = np.random.default_rng(seed).integers(0, n_items, 15)
    score = bootstrap(metric, logits, labels, ids, n_resamples=20, seed=seed)
    values = resampled_rows(METRICS[metric].function, logits, labels, ids, n_resamples=20, seed=seed)
    assert score.value == METRICS[metric].function(logits, labels)
    assert score.n_examples == 15
    if len(set(ids.tolist())) == 1 or len(values) < 10:
        assert score.stderr is None
    else:
        assert score.stderr == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-9)


def test_any_number_of_bins_can_be_resampled() -> None:
    logits, labels = given_to("ece", 60, 3)
    ids = np.arange(60)
    for bins in ("mass", "width"):
        values = resampled_rows(
            lambda z, y, bins=bins: expected_calibration_error(z, y, 4, bins).value,
            logits,
            labels,
            ids,
            n_resamples=30,
            seed=0,
        )
        from stockpot.metrics.calibration import _ece_metric

        found = bootstrap(_ece_metric(4, bins), logits, labels, ids, n_resamples=30)
        assert found.stderr == pytest.approx(np.std(values, ddof=1), rel=1e-9)


# --- what a standard error must do -------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", RESAMPLED)
def test_the_metrics_own_error_is_this_one(metric: str) -> None:
    drawn = given_to(metric, 100, 4)
    assert METRICS[metric](*drawn) == bootstrap(metric, *drawn)
    assert bootstrap(metric, *drawn) != bootstrap(metric, *drawn, seed=1)


@pytest.mark.parametrize("metric", ["accuracy", "nll", "brier"])
def test_means_have_their_textbook_error(metric: str) -> None:
    drawn = given_to(metric, 300, 5)
    assert bootstrap(metric, *drawn).stderr == pytest.approx(METRICS[metric](*drawn).stderr, rel=0.08)


def test_clusters_have_the_sandwichs_error() -> None:
    logits, labels = given_to("nll", 200, 6)
    logits, labels, ids = np.tile(logits, (3, 1)), np.tile(labels, 3), np.tile(np.arange(200), 3)
    expected = shift_mean([METRICS["nll"].per_example(logits, labels)], [ids]).stderr
    assert bootstrap("nll", logits, labels, ids).stderr == pytest.approx(expected, rel=0.08)
    assert bootstrap("nll", logits, labels).stderr < 0.7 * expected


@pytest.mark.parametrize("metric", RESAMPLED)
def test_a_thousand_resamples_cost_no_thousand_calls(metric: str) -> None:
    drawn, calls = given_to(metric, 50, 7), []
    function = METRICS[metric].function
    counting = replace(METRICS[metric], function=lambda *given: calls.append(1) or function(*given))
    assert bootstrap(counting, *drawn) == METRICS[metric](*drawn)
    assert len(calls) == 1


def test_neither_chunks_nor_names_of_items_show(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = given_to("f1", 50, 7)
    whole = bootstrap("f1", logits, labels, np.arange(50))
    assert bootstrap("f1", logits, labels, [f"{i:03}" for i in range(50)]) == whole
    for elements in (1, 333, 50 * 100):
        monkeypatch.setattr(resampling, "CHUNK_ELEMENTS", elements)
        assert bootstrap("f1", logits, labels, np.arange(50)) == whole


# --- degenerate input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [name for name in RESAMPLED if METRICS[name].kind == "classes"])
def test_one_item_has_no_spread(metric: str) -> None:
    logits, labels = given_to(metric, 5, 8)
    assert bootstrap(metric, logits[:1], labels[:1]).stderr is None
    assert bootstrap(metric, logits, labels, ["x"] * 5).stderr is None


def test_undefined_resamples_are_left_out() -> None:
    """One example of 6 differs: (5/6)^6 = 33 % of the resamples, and (1/6)^6, have constant targets."""
    predictions, targets = np.arange(6.0), np.array([0, 0, 0, 1, 0, 0.0])
    score = bootstrap("spearman", predictions, targets)
    values = resampled_rows(METRICS["spearman"].function, predictions, targets, np.arange(6), n_resamples=1000, seed=0)
    assert 600 < len(values) < 730
    assert score.stderr == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def test_too_few_defined_resamples_are_no_estimate() -> None:
    """Two items, one of which has the only other target: half of the resamples are undefined, here a bit more."""
    predictions, targets, ids = np.arange(4.0), np.array([0, 0, 0, 1.0]), [0, 0, 0, 1]
    seeds = range(6)
    defined = [
        len(resampled_rows(METRICS["r2"].function, predictions, targets, np.array(ids), n_resamples=40, seed=seed))
        for seed in seeds
    ]
    errors = [bootstrap("r2", predictions, targets, ids, n_resamples=40, seed=seed).stderr for seed in seeds]
    assert [error is None for error in errors] == [n < 20 for n in defined]
    assert None in errors
    assert 0.0 in errors  # what is defined is the data themselves


def test_nothing_positive_is_an_f1_of_0_with_no_spread() -> None:
    score = bootstrap("f1", [[1.0, 0.0]] * 30, [0] * 30)
    assert (score.value, score.stderr) == (0.0, 0.0)


@pytest.mark.parametrize("n_resamples", [0, -1, 1.5])
def test_no_resamples(n_resamples: Any) -> None:
    with pytest.raises(ConfigError, match="n_resamples is"):
        bootstrap("f1", np.eye(2), [0, 1], n_resamples=n_resamples)


def test_refuses() -> None:
    with pytest.raises(DataError, match="item ids of shapes"):
        bootstrap("f1", np.eye(2), [0, 1], [0])
    with pytest.raises(DataError, match="no examples"):
        bootstrap("f1", [], [])
    with pytest.raises(ConfigError, match="unknown"):
        bootstrap("f2", np.eye(2), [0, 1])
    assert bootstrap("f1", np.eye(2), [0, 1], n_resamples=1).stderr is None
    assert math.isfinite(bootstrap("f1", np.eye(2), [0, 1]).stderr)
