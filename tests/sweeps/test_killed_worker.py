"""A worker that is killed in the middle of a run costs that run alone, and not a byte of the result."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest

from stockpot.experiment import sweep
from tiny_models import tiny_experiment


def test_a_killed_worker_costs_only_its_run_and_no_byte(tmp_path: Path) -> None:
    """Two workers in one sweep, one of them killed; one worker in the other."""
    experiment = tiny_experiment(tmp_path / "experiment", runs=2)
    undisturbed = sweep(experiment, tmp_path / "one", n_workers=1)
    lines: list[str] = []
    killer = Thread(target=_kill_a_busy_worker, args=(tmp_path / "two" / "ingredients",))
    killer.start()
    disturbed = sweep(experiment, tmp_path / "two", n_workers=2, on_progress=lambda p: lines.append(p.line))
    killer.join()
    assert sum("attempt 2" in line for line in lines) == 1, lines
    assert [i.digest for i in undisturbed] == [i.digest for i in disturbed]


def _kill_a_busy_worker(folder: Path) -> None:
    """Kills the process that a run's temporary folder belongs to, as soon as there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        busy = list(folder.glob(".run-*.partial-*"))
        if busy:
            os.kill(int(busy[0].name.split("-")[-2]), signal.SIGKILL)
            return
        time.sleep(0.001)
    pytest.fail("no run started")
