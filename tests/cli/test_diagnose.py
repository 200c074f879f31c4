"""`stockpot diagnose`: words, JSON, exit codes."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save_file


def test_findings_in_words_and_as_json(stockpot, checkpoints, tmp_path) -> None:
    done = stockpot("diagnose", *checkpoints, checkpoints[0], "-o", tmp_path / "d")
    assert done.code == 0
    assert "CAUTION duplicates: " in done.out
    assert done.out.splitlines()[-1].startswith("recommendation: ")
    again = stockpot("diagnose", *checkpoints, checkpoints[0], "--json")
    assert "duplicates" in [finding["kind"] for finding in json.loads(again.out)["findings"]]
    assert json.loads((tmp_path / "d/diagnosis.json").read_text())["schema"] == 1


def test_what_cannot_be_mixed_ends_with_3(stockpot, checkpoints, tmp_path) -> None:
    save_file({"other": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    done = stockpot("diagnose", checkpoints[0], tmp_path / "other.safetensors")
    assert done.code == 3
    assert "REFUSED architecture" in done.out


def test_one_is_too_few(refused, checkpoints) -> None:
    assert "nothing to be compared with" in refused("diagnose", checkpoints[0])
