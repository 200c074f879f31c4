"""The local engine with real processes: every job has its result, no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stockpot.engines import Job, LocalEngine, Result, available_cores
from stockpot.errors import RunError
from stockpot.outputs.partial import process_is_alive

GENEROUS = 60.0  # seconds; a limit for hanging, not a claim about speed
TESTS = Path(__file__).parents[1]


def jobs(*payloads: dict[str, Any]) -> list[Job]:
    return [Job(f"job {number}", payload) for number, payload in enumerate(payloads)]


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + GENEROUS
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def is_gone(pid: int) -> bool:
    """Dead, or a zombie that nobody in this container collects."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return not process_is_alive(pid)
    return state in "ZX"


def reported(folder: Path, count: int) -> list[int]:
    """The process numbers that `report_and_hang` left, once there are `count`."""
    return eventually(lambda: pids if len(pids := [int(p.name) for p in folder.iterdir()]) >= count else None)


def test_no_jobs_no_processes() -> None:
    assert LocalEngine().run("no.such.module:function", []) == []


@pytest.mark.parametrize(("workers", "order"), [(1, "0123"), (2, "1230")])
def test_results_come_in_the_order_of_the_jobs(tmp_path: Path, workers: int, order: str) -> None:
    started: list[str] = []
    ended: list[str] = []

    def note(result: Result) -> None:
        ended.append(result.name.removeprefix("job "))
        if result.name == "job 3":
            (tmp_path / "job 3 has ended").touch()

    first = {"after": str(tmp_path / "job 3 has ended")} if workers == 2 else {}
    results = LocalEngine(workers=workers).run(
        "engine_jobs:double",
        jobs({"value": 0, **first}, *({"value": number} for number in (1, 2, 3))),
        on_result=note,
        on_start=lambda job: started.append(job.name),
    )
    assert results == [Result(f"job {number}", number * 2) for number in range(4)]
    assert started == ["job 0", "job 1", "job 2", "job 3"]
    assert "".join(ended) == order


def test_workers_are_processes_that_stay_and_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    results = LocalEngine(workers=1, environment={"MINE": "here"}).run("engine_jobs:whoami", jobs({}, {}, {}))
    values = [result.value for result in results]
    assert len({value["pid"] for value in values} - {os.getpid()}) == 1
    del values[0]["pid"]
    assert values[0] == {
        "main": None,
        "arguments": [],
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MINE": "here",
    }
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("workers", "n_jobs", "seen"),
    [(None, 3, ["a", "b", "c"]), (3, 3, ["a", "b", "c"]), (1, 2, ["a,b,c", "a,b,c"]), (4, 4, ["a", "a", "b", "c"])],
)
def test_every_worker_sees_its_share_of_the_gpus(
    tmp_path: Path, workers: int | None, n_jobs: int, seen: list[str]
) -> None:
    payload = {"name": "CUDA_VISIBLE_DEVICES", "folder": str(tmp_path), "meet": 1 if workers == 1 else n_jobs}
    results = LocalEngine(workers=workers, gpus=("a", "b", "c")).run("engine_jobs:variable", jobs(*[payload] * n_jobs))
    assert sorted(result.value for result in results) == seen


def test_the_successor_of_a_dead_worker_has_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    payload = {"name": "CUDA_VISIBLE_DEVICES", "folder": str(tmp_path / "met"), "meet": 2}
    dying = {**payload, "marker": str(tmp_path / "marker")}
    waiting = {**payload, "meet": 3}  # for the successor, so that it does not take over the job itself
    results = LocalEngine(gpus=("7", "8")).run("engine_jobs:variable", jobs(dying, waiting))
    assert [(result.value, result.attempts) for result in results] == [("7", 2), ("8", 1)]


