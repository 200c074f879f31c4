from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from stockpot.config import LIKELIHOOD_METRIC_NAMES, METRIC_NAMES, VALUE_METRIC_NAMES, TaskConfig
from stockpot.errors import ConfigError
from stockpot.metrics import METRICS, Metric, as_metric, bootstrap, per_example


def test_task_yaml_knows_every_metric() -> None:
    assert tuple(METRICS) == METRIC_NAMES
    assert get_args(TaskConfig.model_fields["metric"].annotation) == METRIC_NAMES
    assert tuple(name for name, metric in METRICS.items() if metric.kind == "values") == VALUE_METRIC_NAMES
    assert tuple(name for name, metric in METRICS.items() if metric.kind == "likelihoods") == LIKELIHOOD_METRIC_NAMES


def test_names_and_directions() -> None:
    assert all(metric.name == name for name, metric in METRICS.items())
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {"nll", "brier", "ece", "ece_equal_width", "mse", "text_nll", "token_nll"}
    assert {name for name, metric in METRICS.items() if metric.kind == "values"} == {"mse", "r2", "spearman"}


def test_bounds_are_of_examples() -> None:
    bounds = {name: metric.bounds for name, metric in METRICS.items() if metric.bounds}
    assert bounds == {"accuracy": (0.0, 1.0), "top_5": (0.0, 1.0), "brier": (0.0, 2.0)}
    assert all(METRICS[name].per_example for name in bounds)


@pytest.mark.parametrize("name", list(METRICS))
def test_scores_bear_the_metrics_name_and_direction(name: str) -> None:
    metric = METRICS[name]
    given = {
        "classes": (np.eye(2), [0, 1]), "values": ([0.0, 1.0], [0.0, 1.0]), "likelihoods": ([-1.0, -2.0], [3, 4]),
    }  # fmt: skip
    score = metric(*given[metric.kind])
    assert (score.metric, score.higher_is_better, score.n_examples) == (name, metric.higher_is_better, 2)
    assert type(score.value) is float
    assert score.stderr is None or type(score.stderr) is float


def test_an_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'accurcy' is unknown \(did you mean 'accuracy'\?\)\nfix: use one of: acc"):
        as_metric("accurcy")
    for name in ("f1", "no_such"):
        with pytest.raises(ConfigError, match="use one of: accuracy, top_5, nll, brier, mse"):
            per_example(name)


def test_a_metric_of_ones_own() -> None:
    """What it needs is a name and a function; the bootstrap then calls it for every resample."""
    share = Metric("first", lambda logits, labels: float(np.mean(np.asarray(labels) == 0)))
    assert as_metric(share) is share
    labels = np.array([0, 1] * 50)
    score = share(np.zeros((100, 2)), labels)
    assert (score.value, score.metric, score.higher_is_better) == (0.5, "first", True)
    assert score.stderr == pytest.approx(0.05, rel=0.1)
    assert bootstrap(share, np.zeros((100, 2)), labels) == score
