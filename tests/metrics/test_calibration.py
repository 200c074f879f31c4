from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_references import predictions, textbook_ece, textbook_nll
from stockpot.errors import ConfigError, DataError, EvaluationError
from stockpot.metrics import (
    METRICS,
    TEMPERATURE_BOUNDS,
    expected_calibration_error,
    fit_temperature,
    nll,
    reliability,
    scaled,
)

often = settings(max_examples=50, deadline=None, derandomize=True)
both_bins = pytest.mark.parametrize("bins", ["mass", "width"])


def calibrated(generator: np.random.Generator, n: int, n_classes: int, temperature: float) -> tuple[Any, Any]:
    """Logits that are `temperature` times those the labels were drawn from."""
    logits = generator.normal(size=(n, n_classes)) * 1.5
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1).clip(max=n_classes - 1)
    return temperature * logits, labels


# --- expected calibration error ----------------------------------------------------------------------------------


@both_bins
@often
@given(drawn=predictions(), n_bins=st.integers(1, 20))
def test_ece_is_that_of_a_loop(bins: Any, drawn: Any, n_bins: int) -> None:
    score = expected_calibration_error(*drawn, n_bins=n_bins, bins=bins)
    assert score.value == pytest.approx(textbook_ece(*drawn, n_bins, bins), abs=1e-12)
    assert 0 <= score.value <= 1
    assert not score.higher_is_better


@both_bins
@often
@given(drawn=predictions(), n_bins=st.integers(1, 20))
def test_reliability_adds_up_to_the_ece(bins: Any, drawn: Any, n_bins: int) -> None:
    found, n = reliability(*drawn, n_bins, bins), len(drawn[1])
    assert sum(b.n for b in found) == n
    assert len(found) <= n_bins
    assert [b.mean_confidence for b in found] == sorted(b.mean_confidence for b in found)
    total = sum(b.n / n * abs(b.accuracy - b.mean_confidence) for b in found)
    assert total == pytest.approx(expected_calibration_error(*drawn, n_bins, bins).value, abs=1e-12)
    right = sum(b.n * b.accuracy for b in found) / n
    assert right == pytest.approx(METRICS["accuracy"](*drawn).value)


@pytest.mark.parametrize(("n", "n_bins"), [(150, 15), (100, 15), (7, 15), (1000, 3)])
def test_bins_of_equal_mass_differ_by_one_at_most(n: int, n_bins: int) -> None:
    logits, labels = calibrated(np.random.default_rng(0), n, 4, 1.0)
    sizes = [b.n for b in reliability(logits, labels, n_bins)]
    assert len(sizes) == min(n, n_bins)
    assert max(sizes) - min(sizes) <= 1


def test_edges_of_equal_width_belong_to_the_lower_bin() -> None:
    """Confidence of exactly 1/2 is in (0, 1/2]."""
    sure, torn = [50.0, 0.0], [0.0, 0.0]
    assert [b.n for b in reliability([sure, torn, torn], [0, 0, 0], 2, "width")] == [2, 1]


def test_the_metrics_have_15_bins() -> None:
    drawn = calibrated(np.random.default_rng(1), 400, 3, 2.0)
    assert METRICS["ece"](*drawn) == expected_calibration_error(*drawn)
    assert METRICS["ece_equal_width"](*drawn) == expected_calibration_error(*drawn, bins="width")
    assert METRICS["ece"](*drawn).value == pytest.approx(textbook_ece(*drawn, 15, "mass"), abs=1e-12)
    assert expected_calibration_error(*drawn, n_bins=10).metric == "ece_10"


def test_one_wrong_sure_answer_is_all_wrong() -> None:
    assert METRICS["ece"]([[1000.0, 0.0]], [1]).value == 1.0
    assert METRICS["ece"]([[1000.0, 0.0]], [1]).stderr is None


def test_calibrated_models_are_calibrated() -> None:
    generator = np.random.default_rng(2)
    good = METRICS["ece"](*calibrated(generator, 3000, 5, 1.0))
    bad = METRICS["ece"](*calibrated(generator, 3000, 5, 3.0))
    assert good.value < 0.04
    assert bad.value > 0.15
    assert 0.001 < bad.stderr < 0.02


@pytest.mark.parametrize(
    ("n_bins", "bins", "message"),
    [(0, "mass", "n_bins is 0"), (2.5, "mass", "n_bins is 2.5"), (5, "equal", "bins is 'equal'")],
)
def test_bins_that_are_none(n_bins: Any, bins: Any, message: str) -> None:
    for function in (expected_calibration_error, reliability):
        with pytest.raises(ConfigError, match=message):
            function(np.eye(2), [0, 1], n_bins, bins)


