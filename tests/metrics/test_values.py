from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stockpot.errors import DataError, EvaluationError, MissingExtraError
from stockpot.metrics import METRICS, mse, per_example, r2, spearman

often = settings(max_examples=50, deadline=None, derandomize=True)
every_metric = pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if metric.kind == "values"])


@st.composite
def numbers(draw: st.DrawFn) -> tuple[Any, Any]:
    """Predictions and targets with many ties; targets that vary."""
    n = draw(st.integers(2, 12))
    elements = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e3, 1e3, width=16))
    predictions, targets = (draw(hnp.arrays(np.float32, n, elements=elements)) for _ in range(2))
    if np.ptp(targets) < 1e-3:
        targets[0] += 1
    return predictions, targets


@often
@given(numbers())
def test_values_are_scikit_learns_and_scipys(drawn: Any) -> None:
    sklearn_metrics, stats = pytest.importorskip("sklearn.metrics"), pytest.importorskip("scipy.stats")
    predictions, targets = (values.astype(np.float64) for values in drawn)
    assert mse(*drawn).value == pytest.approx(sklearn_metrics.mean_squared_error(targets, predictions), rel=1e-12)
    assert r2(*drawn).value == pytest.approx(sklearn_metrics.r2_score(targets, predictions), rel=1e-9, abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.spearmanr(predictions, targets).statistic
    assert spearman(*drawn).value == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-12)


@often
@given(numbers())
def test_what_resamples_are_scored_with_is_the_same_value(drawn: Any) -> None:
    for name in ("r2", "spearman"):
        metric = METRICS[name]
        assert metric.statistic(*drawn).value == pytest.approx(metric.function(*drawn), rel=1e-9, abs=1e-9)


@every_metric
def test_a_column_is_as_good_as_a_vector_and_integers_as_floats(metric: str) -> None:
    predictions, targets = np.array([1, 2, 4, 3]), np.array([1, 2, 3, 5])
    expected = METRICS[metric](predictions, targets)
    assert METRICS[metric](predictions[:, None].astype(np.float32), targets.astype(float)) == expected
    assert expected.metric == metric
    assert expected.higher_is_better is (metric != "mse")


@every_metric
def test_the_order_of_the_rows_does_not_show(metric: str) -> None:
    generator = np.random.default_rng(2)
    targets = np.round(generator.normal(size=500), 1)
    predictions = np.round(targets + generator.normal(size=500), 1)
    order = generator.permutation(500)
    assert METRICS[metric](predictions, targets) == METRICS[metric](predictions[order], targets[order])


@pytest.mark.parametrize("metric", ["r2", "spearman"])
def test_stderr_is_the_spread_of_the_score_over_fresh_samples(metric: str) -> None:
    generator = np.random.default_rng(3)
    scores = []
    for _ in range(100):
        targets = generator.normal(size=80)
        scores.append(METRICS[metric](targets + generator.normal(size=80), targets))
    assert np.mean([score.stderr for score in scores]) == pytest.approx(np.std([s.value for s in scores]), rel=0.15)


# --- degenerate input --------------------------------------------------------------------------------------------


def test_perfect_and_reversed_rankings_are_exact() -> None:
    targets = np.random.default_rng(0).normal(size=1001)
    assert spearman(np.exp(targets), targets).value == 1.0
    assert spearman(-targets, targets).value == -1.0
    assert r2(targets, targets).value == 1.0


def test_constant_predictions() -> None:
    targets = [1.0, 2.0, 6.0]
    assert spearman([5.0] * 3, targets).value == 0.0
    assert spearman([5.0] * 3, targets).stderr == 0.0
    assert r2([3.0] * 3, targets).value == 0.0
    assert r2([0.0] * 3, targets).value < 0


@pytest.mark.parametrize("metric", ["r2", "spearman"])
@pytest.mark.parametrize("targets", [[1.0], [2.0, 2.0, 2.0], [0.0, 1e-200]])
def test_constant_targets_are_refused(metric: str, targets: Any) -> None:
    for call in (METRICS[metric], METRICS[metric].statistic):
        with pytest.raises(DataError, match=f"undefined: all {len(targets)} targets are the same"):
            call(np.arange(len(targets)), targets)
    assert mse(targets, targets).value == 0.0


def test_mse_of_one_example_has_no_spread() -> None:
    assert (mse([3.0], [1.0]).value, mse([3.0], [1.0]).stderr) == (4.0, None)


def test_two_examples_have_resamples_enough() -> None:
    """Half of all resamples of two examples hold one of them twice; the others are the data."""
    for metric in ("r2", "spearman"):
        assert METRICS[metric]([0.1, 0.3], [0.0, 1.0]).stderr in (None, pytest.approx(0.0, abs=1e-12))


def test_large_numbers_neither_overflow_nor_warn() -> None:
    assert mse([1e70, 0.0], [0.0, 0.0]).value == pytest.approx(5e139)
    assert r2([1e70, 0.0], [0.0, 1.0]).value == pytest.approx(-2e140)
    with pytest.raises(EvaluationError, match=r"R\^2 is beyond float64"):
        r2([1e70, 0.0], [0.0, 1e-140])


@every_metric
class TestBadInput:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e71])
    def test_not_finite(self, metric: str, bad: float) -> None:
        with pytest.raises(EvaluationError, match="1 of 3 predictions are not finite"):
            METRICS[metric]([bad, 0.0, 1.0], [0.0, 1.0, 2.0])
        with pytest.raises(DataError, match="1 of 3 targets are not finite"):
            METRICS[metric]([0.0, 1.0, 2.0], [bad, 0.0, 1.0])

    def test_no_examples(self, metric: str) -> None:
        with pytest.raises(DataError, match="no examples to score"):
            METRICS[metric]([], [])

    @pytest.mark.parametrize(
        ("predictions", "targets"), [([1.0], [1.0, 2.0]), (np.zeros((2, 2)), [0, 1]), ([0.0, 1.0], [[0.0], [1.0]])]
    )
    def test_shapes_show_both_sides(self, metric: str, predictions: Any, targets: Any) -> None:
        with pytest.raises(DataError, match="do not fit") as raised:
            METRICS[metric](predictions, targets)
        assert str(list(np.shape(predictions))) in str(raised.value)
        assert str(list(np.shape(targets))) in str(raised.value)

    def test_no_numbers(self, metric: str) -> None:
        with pytest.raises(DataError, match="targets <U1, not numbers"):
            METRICS[metric]([0.0, 1.0], ["a", "b"])


@pytest.mark.parametrize(("metric", "module"), [("r2", "sklearn.metrics"), ("spearman", "scipy.stats")])
def test_a_missing_package_names_the_extra(metric: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"the metric {metric} needs .*\n.*stockpot\[eval\]"):
        METRICS[metric]([0.0, 1.0], [0.0, 1.0])


def test_squared_errors_are_the_values_per_example() -> None:
    assert per_example("mse")([1.0, 2.0], [0.0, 4.0]).tolist() == [1.0, 4.0]
