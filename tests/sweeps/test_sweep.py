"""The plan, what is left alone, and what becomes of failures; no network is trained here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stockpot.config import SweepConfig, task_config
from stockpot.engines import Job, Result
from stockpot.errors import RunError
from stockpot.outputs.partial import sibling
from stockpot.sweeps.fine_tuning import diverged_file
from stockpot.sweeps.sweep import plan_runs, run_sweep, terse
from stockpot.types import Ingredient

TRACEBACK = """Traceback (most recent call last):
  File "worker.py", line 63, in call
    function(payload)
  File "train.py", line 7, in train
    raise KeyError(name)
KeyError: 'labels'
"""
SPACE = {"learning_rate": {"log_uniform": [1e-5, 1e-3]}, "epochs": {"integers": [1, 4]}}


class Engine:
    """Lands the runs, the last one first, but for those whose error is given."""

    def __init__(self, *diverged: str, **errors: str) -> None:
        self.diverged = diverged
        self.errors = errors
        self.asked: list[str] = []

    def run(
        self,
        function: str,
        jobs: Sequence[Job],
        *,
        on_result: Callable[[Result], None] | None = None,
        on_start: Callable[[Job], None] | None = None,
    ) -> list[Result]:
        assert function == "stockpot.sweeps.fine_tuning:make_ingredient"
        results = {}
        for job in reversed(jobs):
            target = Path(job.payload["target"])
            self.plan = json.loads((target.parent / "plan.json").read_text())
            self.asked.append(job.name)
            if job.name in self.diverged:
                diverged_file(target).write_text(json.dumps({"diverged": "NaN"}))
            elif job.name not in self.errors:
                target.mkdir()
                (target / "run.json").write_text("{}")
            results[job.name] = Result(job.name, value={}, error=self.errors.get(job.name))
            assert on_result is not None
            on_result(results[job.name])
        return [results[job.name] for job in jobs]


def swept(folder: Path, engine: Any, **more: Any) -> tuple[Ingredient, ...]:
    task = task_config(
        {"family": "text-classification", "data": {"file": "f.tsv", "text": "t", "label": "l", "held_out": {"rows": 1}}}
    )
    return run_sweep(
        plan_runs(SweepConfig(runs=3, seed=5, space=SPACE)),
        task,
        task_folder=Path(),
        initialisation=folder / "initialisation",
        folder=folder / "ingredients",
        journal=folder / "journal",
        engine=engine,
        **more,
    )


def test_a_run_does_not_depend_on_how_many_there_are():
    few, many = (plan_runs(SweepConfig(runs=n, seed=5, space=SPACE)) for n in (3, 12))
    assert [run.settings for run in few] == [run.settings for run in many[:3]]
    assert [run.name for run in few] == [run.name for run in many[:3]]
    assert len({run.settings["seed"] for run in many}) == 12


def test_names_sort_in_the_order_of_the_plan():
    names = [run.name for run in plan_runs(SweepConfig(runs=101))]
    assert names == sorted(names)
    assert len(set(names)) == 101


def test_the_plan_is_there_before_the_first_run_and_the_ingredients_are_in_its_order(tmp_path):
    engine, seen = Engine(), []
    made = swept(tmp_path, engine, on_result=lambda result: seen.append(result.name))
    planned = [{"name": i.name, "settings": dict(i.settings)} for i in made]
    assert engine.plan == planned
    assert [i.name for i in made] == ["run-00", "run-01", "run-02"]
    assert seen == ["run-02", "run-01", "run-00"]


def test_what_has_landed_is_left_alone(tmp_path):
    swept(tmp_path, Engine())
    (tmp_path / "ingredients" / "run-01" / "run.json").unlink()
    (tmp_path / "ingredients" / "run-01").rmdir()
    engine = Engine()
    swept(tmp_path, engine)
    assert engine.asked == ["run-01"]


def test_failures_are_all_named_and_told_at_length_in_a_file(tmp_path):
    refused = "freeze: 'x' matches no parameter\nfix: correct the pattern"
    died = "the worker process died (SIGKILL), attempt 2\nthe last it said:\nOut of memory"
    with pytest.raises(RunError) as caught:
        swept(tmp_path, Engine(**{"run-00": TRACEBACK, "run-01": refused, "run-02": died}))
    folder = tmp_path / "ingredients"
    assert caught.value.message.startswith("3 of 3 runs failed")
    assert caught.value.problems == (
        f"run-00: KeyError: 'labels' (more in {folder / 'run-00.error.txt'})",
        "run-01: freeze: 'x' matches no parameter\n    fix: correct the pattern",
        f"run-02: the worker process died (SIGKILL), attempt 2 (more in {folder / 'run-02.error.txt'})",
    )
    assert "Traceback" not in str(caught.value)
    assert (folder / "run-00.error.txt").read_text() == TRACEBACK


def test_a_failed_run_alone_is_repeated_and_its_error_goes(tmp_path):
    with pytest.raises(RunError, match="1 of 3 runs failed"):
        swept(tmp_path, Engine(**{"run-01": TRACEBACK}))
    engine = Engine()
    swept(tmp_path, engine)
    assert engine.asked == ["run-01"]
    assert not list(tmp_path.rglob("*.error.txt"))


def test_a_run_that_diverged_is_left_out_and_not_repeated(tmp_path):
    made = swept(tmp_path, Engine("run-01"))
    assert [ingredient.name for ingredient in made] == ["run-00", "run-02"]
    engine = Engine()
    assert swept(tmp_path, engine) == made
    assert engine.asked == []


def test_where_all_diverge_there_is_nothing_to_mix(tmp_path):
    for engine in (Engine("run-00", "run-01", "run-02"), Engine()):
        with pytest.raises(RunError, match="all 3 runs diverged") as caught:
            swept(tmp_path, engine)
        assert caught.value.problems == ("run-00: NaN", "run-01: NaN", "run-02: NaN")


def test_a_message_of_several_lines_keeps_its_first():
    assert terse(TRACEBACK.replace("'labels'", "one\n  two\nthree")) == "KeyError: one"


def test_what_a_killed_process_left_beside_the_runs_goes(tmp_path, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / "ingredients").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: process.pid)
        left = [sibling(tmp_path / "ingredients" / name, "partial") for name in ("plan.json", "run-00")]
    left[0].write_text("[")
    left[1].mkdir()
    swept(tmp_path, Engine())
    assert not any(path.exists() for path in left)