# --- temperature -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 2.5, 20.0])
def test_temperature_is_scipys(n_classes: int, temperature: float) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    logits, labels = calibrated(np.random.default_rng(3), 300, n_classes, temperature)

    def loss(log_t: float) -> float:
        return sum(textbook_nll(row, y) for row, y in zip(logits / math.exp(log_t), labels, strict=True))

    bounds = tuple(math.log(temperature) + shift for shift in (-1.5, 1.5))
    found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9, "maxiter": 60})
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(math.exp(found.x), rel=3e-7)  # a loss says no more about its minimum's place
    assert fitted == pytest.approx(temperature, rel=0.4)


@often
@given(predictions())
def test_the_slope_is_0_or_the_temperature_is_at_a_bound(drawn: Any) -> None:
    logits, labels = drawn
    fitted = fit_temperature(logits, labels)
    coolest, hottest = TEMPERATURE_BOUNDS
    assert coolest <= fitted <= hottest
    losses = [
        nll(scaled(logits, t), labels).value for t in (fitted, max(coolest, fitted / 1.01), min(100, fitted * 1.01))
    ]
    assert losses[0] <= min(losses) * (1 + 1e-12) + 1e-12
    assert losses[0] <= nll(logits, labels).value * (1 + 1e-12) + 1e-12


@often
@given(st.floats(0.2, 5), st.integers(0, 9))
def test_scaled_logits_have_a_scaled_temperature(factor: float, seed: int) -> None:
    logits, labels = calibrated(np.random.default_rng(seed), 100, 3, 1.0)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-9)
    assert fit_temperature(logits + 1e3 * factor, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


def test_at_the_ends() -> None:
    assert fit_temperature([[1.0, 0.0], [0.0, 1.0]], [0, 1]) == 0.01  # separable: no minimum
    assert fit_temperature([[1.0, 0.0], [0.0, 1.0]], [1, 0]) == 100.0  # against the logits
    assert fit_temperature([[3.0, 3.0], [0.0, 0.0]], [1, 0]) == 1.0  # nothing to scale
    assert fit_temperature([[3.0]], [0]) == 1.0
    assert 0.01 < fit_temperature([[1.0, 0.0]] * 1000, [0] * 999 + [1]) < 1.0
    assert fit_temperature(np.float32([[3e38, -3e38]]), [1]) == 100.0


def test_a_long_tail_does_not_slow_newton_down() -> None:
    """One doubtful example among sure ones: the slope is an exponential along which Newton's steps are constant."""
    logits = np.array([[30.0, 0.0]] * 2000 + [[0.0, 1e-3]])
    fitted = fit_temperature(logits, [0] * 2001)
    slope = [nll(logits / t, [0] * 2001).value for t in (fitted * 0.999, fitted, fitted * 1.001)]
    assert slope[1] <= min(slope)
    assert 0.01 < fitted < 100


def test_masked_classes_stay_masked() -> None:
    logits, labels = calibrated(np.random.default_rng(4), 200, 3, 2.0)
    masked = np.concatenate([logits, np.full((200, 1), -math.inf)], axis=1)
    assert fit_temperature(masked, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-12)
    assert np.isneginf(scaled(masked, 2.0)[:, 3]).all()


@pytest.mark.parametrize(
    ("logits", "labels", "error"),
    [
        ([[0.0, -math.inf]], [1], EvaluationError),
        ([[math.nan, 0.0]], [1], EvaluationError),
        ([[math.inf, 0.0]], [0], EvaluationError),
        ([[0.0, 0.0]], [2], DataError),
        ([], [], DataError),
    ],
)
def test_fit_refuses(logits: Any, labels: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        fit_temperature(logits, labels)


@often
@given(predictions(), st.floats(0.01, 100))
def test_temperature_never_changes_an_answer(drawn: Any, temperature: float) -> None:
    logits, _ = drawn
    found = scaled(logits, temperature)
    assert found.dtype == np.float64
    assert np.array_equal(found.argmax(axis=1), logits.argmax(axis=1))
    assert found == pytest.approx(logits.astype(float) / temperature, rel=1e-15)


def test_neighbours_in_float64_keep_their_order() -> None:
    """Division may round two neighbours to one number; then the earlier class would win."""
    generator = np.random.default_rng(5)
    low = generator.uniform(1, 2, size=3000)
    logits = np.stack([low, np.nextafter(low, 3)], axis=1)
    merged = (logits / 1.9).argmax(axis=1) == 0
    assert merged.sum() > 10  # the case exists
    assert (scaled(logits, 1.9).argmax(axis=1) == 1).all()
    assert scaled(logits, 1.9) == pytest.approx(logits / 1.9, rel=3e-16)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_no_temperature(temperature: float) -> None:
    with pytest.raises(ConfigError, match="not above 0 and finite"):
        scaled([[1.0, 2.0]], temperature)


@pytest.mark.parametrize(
    ("logits", "message"),
    [([1.0, 2.0], r"\[2\] are not"), ([[math.nan]], "NaN"), ([[1e307, 0.0]], r"over a temperature of 0.01 leave")],
)
def test_scaled_refuses(logits: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        scaled(logits, 0.01)
