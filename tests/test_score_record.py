"""The file of a score table: its keys, its bytes, and what it does not replace."""

from __future__ import annotations

import json

import pytest

from stockpot.errors import OutputError
from stockpot.score_record import ScoreColumns, ScoreRow, ScoreTable, write_score_table

TABLE = ScoreTable(
    ScoreColumns("val", "test", ("typos",)),
    (
        ScoreRow("a", 0.1 + 0.2, 0.5, {"typos": 0.25}, 0.25, 1, "individual", "s.jsonl"),
        ScoreRow("ü", None, 0.5, {"typos": 0.25}, 0.25, None, "other", "soups.csv"),
    ),
    "a",
    None,
    {"held_out~test": None},
    (("a", "b"),),
)


def test_the_file_has_these_keys(tmp_path) -> None:
    write_score_table(TABLE, tmp_path / "new" / "t.json")
    assert json.loads((tmp_path / "new" / "t.json").read_text(encoding="utf-8")) == {
        "schema": 1,
        "columns": {"held_out": "val", "test": "test", "shifts": ["typos"], "higher_is_better": True},
        "rows": [
            {
                "model_name": "a", "held_out": 0.1 + 0.2, "test": 0.5, "shifts": {"typos": 0.25}, "shift_mean": 0.25,
                "rank": 1, "kind": "individual", "source": "s.jsonl",
            },
            {
                "model_name": "ü", "held_out": None, "test": 0.5, "shifts": {"typos": 0.25}, "shift_mean": 0.25,
                "rank": None, "kind": "other", "source": "soups.csv",
            },
        ],
        "best": "a",
        "second_best": None,
        "spearman": {"held_out~test": None},
        "duplicates": [["a", "b"]],
    }  # fmt: skip


def test_an_existing_file_is_replaced_by_force_only(tmp_path) -> None:
    file = tmp_path / "t.json"
    file.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_score_table(TABLE, file)
    assert file.read_text() == "mine"
    write_score_table(TABLE, file, force=True)
    first = file.read_bytes()
    write_score_table(TABLE, file, force=True)
    assert file.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_inputs_and_folders_are_never_replaced(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.jsonl").write_text("scores")
    with pytest.raises(OutputError, match="being read"):
        write_score_table(TABLE, tmp_path / "s.jsonl", force=True, inputs=["s.jsonl"])
    with pytest.raises(OutputError, match="a folder"):
        write_score_table(TABLE, tmp_path, force=True)
    assert (tmp_path / "s.jsonl").read_text() == "scores"


def test_every_split_has_a_score() -> None:
    row = TABLE.rows[0]
    assert [row.score(split) for split in TABLE.columns.splits] == [0.1 + 0.2, 0.5, 0.25, 0.25]
    assert [TABLE.columns.column(split) for split in TABLE.columns.splits] == ["val", "test", "typos", "shift_mean"]
