"""The transcripts of docs/guide/provenance.md are what the commands print."""

from __future__ import annotations

import filecmp
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "provenance.md"
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def safetensors_bytes(head: np.ndarray) -> bytes:
    """By hand: the page shows digests, and the library's files differ between its versions."""
    header = {
        "head.weight": {"dtype": "F32", "shape": [10, 6], "data_offsets": [0, 240]},
        "steps": {"dtype": "I64", "shape": [2], "data_offsets": [240, 256]},
    }
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + head.tobytes() + np.array([0, 1], "<i8").tobytes()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two runs that the page talks about."""
    monkeypatch.chdir(tmp_path)
    head = np.arange(60, dtype="<f4").reshape(10, 6)
    for name, offset in (("lr1e-5", 0), ("lr3e-5", 1)):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "model.safetensors").write_bytes(safetensors_bytes(head + np.float32(offset)))
        Path("runs", name, "config.json").write_text("{}\n")
    return tmp_path


def changed() -> None:
    file = Path("runs/lr1e-5/model.safetensors")
    shutil.copy(file, "whole")
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    Path("archive").mkdir()
    Path("runs/lr3e-5").rename("archive/lr3e-5")


def restored() -> None:
    Path("whole").replace("runs/lr1e-5/model.safetensors")


def test_transcripts_in_order(stockpot, home) -> None:
    assert len(BLOCKS) == 3
    for block, happens_before in zip(BLOCKS, (lambda: None, changed, restored), strict=True):
        happens_before()
        for transcript in block.strip().split("\n\n"):
            command, *shown = transcript.splitlines()
            program, *arguments = shlex.split(command.removeprefix("$ "))
            if program == "cmp":
                assert filecmp.cmp(*arguments, shallow=False)
                continue
            assert program == "stockpot"
            done = stockpot(*arguments)
            printed = done.err + done.out if done.code == 0 else done.out + done.err
            assert printed.replace(str(home), "/home/you").splitlines() == shown, command
            assert done.code == (2 if any(line.startswith("error:") for line in shown) else 0)
