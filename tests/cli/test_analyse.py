"""`stockpot analyse`: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json


def test_geometry_needs_nothing_but_checkpoints(stockpot, checkpoints, tmp_path) -> None:
    done = stockpot("analyse", *checkpoints, "-o", tmp_path / "a")
    assert done.code == 0
    assert "plane is left out: it needs --task" in done.err
    assert f"stockpot figures {tmp_path / 'a'}" in done.out
    found = json.loads((tmp_path / "a/analysis.json").read_text())
    assert found["geometry"]["names"] == ["a", "b", "c"]
    assert "plane" not in found


def test_models_between_are_checked_before_anything_is_written(refused, checkpoints, tmp_path) -> None:
    message = refused("analyse", *checkpoints, "-o", tmp_path / "a", "--between", "a", "--between", "nobody")
    assert "no such ingredient, file or folder: nobody" in message
    assert "name ingredients (a, b, c)" in message
    assert not (tmp_path / "a").exists()


def test_a_part_that_is_not_possible(refused, checkpoints, tmp_path) -> None:
    message = refused("analyse", *checkpoints, "-o", tmp_path / "a", "--part", "plane", "--part", "x")
    assert "plane needs --task" in message
    assert "no such part: x" in message
