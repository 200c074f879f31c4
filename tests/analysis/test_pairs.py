"""Pairs: which are looked at, and intervals that know that pairs share ingredients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stockpot.analysis.pairs import angle_correlations, chosen_pairs
from stockpot.analysis.soup_vs_ensemble import approximate_difference, measured_difference
from stockpot.records import Pair


def pairs(effects: np.ndarray, noise: float = 0.0, seed: int = 0) -> list[Pair]:
    """All pairs of ingredients whose own effects make both the angle and the gain."""
    generator = np.random.default_rng(seed)
    found = []
    for i, j in itertools.combinations(range(len(effects)), 2):
        angle = float(40 + effects[i] + effects[j])
        gain = float(effects[i] + effects[j] + noise * generator.normal())
        found.append(Pair(f"r{i}", f"r{j}", angle, {"test": (0.0, 0.0)}, {"test": gain}, {"test": 0.0}))
    return found


def test_all_or_so_many() -> None:
    assert len(chosen_pairs(6, 100)) == 15
    assert len(chosen_pairs(30, 40)) == len(set(chosen_pairs(30, 40))) == 40
    assert chosen_pairs(30, 40, seed=1) != chosen_pairs(30, 40, seed=2)


def test_a_perfect_order_is_one() -> None:
    mean, *_ = angle_correlations(pairs(np.arange(5.0)), ["test"])
    assert (mean.of, mean.split, mean.value, mean.n_pairs) == ("soup_over_mean", "test", pytest.approx(1.0), 10)


@pytest.mark.parametrize(("higher", "better"), [(True, 0.8), (False, 0.6)])
def test_the_better_of_two_is_that_of_the_metric(higher: bool, better: float) -> None:
    found = [
        Pair(f"r{i}", f"r{j}", float(i + j), {"t": (0.6, 0.8)}, {"t": 0.1 * i * j}, {"t": 0.0})
        for i, j in itertools.combinations(range(4), 2)
    ]
    assert [pair.better("t", higher_is_better=higher) for pair in found] == [better] * 6
    assert found[0].mean("t") == pytest.approx(0.7)
    by_name = {one.of: one for one in angle_correlations(found, ["t"], higher_is_better=higher)}
    assert list(by_name) == ["soup_over_mean", "soup_over_better", "soup_over_ensemble"]
    # Less a constant they are in one order; on gains that differ by pair they need not be.
    assert by_name["soup_over_better"].value == by_name["soup_over_mean"].value
    uneven = [
        Pair(p.first, p.second, p.angle, {"t": (0.0, 0.3 * at)}, p.soup, p.ensemble) for at, p in enumerate(found)
    ]
    of = {one.of: one.value for one in angle_correlations(uneven, ["t"], higher_is_better=higher)}
    assert of["soup_over_better"] != of["soup_over_mean"]


def test_few_ingredients_have_no_interval_and_one_pair_no_correlation() -> None:
    three = angle_correlations(pairs(np.array([0.0, 1.0, 3.0])), ["test"])[0]
    assert three.value is not None
    assert three.low is three.high is None
    assert angle_correlations(pairs(np.array([0.0, 1.0])), ["test"])[0].value is None


def test_the_interval_covers_no_correlation_as_often_as_it_says(monkeypatch) -> None:
    """Gains that have nothing to do with angles, both driven by ingredients: over pairs it would be too sure."""
    monkeypatch.setattr("stockpot.analysis.pairs.N_RESAMPLES", 200)
    n, covered = 40, 0
    for seed in range(n):
        generator = np.random.default_rng(seed)
        angle_effects, gain_effects = generator.normal(size=(2, 10))
        found = []
        for i, j in itertools.combinations(range(10), 2):
            angle, gain = angle_effects[i] + angle_effects[j], gain_effects[i] + gain_effects[j]
            found.append(Pair(f"r{i}", f"r{j}", float(angle), {"t": (0.0, 0.0)}, {"t": float(gain)}, {"t": 0.0}))
        one = angle_correlations(found, ["t"])[0]
        covered += one.low <= 0.0 <= one.high
    assert covered >= 0.85 * n


def test_a_linear_model_has_a_soup_that_is_its_ensemble() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 50, 3))
    labels = generator.integers(0, 3, 50)
    assert measured_difference((first + second) / 2, (first + second) / 2, labels) == 0.0
    along = tuple((1 - a) * first + a * second for a in (0.45, 0.5, 0.55))
    # For logits that are linear in the weights curvature and variance are the same thing, and the approximation is 0.
    assert approximate_difference(first, second, along, labels, alpha=0.5, step=0.05) == pytest.approx(0.0, abs=2e-3)


def test_near_models_are_approximated_to_second_order() -> None:
    """Logits quadratic in alpha: the difference shrinks with the square of the step between models."""
    generator = np.random.default_rng(1)
    base, slope = generator.normal(size=(2, 400, 4))
    labels = generator.integers(0, 4, 400)
    bend = 3.0 * np.eye(4)[labels]  # a mean of weights is worse than a mean of logits
    for size in (0.4, 0.2):

        def logits(alpha: float, size: float = size) -> np.ndarray:
            return base + size * alpha * slope + (size * alpha) ** 2 * bend

        along = (logits(0.4), logits(0.5), logits(0.6))
        guess = approximate_difference(logits(0), logits(1), along, labels, alpha=0.5, step=0.1)
        truth = measured_difference(logits(0.5), (logits(0) + logits(1)) / 2, labels)
        assert truth > 0
        assert guess == pytest.approx(truth, rel=size)
