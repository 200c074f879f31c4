"""Draws: right distributions, and independence of everything but (seed, index, setting)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.config import RunSettings, SweepConfig, settings_as_recorded
from stockpot.sweeps.space import draw

N_DRAWS = 1000
#: sqrt(n) times the Kolmogorov-Smirnov distance exceeds this with probability 0.001 for a right sampler.
KS_BOUND = 1.95
SPACE: dict[str, Any] = {
    "learning_rate": {"log_uniform": [1e-5, 1e-3]},
    "weight_decay": {"uniform": [0.0, 0.2]},
    "epochs": {"integers": [1, 4]},
    "batch_size": {"choice": [16, 32]},
    "label_smoothing": {"zero_or_uniform": {"p": 0.25, "low": 0.05, "high": 0.15}},
    "dropout": {"choice": [None, 0.1]},
    "schedule": "cosine",
    "freeze": ["*embeddings*"],
}


def runs(space: dict[str, Any], n: int, seed: int = 0) -> list[dict[str, Any]]:
    entries = SweepConfig(runs=n, space=space).space
    return [draw(entries, seed=seed, index=index) for index in range(n)]


@pytest.fixture(scope="module")
def many() -> list[dict[str, Any]]:
    return runs(SPACE, N_DRAWS)


def ks_distance(sample: list[float], cdf: Callable[[float], float]) -> float:
    n = len(sample)
    return max(max(cdf(x) - i / n, (i + 1) / n - cdf(x)) for i, x in enumerate(sorted(sample)))


@pytest.mark.parametrize(
    ("name", "cdf"),
    [
        ("learning_rate", lambda x: (math.log10(x) + 5) / 2),
        ("weight_decay", lambda x: x / 0.2),
        ("seed", lambda x: x / 2**31),
    ],
)
def test_continuous_draws_follow_their_distribution(
    many: list[dict[str, Any]], name: str, cdf: Callable[[float], float]
) -> None:
    assert ks_distance([run[name] for run in many], cdf) * math.sqrt(N_DRAWS) < KS_BOUND


@pytest.mark.parametrize(
    ("name", "options"), [("epochs", [1, 2, 3, 4]), ("batch_size", [16, 32]), ("dropout", [None, 0.1])]
)
def test_discrete_draws_are_equally_likely(many: list[dict[str, Any]], name: str, options: list[Any]) -> None:
    counts = Counter(run[name] for run in many)
    p = 1 / len(options)
    assert set(counts) == set(options)
    assert all(abs(count - N_DRAWS * p) < 3.3 * math.sqrt(N_DRAWS * p * (1 - p)) for count in counts.values())


def test_zero_or_uniform_is_both(many: list[dict[str, Any]]) -> None:
    values = [run["label_smoothing"] for run in many]
    positive = [value for value in values if value]
    assert abs(values.count(0.0) - 250) < 3.3 * math.sqrt(N_DRAWS * 0.25 * 0.75)
    assert ks_distance(positive, lambda x: (x - 0.05) / 0.1) * math.sqrt(len(positive)) < KS_BOUND


def test_settings_are_uncorrelated(many: list[dict[str, Any]]) -> None:
    ranks = [sorted(run[name] for run in many) for name in ("learning_rate", "weight_decay")]
    pairs = [(ranks[0].index(run["learning_rate"]), ranks[1].index(run["weight_decay"])) for run in many]
    mean = (N_DRAWS - 1) / 2
    spearman = sum((a - mean) * (b - mean) for a, b in pairs) / sum((i - mean) ** 2 for i in range(N_DRAWS))
    assert abs(spearman) * math.sqrt(N_DRAWS) < 3.3


def test_a_longer_sweep_begins_with_the_shorter_one() -> None:
    assert runs(SPACE, 16)[:8] == runs(SPACE, 8)


def test_the_order_of_keys_means_nothing() -> None:
    assert runs(dict(reversed(SPACE.items())), 8) == runs(SPACE, 8)


@pytest.mark.parametrize("name", sorted(SPACE))
def test_removing_a_setting_leaves_the_others(name: str) -> None:
    rest = {key: value for key, value in SPACE.items() if key != name}
    default = RunSettings().model_dump(mode="json")[name]
    assert runs(rest, 4) == [run | {name: default} for run in runs(SPACE, 4)]


def test_seeds_and_indices_differ() -> None:
    drawn = [run["learning_rate"] for seed in range(20) for run in runs(SPACE, 20, seed=seed)]
    assert len(set(drawn)) == len(drawn)


def test_draws_are_frozen_for_ever() -> None:
    """These numbers must never change: a journal written today is continued by tomorrow's version."""
    run = runs(SPACE, 4)[3]
    assert run["seed"] == 2102855669
    assert run["learning_rate"] == pytest.approx(9.547354723859653e-05, rel=1e-14)


def test_runs_are_complete_and_plain() -> None:
    run = runs({}, 1)[0]
    assert run == settings_as_recorded(RunSettings(seed=run["seed"]))
    assert list(run) == [name for name in RunSettings.model_fields if name in run]
    assert RunSettings(**json.loads(json.dumps(run))) == RunSettings(seed=run["seed"])


bounds = st.tuples(st.floats(1e-8, 1e3), st.floats(1e-8, 1e3)).map(sorted)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(bounds, st.sampled_from(["log_uniform", "uniform"]), st.integers(0, 2**32 - 1), st.integers(0, 10**6))
def test_draws_stay_within_their_bounds(bounds: list[float], kind: str, seed: int, index: int) -> None:
    entries = SweepConfig(runs=1, space={"learning_rate": {kind: bounds}}).space
    assert bounds[0] <= draw(entries, seed=seed, index=index)["learning_rate"] <= bounds[1]
