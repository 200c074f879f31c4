"""Jobs for the tests of the engines: importable by name in a worker."""

# ruff: noqa: T201 - what a job prints is part of what is tested

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from stockpot.errors import DataError

initialized = 0


def initialize() -> None:
    global initialized
    initialized += 1


def fail_to_initialize() -> None:
    raise DataError("no such data")


def times_initialized(payload: dict[str, Any]) -> int:
    return initialized


def double(payload: dict[str, Any]) -> Any:
    while "after" in payload and not Path(payload["after"]).exists():
        time.sleep(0.01)
    return payload["value"] * 2


def whoami(payload: dict[str, Any]) -> dict[str, Any]:
    time.sleep(payload.get("seconds", 0))
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM", "MINE")
    return {"pid": os.getpid(), "main": sys.modules["__main__"].__dict__.get("__file__"), "arguments": sys.argv[1:]} | {
        name: os.environ.get(name) for name in variables
    }


def variable(payload: dict[str, Any]) -> str | None:
    """Once so many workers are there; the first of a sort dies."""
    if "meet" in payload:
        folder = Path(payload["folder"])
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < payload["meet"]:
            time.sleep(0.01)
    if "marker" in payload and not Path(payload["marker"]).exists():
        Path(payload["marker"]).touch()
        os._exit(1)
    return os.environ.get(payload["name"])


def die_once(payload: dict[str, Any]) -> int:
    """Dies in the middle the first time, as told by a file."""
    marker = Path(payload["marker"])
    if not marker.exists():
        marker.touch()
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return payload["value"]


def die(payload: dict[str, Any]) -> None:
    print("out: last words", flush=True)
    print("err: last words", file=sys.stderr, flush=True)
    os._exit(payload["code"])


def fail(payload: dict[str, Any]) -> None:
    with Path(payload["log"]).open("a") as log:
        log.write("x")
    kinds = {"stockpot": DataError("3 rows have no label", fix="drop them"), "exit": SystemExit(3)}
    raise kinds.get(payload["kind"]) or RuntimeError("boom")


def unpicklable(payload: dict[str, Any]) -> Any:
    return threading.Lock()


class Unreadable:
    def __reduce__(self) -> Any:
        return (int, ("not a number",))


def unreadable(payload: dict[str, Any]) -> Any:
    return Unreadable()


def noise(payload: dict[str, Any]) -> int:
    """Prints more than a pipe holds, on every way out."""
    for _ in range(payload["lines"]):
        print("x" * 1000)
        os.write(1, b"y" * 1000 + b"\n")
        os.write(2, b"z" * 1000 + b"\n")
    os.system("echo from a child")
    return payload["lines"]


def report_and_hang(payload: dict[str, Any]) -> None:
    Path(payload["folder"], str(os.getpid())).touch()
    if payload.get("fork") and os.fork() == 0:
        Path(payload["folder"], str(os.getpid())).touch()
    while True:
        time.sleep(0.05)


def fork_then_die(payload: dict[str, Any]) -> None:
    """A forked child keeps the worker's channel open after its death."""
    report = Path(payload["folder"])
    child = os.fork()
    if child == 0:
        report.joinpath(str(os.getpid())).touch()
        time.sleep(600)
    while not report.joinpath(str(child)).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