def test_without_gpus_nothing_is_said_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    (result,) = LocalEngine(workers=1).run("engine_jobs:variable", jobs({"name": "CUDA_VISIBLE_DEVICES"}))
    assert result.value == "5"


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION"])
def test_a_worker_is_no_part_of_a_launch(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    (result,) = LocalEngine(workers=1).run("engine_jobs:variable", jobs({"name": name}))
    assert result.error is None
    assert result.value is None


def test_never_more_workers_than_asked_for() -> None:
    results = LocalEngine(workers=2).run("engine_jobs:whoami", jobs(*[{"seconds": 0.02}] * 8))
    assert len({result.value["pid"] for result in results}) <= 2


def test_the_initializer_runs_once_per_worker() -> None:
    engine = LocalEngine(workers=1, initializer="engine_jobs:initialize")
    assert [r.value for r in engine.run("engine_jobs:times_initialized", jobs({}, {}))] == [1, 1]


def test_a_failing_initializer_is_every_jobs_error() -> None:
    engine = LocalEngine(workers=1, initializer="engine_jobs:fail_to_initialize")
    assert [r.error for r in engine.run("engine_jobs:times_initialized", jobs({}, {}))] == ["no such data"] * 2


# --- jobs that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [("stockpot", "3 rows have no label\nfix: drop them"), ("exit", "SystemExit: 3"), ("other", "RuntimeError: boom")],
)
def test_a_job_that_raises_is_not_repeated_and_disturbs_no_other(tmp_path: Path, kind: str, text: str) -> None:
    failing = {"kind": kind, "log": str(tmp_path / "log")}
    before, after = LocalEngine(workers=1).run("engine_jobs:fail", jobs(failing, failing))
    assert before.error is not None
    assert before.error.strip().endswith(text)
    assert ("Traceback" in before.error) == (kind != "stockpot")
    assert not before.succeeded
    assert (before.attempts, before.error) == (after.attempts, after.error) == (1, before.error)
    assert (tmp_path / "log").read_text() == "xx"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("no_such_module:function", "No module named 'no_such_module'"),
        ("engine_jobs:no_such", "no attribute 'no_such'"),
        ("engine_jobs:unpicklable", "cannot pickle"),
        ("engine_jobs:unreadable", "the result cannot be read here"),
    ],
)
def test_what_cannot_be_called_or_returned_is_said(function: str, text: str) -> None:
    (result,) = LocalEngine(workers=1).run(function, jobs({}))
    assert text in (result.error or "")


@pytest.mark.parametrize("function", ["double", "engine_jobs:", ":double"])
def test_a_function_is_named_module_colon_function(function: str) -> None:
    with pytest.raises(ValueError, match=r"is not package\.module:function"):
        LocalEngine().run(function, jobs({}))


def test_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="at least 1 worker"):
        LocalEngine(workers=0)
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


# --- workers that die ----------------------------------------------------------------------------------------------


def test_the_job_of_a_killed_worker_alone_is_repeated(tmp_path: Path) -> None:
    started: list[str] = []
    payloads = [{"marker": str(tmp_path / f"{n}"), "value": n} for n in range(4)]
    for payload in payloads[1:]:
        Path(payload["marker"]).touch()  # only job 0 dies
    results = LocalEngine(workers=2).run(
        "engine_jobs:die_once", jobs(*payloads), on_start=lambda job: started.append(job.name)
    )
    assert [(r.value, r.attempts) for r in results] == [(0, 2), (1, 1), (2, 1), (3, 1)]
    assert sorted(started) == ["job 0", "job 0", "job 1", "job 2", "job 3"]


@pytest.mark.parametrize("retries", [0, 2])
def test_a_job_that_kills_every_worker_is_given_up(retries: int) -> None:
    results = LocalEngine(workers=1, retries=retries).run("engine_jobs:die", jobs({"code": 7}, {"code": 8}))
    assert [result.attempts for result in results] == [retries + 1] * 2
    for result, code in zip(results, (7, 8), strict=True):
        assert result.error is not None
        assert f"exit code {code}" in result.error
        assert "out: last words\nerr: last words" in result.error


def test_a_kill_from_outside_is_named(tmp_path: Path) -> None:
    (result,) = LocalEngine(workers=1, retries=0).run(
        "engine_jobs:die_once", jobs({"marker": str(tmp_path / "marker"), "value": 1})
    )
    assert "SIGKILL" in (result.error or "")
    assert "about to die" in (result.error or "")


