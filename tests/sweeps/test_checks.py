"""Settings that no run can have are found before the first one starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.errors import ConfigError
from stockpot.sweeps.checks import check_plan
from stockpot.sweeps.sweep import PlannedRun
from tiny_models import tiny_classifier


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("start") / "base")


def test_each_problem_once(start: Path) -> None:
    runs = [PlannedRun(f"run-{n}", {"freeze": ("*embeddings*", "x"), "label_smoothing": 0.1}) for n in range(3)]
    with pytest.raises(ConfigError, match="no run can have") as caught:
        check_plan(runs, start, is_regression=True)
    assert [problem.split(":")[0].split(" ")[0] for problem in caught.value.problems] == ["freeze", "label_smoothing"]


def test_what_can_be_meant_passes(start: Path) -> None:
    runs = [PlannedRun("run-0", {"freeze": ("*embeddings*",), "label_smoothing": 0.1}), PlannedRun("run-1", {})]
    check_plan(runs, start, is_regression=False)
