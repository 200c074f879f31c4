"""A command line in this process, and small checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stockpot.cli.entry import exit_code


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def stockpot(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line as `main` does; no mistake of a user may show a traceback."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = exit_code([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def refused(stockpot: Callable[..., Outcome], tmp_path: Path) -> Callable[..., str]:
    """A command that must end with exit code 2 and write nothing; gives the message."""

    def call(*arguments: object) -> str:
        before = _listing(tmp_path)
        outcome = stockpot(*arguments)
        assert outcome.code == 2, outcome
        assert _listing(tmp_path) == before
        return outcome.err

    return call


def _listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    """Three safetensors files of one shape."""
    generator = np.random.default_rng(0)
    files = []
    for name in "abc":
        tensors = {"head.weight": generator.standard_normal((4, 6)).astype(np.float32), "steps": np.arange(3)}
        save_file(tensors, tmp_path / f"{name}.safetensors")
        files.append(tmp_path / f"{name}.safetensors")
    return files
