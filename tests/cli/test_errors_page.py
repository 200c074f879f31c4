"""The transcripts of docs/guide/errors.md are what the commands print."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "errors.md"
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
TRANSCRIPTS = [transcript.strip() for block in BLOCKS for transcript in block.split("\n\n")]


class Payload:
    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page talks about."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_eval", raising=False)
    head = np.arange(60, dtype=np.float32).reshape(10, 6)
    sick = head.copy()
    sick[2, 3] = np.nan
    contents = {
        "runs/lr1e-5": {"head.weight": head}, "runs/lr3e-5": {"head.weight": head + 1}, "sick": {"head.weight": sick},
        "other": {"head.weight": np.zeros((100, 6), np.float16), "head.bias": np.zeros(100, np.float32)},
        "cut": {"head.weight": head},
    }  # fmt: skip
    for folder, tensors in contents.items():
        Path(folder).mkdir(parents=True)
        save_file(tensors, f"{folder}/model.safetensors")
    whole = Path("cut/model.safetensors").read_bytes()
    Path("cut/model.safetensors").write_bytes(whole[:-40])
    Path("evil.pt").write_bytes(pickle.dumps({"w": Payload()}))
    functions = "def score(soup):\n    return -len(soup.ingredients)\n\ndef nothing(soup):\n    return float('nan')\n"
    Path("my_eval.py").write_text(functions)
    data = "{file: rows.tsv, text: text, label: label, txt: a, held_out: {rows: 10}}"
    Path("task.yaml").write_text(f"family: text-classification\nmetrics: accuracy\ndata: {data}\n")
    return tmp_path


def test_transcripts_in_order(stockpot, home) -> None:
    assert len(TRANSCRIPTS) > 10
    for transcript in TRANSCRIPTS:
        command, *shown = transcript.splitlines()
        program, *arguments = shlex.split(command.removeprefix("$ "))
        assert program == "stockpot"
        done = stockpot(*arguments)
        # On a terminal both streams appear; notes come before results, errors after them.
        printed = done.err + done.out if done.code == 0 else done.out + done.err
        assert printed.replace(str(home), "/home/you").splitlines() == shown, command
        assert done.code == (2 if any(line.startswith("error:") for line in shown) else 0)
    assert not (home / "hacked").exists()
