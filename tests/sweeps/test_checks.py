"""Settings that no run can have are found before the first one starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.config import TaskConfig, task_config
from stockpot.errors import ConfigError
from stockpot.sweeps.checks import check_plan
from stockpot.sweeps.sweep import PlannedRun
from tiny_models import tiny_classifier


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("start") / "base")


def _task(metric: str = "accuracy") -> TaskConfig:
    data = {"file": "a.tsv", "text": "text", "label": "label", "train": {"rows": 1}, "held_out": {"rows": 1}}
    return task_config({"family": "text-classification", "data": data, "metric": metric})


def test_each_problem_once(start: Path) -> None:
    runs = [PlannedRun(f"run-{n}", {"freeze": ("*embeddings*", "x"), "label_smoothing": 0.1}) for n in range(3)]
    with pytest.raises(ConfigError, match="no run can have") as caught:
        check_plan(runs, start, task=_task("mse"))
    assert [problem.split(":")[0].split(" ")[0] for problem in caught.value.problems] == ["freeze", "label_smoothing"]


def test_what_can_be_meant_passes(start: Path) -> None:
    runs = [PlannedRun("run-0", {"freeze": ("*embeddings*",), "label_smoothing": 0.1}), PlannedRun("run-1", {})]
    check_plan(runs, start, task=_task())


def test_batches_that_the_gpus_of_a_run_cannot_share(start: Path) -> None:
    runs = [PlannedRun("run-0", {"batch_size": 32}), PlannedRun("run-1", {"batch_size": 33})]
    check_plan(runs, start, task=_task(), n_gpus=1)
    with pytest.raises(ConfigError, match="batches of 33 cannot be shared by the 2 GPUs"):
        check_plan(runs, start, task=_task(), n_gpus=2)
