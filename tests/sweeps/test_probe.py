"""The regression that is fitted in parts is scikit-learn's, and features are those of a plain forward pass."""

from __future__ import annotations

import numpy as np
import pytest

from stockpot.sweeps import probe
from stockpot.sweeps.probe import fitted_classifier, fitted_in_parts

torch = pytest.importorskip("torch")
linear_model = pytest.importorskip("sklearn.linear_model")


def made_up(n_classes: int, n: int = 400, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(n_classes)
    labels = np.arange(n) % n_classes
    centres = generator.normal(size=(n_classes, width))
    return (centres[labels] + generator.normal(size=(n, width))).astype(np.float32), labels


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("has_bias", [True, False])
def test_parts_give_the_regression_of_scikit_learn(n_classes: int, has_bias: bool) -> None:
    features, labels = made_up(n_classes)
    found = fitted_in_parts(
        features, labels, n_classes=n_classes, has_bias=has_bias, device="cpu", rows=97, tolerance=1e-6
    )
    reference = linear_model.LogisticRegression(max_iter=5000, tol=1e-8, fit_intercept=has_bias)
    expected = reference.fit(features.astype(np.float64), labels).predict_proba(features)
    logits = features @ found.weight.T + found.bias
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert np.abs(probabilities - expected).max() < 2e-3
    assert has_bias or not found.bias.any()


def test_many_rows_and_classes_are_fitted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = made_up(5)
    arguments = {"n_classes": 5, "has_bias": True, "device": "cpu"}
    whole = fitted_classifier(features, labels, **arguments)
    monkeypatch.setattr(probe, "_MOST_AT_ONCE", len(features) * 5 - 1)
    monkeypatch.setattr(probe, "_linear_model", lambda: pytest.fail("scikit-learn was asked"))
    parts = fitted_classifier(features, labels, **arguments)
    assert np.abs((parts.weight - parts.weight.mean(0)) - (whole.weight - whole.weight.mean(0))).max() < 0.02
    assert (parts.weight.shape, parts.bias.shape) == ((5, 6), (5,))
