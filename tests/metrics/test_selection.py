from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from stockpot.errors import ConfigError, DataError, EvaluationError
from stockpot.metrics import best_mean, split_half_optimism


def sweep(generator: np.random.Generator, k: int, n: int, *, spread: float, alike: float = 0.5) -> tuple[Any, Any]:
    """Right or wrong answers [k, n] of candidates whose errors go together, and their true accuracies [k]."""
    accuracies = 0.7 + spread * np.linspace(-1.5, 1.5, k)
    hard = np.sqrt(alike) * generator.normal(size=n)
    own = np.sqrt(1 - alike) * generator.normal(size=(k, n))
    thresholds = np.array([NormalDist().inv_cdf(accuracy) for accuracy in accuracies])
    return (hard + own < thresholds[:, None]).astype(float), accuracies


def textbook_optimism(values: Any, *, n_splits: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    n, found = values.shape[1], []
    for _ in range(n_splits):
        places = generator.permutation(n).tolist()
        seen = [j for j in range(n) if places[j] < n // 2]
        rest = [j for j in range(n) if places[j] >= n // 2]
        means = [sum(candidate[j] for j in seen) / len(seen) for candidate in values]
        winner = means.index(max(means))
        found.append(means[winner] - sum(values[winner][j] for j in rest) / len(rest))
    return float(np.sqrt((n // 2) / n) * np.mean(found))


@pytest.mark.parametrize("n", [8, 61, 62])
def test_it_is_the_textbooks(n: int) -> None:
    values, _ = sweep(np.random.default_rng(0), 8, n, spread=0.02)
    expected = textbook_optimism(values, n_splits=20, seed=5)
    assert split_half_optimism(values, n_splits=20, seed=5).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("k", "n", "spread"), [(20, 200, 0.0), (20, 200, 0.02), (5, 200, 0.1), (2, 100, 0.0)])
def test_the_estimate_lies_within_its_error_of_the_true_optimism(k: int, n: int, spread: float) -> None:
    generator = np.random.default_rng(2)
    true = []
    for _ in range(400):
        values, accuracies = sweep(generator, k, n, spread=spread)
        winner = best_mean(values)
        true.append(values[winner].mean() - accuracies[winner])
    found = [split_half_optimism(sweep(generator, k, n, spread=spread)[0], n_splits=20) for _ in range(12)]
    estimates, errors = np.array([f.value for f in found]), np.array([f.stderr for f in found])
    assert np.mean(np.abs(estimates - np.mean(true)) < 2 * errors) >= 0.8
    assert np.mean(estimates) == pytest.approx(np.mean(true), abs=np.mean(errors))
    assert 0.7 * np.std(estimates) < np.mean(errors) < 3 * np.std(estimates)


def test_the_spread_over_halves_would_be_too_small_an_error() -> None:
    values, _ = sweep(np.random.default_rng(3), 10, 200, spread=0.0)
    one_half_each = [split_half_optimism(values, n_splits=1, seed=seed).value for seed in range(200)]
    naive = np.std(one_half_each, ddof=1) / np.sqrt(200)
    assert split_half_optimism(values, n_splits=200).stderr > 2 * naive


def test_more_candidates_promise_more_and_more_examples_less() -> None:
    generator = np.random.default_rng(4)
    few, many = (split_half_optimism(sweep(generator, k, 300, spread=0.0)[0], n_splits=50).value for k in (2, 50))
    large = split_half_optimism(sweep(generator, 50, 1200, spread=0.0)[0], n_splits=50).value
    assert few < many
    assert large < 0.7 * many


def test_no_choice_no_optimism() -> None:
    values, _ = sweep(np.random.default_rng(5), 10, 300, spread=0.0)
    fixed = split_half_optimism(values, choose=lambda seen: 3)
    assert abs(fixed.value) < 2 * fixed.stderr + 0.005
    assert split_half_optimism(np.ones((4, 50))).value == 0.0
    assert split_half_optimism(np.ones((4, 50))).stderr == 0.0
    identical = np.tile(values[:1], (5, 1))
    assert split_half_optimism(identical) == split_half_optimism(identical, choose=lambda seen: 4)


def test_a_search_can_be_judged_whole() -> None:
    """A choice that keeps the first candidate unless another is clearly better promises less."""

    def cautious(seen: Any) -> int:
        means = seen.mean(axis=1)
        return int(means.argmax()) if means.max() > means[0] + 0.08 else 0

    shapes = []
    values, _ = sweep(np.random.default_rng(6), 20, 200, spread=0.0)
    found = split_half_optimism(values, n_splits=50, choose=lambda seen: shapes.append(seen.shape) or cautious(seen))
    assert found.value < split_half_optimism(values, n_splits=50).value
    assert shapes[0] == (20, 100)  # one half, all candidates
    assert len(shapes) <= 21 * 50


def test_it_is_deterministic_and_counts() -> None:
    values, _ = sweep(np.random.default_rng(7), 5, 101, spread=0.02)
    found = split_half_optimism(values, n_splits=30, seed=3)
    assert found == split_half_optimism(values.tolist(), n_splits=30, seed=3)
    assert found.value != split_half_optimism(values, n_splits=30, seed=4).value
    assert (found.n_examples, found.n_candidates, found.n_splits) == (101, 5, 30)


def test_few_examples() -> None:
    assert split_half_optimism([[0.0, 1.0], [1.0, 0.0]]).stderr is None
    assert split_half_optimism([[0.0, 1.0], [1.0, 0.0]]).value == pytest.approx(np.sqrt(0.5))
    assert split_half_optimism(np.random.default_rng(8).random((3, 8)), n_splits=1).stderr is not None


def test_ties_go_to_the_first() -> None:
    assert best_mean(np.ones((3, 4))) == 0


@pytest.mark.parametrize(
    ("values", "more", "error", "message"),
    [
        ([1.0, 2.0], {}, DataError, r"\[2\] are not \[candidates, n\]"),
        ([[1.0]], {}, DataError, "n >= 2"),
        (np.zeros((0, 5)), {}, DataError, "candidates"),
        ([[1.0, np.nan]], {}, EvaluationError, "1 of 2 values are not finite"),
        ([[1.0, 0.0]], {"n_splits": 0}, ConfigError, "n_splits is 0"),
        ([[1.0, 0.0]], {"choose": lambda seen: 1}, EvaluationError, "candidate 1 of 1"),
    ],
)
def test_refuses(values: Any, more: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        split_half_optimism(values, **more)