def test_a_forked_child_does_not_hide_a_death(tmp_path: Path) -> None:
    (result,) = LocalEngine(workers=1, retries=0).run("engine_jobs:fork_then_die", jobs({"folder": str(tmp_path)}))
    assert "SIGKILL" in (result.error or "")
    (child,) = reported(tmp_path, 1)
    eventually(lambda: is_gone(child))


def test_a_worker_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stockpot").mkdir()
    (tmp_path / "stockpot" / "__init__.py").write_text("raise ImportError('half an installation')")
    monkeypatch.syspath_prepend(str(tmp_path))
    (result,) = LocalEngine(workers=1).run("engine_jobs:double", jobs({"value": 1}))
    assert "half an installation" in (result.error or "")
    assert result.attempts == 2


def test_a_system_that_starts_no_process_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(RunError, match="cannot start a worker process"):
        LocalEngine(workers=1).run("engine_jobs:double", jobs({"value": 1}))


# --- the channel ---------------------------------------------------------------------------------------------------


def test_big_payloads_pass_both_ways() -> None:
    value = os.urandom(10_000_000)
    results = LocalEngine(workers=2).run("engine_jobs:double", jobs({"value": value}, {"value": value}))
    assert all(result.value == value * 2 for result in results)


def test_what_jobs_print_stays_off_the_channel(capfd: pytest.CaptureFixture[str]) -> None:
    results = LocalEngine(workers=2).run("engine_jobs:noise", jobs({"lines": 200}, {"lines": 3}))
    assert [result.value for result in results] == [200, 3]
    assert capfd.readouterr() == ("", "")


def test_output_is_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    LocalEngine(workers=1, show_output=True).run("engine_jobs:noise", jobs({"lines": 1}))
    assert "from a child" in capsys.readouterr().err


# --- the parent ----------------------------------------------------------------------------------------------------


def test_an_error_in_a_callback_ends_the_workers(tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(result: Result) -> None:
        pids.append(result.value["pid"])
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        LocalEngine(workers=2).run("engine_jobs:whoami", jobs(*[{}] * 4), on_result=stop)
    eventually(lambda: is_gone(pids[0]))


def start_parent(folder: Path, script: str) -> subprocess.Popen[str]:
    """A user's script that runs hanging jobs; without a guard for `__main__`."""
    path = folder / "users_script.py"
    path.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    (folder / "pids").mkdir()
    return subprocess.Popen(
        [sys.executable, path, folder / "pids"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


HANGING = """
import sys
from stockpot.engines import Job, LocalEngine
jobs = [Job(str(number), {"folder": sys.argv[1], "fork": number == 0}) for number in range(2)]
LocalEngine(workers=2).run("engine_jobs:report_and_hang", jobs)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_do_not_outlive_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = start_parent(tmp_path, HANGING)
    try:
        pids = reported(tmp_path / "pids", 3)
        parent.send_signal(number)
        _, errors = parent.communicate(timeout=GENEROUS)
    finally:
        parent.kill()
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in errors
        assert parent.returncode != 0
    else:
        assert parent.returncode == -number
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid))


SCRIPT = """
import sys
from stockpot.engines import Job, LocalEngine
print("imported", flush=True)
jobs = [Job("a", {"value": 1}), Job("b", {"value": 2})]
print([result.value for result in LocalEngine(workers=2).run("engine_jobs:double", jobs)])
"""


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    parent = start_parent(tmp_path, SCRIPT)
    output, errors = parent.communicate(timeout=GENEROUS)
    assert (output, errors) == ("imported\n[2, 4]\n", "")


@pytest.mark.parametrize("arguments", [["-c", SCRIPT], ["-"]])
def test_at_a_prompt(arguments: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, *arguments], input=SCRIPT, capture_output=True, text=True, timeout=GENEROUS, env=environment
    )
    assert (done.stdout, done.stderr) == ("imported\n[2, 4]\n", "")
