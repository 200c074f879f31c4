"""Settings beside scores: a missing value stays missing, and names without a counterpart are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.analysis.score_settings import read_settings, settings_notes


@pytest.mark.parametrize("blank", ["", "NA", "nan", "None", "-", " n/a "])
def test_a_missing_number_leaves_its_column_one_of_numbers(tmp_path: Path, blank: str) -> None:
    (tmp_path / "s.csv").write_text(f"model_name,wd\na,0\nb,0.1\nc,{blank}\n")
    assert read_settings(tmp_path / "s.csv") == {"a": {"wd": 0.0}, "b": {"wd": 0.1}, "c": {"wd": None}}


def test_among_texts_only_an_empty_cell_is_missing(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("model_name,augment\na,mixup\nb,none\nc,\n")
    assert [one["augment"] for one in read_settings(tmp_path / "s.csv").values()] == ["mixup", "none", None]


def test_json_says_null(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"model_name": "a", "wd": null}\n{"model_name": "b", "wd": 0.1}\n')
    assert read_settings(tmp_path / "s.jsonl") == {"a": {"wd": None}, "b": {"wd": 0.1}}


def test_names_without_a_counterpart_are_told() -> None:
    whole = {"a": {"lr": 0.1}, "b": {"lr": 0.2}}
    assert settings_notes(whole, ["a", "b"]) == []
    assert settings_notes({**whole, "soup": {}}, ["a", "b"], ["soup"]) == []
    many = [f"m{i}" for i in range(8)]
    notes = settings_notes({"a": {"lr": 0.1}, "b": {"lr": None}, "z": {"lr": 1}}, ["a", "b", *many])
    assert notes == [
        "settings of 'z' have no scores", "no settings for 'm0', 'm1', 'm2', 'm3', 'm4' and 3 more",
        "lr has no value for 'b'",
    ]  # fmt: skip
