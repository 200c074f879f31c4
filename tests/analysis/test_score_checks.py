"""Columns and cells: every mistake is told, with its place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from stockpot.analysis.score_checks import check_columns, check_file, columns_with_numbers
from stockpot.analysis.score_files import ScoreFile, read_score_file

GOOD = [{"model_name": "a", "val": 0.5, "test": 1, "note": "x"}, {"model_name": "b", "val": 0.6, "test": 0, "note": 1}]


@pytest.fixture
def file(tmp_path: Path):
    def make(rows: list[dict[str, object]], **changes: object) -> ScoreFile:
        content = "".join(json.dumps(row | changes) + "\n" for row in rows)
        (tmp_path / "s.jsonl").write_text(content)
        return read_score_file(tmp_path / "s.jsonl")

    return make


def problems(file: ScoreFile, columns: tuple[str, ...] = ("val", "test"), **options: object) -> list[str]:
    scores, found = check_file(file, columns, **options)  # type: ignore[arg-type]
    assert bool(scores) != bool(found)
    assert all(problem.fix for problem in found)
    return [problem.text.removeprefix(f"{file.label}: ") for problem in found]


def test_scores_are_read_and_the_rest_is_ignored(file) -> None:
    scores, found = check_file(file(GOOD), ("val", "test"))
    assert not found
    assert [(named.name, dict(named.values)) for named in scores] == [
        ("a", {"val": 0.5, "test": 1.0}),
        ("b", {"val": 0.6, "test": 0.0}),
    ]


def test_everything_wrong_at_once_by_line(file) -> None:
    rows = [
        {"model_name": "a", "val": "0.5", "test": math.nan},
        {"model_name": "a", "val": True},
        {"model_name": "\ud800", "val": 1, "test": None},
        {"model_name": " ", "val": 1, "test": 1},
    ]
    assert problems(file(rows)) == [
        "line 2: no 'test'",
        "lines 1, 2: 'a' is the name of 2 models",
        "line 1, val: '0.5' is text, not a number",
        "line 1, test: nan is not finite",
        "line 2, val: true is no number",
        "line 3, model_name: '\\ud800' is no readable text",
        "line 3, test: null is no number",
        "line 4, model_name: ' ' is no readable text",
    ]


def test_a_missing_column_names_the_nearest(file) -> None:
    assert problems(file(GOOD), ("Val", "tset")) == [
        "no column 'Val' (did you mean 'val'?)",
        "no column 'tset' (did you mean 'test'?)",
    ]
    nameless = [{"model": "a", "val": 1}]
    assert problems(file(nameless), ("val",)) == ["no column 'model_name' (did you mean 'model'?)"]


def test_only_the_columns_asked_for_may_not_occur_twice(tmp_path) -> None:
    (tmp_path / "s.csv").write_text("model_name,val,x,x,val\na,1,2,3,4\n")
    assert problems(read_score_file(tmp_path / "s.csv"), ("val",)) == ["line 1: the column 'val' occurs twice"]


def test_optional_columns_may_be_absent_or_empty_but_not_wrong(file) -> None:
    assert not problems(file([{"model_name": "a", "test": 1}]), optional=("val",))
    assert not problems(file(GOOD, val=None), optional=("val",))
    assert problems(file(GOOD, val="x"), optional=("val",))


def test_a_long_column_without_any_number_is_one_problem(file) -> None:
    rows = [{"model_name": f"m{i}", "val": "high", "test": 1} for i in range(50)]
    assert problems(file(rows)) == ["line 1, val: 'high' is text, not a number; likewise in all 50 rows"]
    rows[7]["val"] = 1.0
    assert len(problems(file(rows))) == 49


def test_columns_with_numbers(file) -> None:
    assert columns_with_numbers(file(GOOD)) == ["val", "test"]


@pytest.mark.parametrize(
    ("held_out", "test", "shifts", "says"),
    [
        (None, "test", (), ["no held-out column"]),
        ("val", "val", (), ["'val' is both held-out and test"]),
        ("val", "test", ("val",), ["'val' is both held-out and a shift"]),
        ("val", "test", ("test",), ["'test' is both test and a shift"]),
        ("val", None, ("a", "b", "a"), ["the shift 'a' is named 2 times"]),
        ("", None, (), ["a column without a readable name"]),
        ("val", "test", ("", "\udcff"), ["a column without a readable name"]),
        ("val", "test", ("a", "b"), []),
    ],
)
def test_the_choice_of_columns(file, held_out, test, shifts, says) -> None:
    found = check_columns(held_out, test, shifts, file(GOOD))
    assert [problem.text[: len(start)] for problem, start in zip(found, says, strict=True)] == says


def test_without_held_out_the_reason_is_given_and_the_columns_are_offered(file) -> None:
    (problem,) = check_columns(None, "test", (), file(GOOD))
    assert "looks better than it is" in problem.text
    assert "val, test" in problem.fix
    (problem,) = check_columns(None, "test", (), file(GOOD, val="x", test="y"))
    assert "no column of numbers" in problem.fix
