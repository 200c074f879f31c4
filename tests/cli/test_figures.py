"""`stockpot figures` and `table --figures`: files that are pictures, and what could not be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stockpot.records import Cell, Results, Row, write_results


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    scores = {"held_out": 0.7, "test": 0.71, "shift:a": 0.5, "shift_mean": 0.5}
    cells = {split: Cell(value, 0.01, 1000) for split, value in scores.items()}
    rows = tuple(Row(method, 3, 1, cells) for method in ("best", "uniform", "greedy"))
    (tmp_path / "out").mkdir()
    write_results(Results("accuracy", True, rows, ()), tmp_path / "out" / "results.json")
    return tmp_path / "out"


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_every_format(stockpot, finished, tmp_path, kind, begins) -> None:
    done = stockpot("figures", finished, "--format", kind, "-o", tmp_path / "drawn")
    assert done.code == 0
    files = sorted((tmp_path / "drawn").iterdir())
    assert [file.name for file in files] == [f"figure1.{kind}", f"shifts.{kind}"]
    assert all(file.read_bytes().startswith(begins) for file in files)
    assert "calibration is not drawn: results.json holds no ECE" in done.err


def test_a_folder_without_records(stockpot, tmp_path) -> None:
    done = stockpot("figures", tmp_path)
    assert done.code == 2
    assert "has no results.json, soup.json or analysis.json" in done.err


def test_scores_from_elsewhere_are_drawn_with_their_settings(stockpot, tmp_path) -> None:
    scores, settings = tmp_path / "scores.jsonl", tmp_path / "settings.jsonl"
    values = {"<script>": 0.7, "$x$": 0.72, "c": 0.6}
    scores.write_text("".join(json.dumps({"model_name": n, "v": v, "t": v, "s": v}) + "\n" for n, v in values.items()))
    rates = zip(values, (1e-5, 1e-4, 1e-3), strict=True)
    settings.write_text("".join(json.dumps({"model_name": n, "lr": lr}) + "\n" for n, lr in rates))
    command = ["table", scores, "--held-out", "v", "--test", "t", "--shift", "s"]
    done = stockpot(*command, "--figures", tmp_path / "drawn", "--settings", settings)
    assert done.code == 0
    drawn = sorted((tmp_path / "drawn").glob("*.svg"))
    assert [file.name for file in drawn] == ["figure1.svg", "ranks.svg", "settings.svg", "shifts.svg"]
    for file in drawn:
        assert not [e for e in ElementTree.parse(file).iter() if e.tag.endswith("script")]
    refused = stockpot(*command, "--settings", settings)
    assert refused.code == 2
    assert "--figures" in refused.err


def test_the_fixes_fit_the_command(stockpot, tmp_path) -> None:
    (tmp_path / "scores.csv").write_text("model_name,v,t,s\na,0.7,0.6,0.5\nb,0.8,0.7,0.6\n")
    (tmp_path / "file").write_text("")
    arguments = ("--held-out", "v", "--test", "t", "--shift", "s", "--figures", tmp_path / "file")
    done = stockpot("table", tmp_path / "scores.csv", *arguments)
    assert done.code == 2
    assert "fix: name another folder for the pictures" in done.err
    (tmp_path / "analysis.json").write_text("{}")
    done = stockpot("figures", tmp_path)
    assert done.code == 2
    assert "fix: give the analysis.json that stockpot wrote" in done.err


def test_settings_that_fit_no_score_are_told(stockpot, tmp_path) -> None:
    (tmp_path / "scores.csv").write_text("model_name,v,t,s\na,0.7,0.6,0.5\nb,0.8,0.7,0.6\n")
    (tmp_path / "settings.csv").write_text("model_name,lr\nA1,1\nb,2\n")
    options = ("--held-out", "v", "--test", "t", "--shift", "s", "--figures", tmp_path / "drawn")
    done = stockpot("table", tmp_path / "scores.csv", *options, "--settings", tmp_path / "settings.csv")
    assert done.code == 0
    assert "settings of 'A1'" in done.err
    assert "no settings for 'a'" in done.err
