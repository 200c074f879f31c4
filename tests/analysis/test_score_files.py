"""Reading files of scores: equal content in every format, and all that can be wrong with one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from stockpot.analysis.score_files import read_score_file

ROWS = [{"model_name": "a, b", "test": 0.5}, {"model_name": "ü\u2028x", "test": 0.25}]
JSON = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TEXTS = [{"model_name": row["model_name"], "test": str(row["test"])} for row in ROWS]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder / name


def said(folder: Path, name: str, content: str | bytes) -> list[str]:
    file = read_score_file(written(folder, name, content))
    assert all(problem.text.startswith(str(folder / name)) and problem.fix for problem in file.problems)
    return [problem.text.removeprefix(f"{folder / name}: ") for problem in file.problems]


@pytest.mark.parametrize("name", ["s.jsonl", "s.ndjson", "S.JSONL", "s.jsonl.gz", "v1.2.jsonl"])
@pytest.mark.parametrize(
    "content", [JSON, "\ufeff" + JSON, JSON.replace("\n", "\r\n\r\n")], ids=["plain", "bom", "dos"]
)
def test_json_lines(tmp_path, name, content) -> None:
    file = read_score_file(written(tmp_path, name, content))
    assert [row.values for row in file.rows] == ROWS
    assert not file.problems
    assert not file.has_texts
    assert (file.source, file.columns) == (name, ("model_name", "test"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.csv", 'model_name,test\n"a, b",0.5\nü\u2028x,0.25\n'),
        ("s.csv.gz", 'model_name, test\r\n"a, b", 0.5\r\n\r\nü\u2028x,0.25'),
        ("s.tsv", "\ufeff\nmodel_name\ttest\na, b\t0.5\nü\u2028x\t 0.25 \n\t\n"),
    ],
    ids=["csv", "csv.gz", "tsv"],
)
def test_csv_and_tsv(tmp_path, name, content) -> None:
    file = read_score_file(written(tmp_path, name, content))
    assert [row.values for row in file.rows] == TEXTS
    assert not file.problems
    assert file.has_texts


def test_lines_are_counted_from_one_and_begin_where_the_row_does(tmp_path) -> None:
    file = read_score_file(written(tmp_path, "s.csv", 'model_name,note\na,"x\ny"\n\nb,z\n'))
    assert [row.line for row in file.rows] == [2, 5]
    file = read_score_file(written(tmp_path, "s.jsonl", '\n{"a": 1}\n\n{"a": 2}'))
    assert [row.line for row in file.rows] == [2, 4]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("s.jsonl", "", ["no rows"]),
        ("s.csv", "model_name,test\n", ["no rows"]),
        ("s.csv.gz", "", ["no rows"]),
        ("s.jsonl", '{"a": 1}\n{"a": \n[1]\n', ["line 2: not JSON: Expecting value", "line 3: [1] is no JSON object"]),
        ("s.jsonl", '[{"a": 1},\n {"a": 2}]', ["one JSON value, not one object per line"]),
        ("s.jsonl", '{\n "a": 1\n}', ["one JSON value, not one object per line"]),
        ("s.jsonl", '{"a": 1}\n' + "[" * 100_000, ["line 2: nested too deeply"]),
        ("s.jsonl", b'{"a": 1}\n\xff', ["line 2: not UTF-8 text"]),
        ("s.csv", "a,b\n1\n1,2\n1,2,3\n", ["line 2: 1 cells under a header of 2", "line 4: 3 cells"]),
        ("s.csv", 'a,b\n1,2\n"1,2\n', ["line 3: unexpected end of data"]),
        ("s.csv", "a;b\n1,5;2\n", ["one column only; its header 'a;b' holds ';'"]),
        ("s.tsv", "a,b\n1,5\n", ["one column only; its header 'a,b' holds ','"]),
        ("s.json", "{}", ["unknown suffix '.json'"]),
        ("s.json.gz", "{}", ["unknown suffix '.json.gz'"]),
        ("scores", "{}", ["no suffix"]),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 10 else "content",
)
def test_problems(tmp_path, name, content, says) -> None:
    found = said(tmp_path, name, content)
    assert len(found) == len(says)
    assert all(text.startswith(start) for text, start in zip(found, says, strict=True)), found


def test_files_that_cannot_be_read(tmp_path) -> None:
    written(tmp_path, "scores.jsonl", JSON)
    (missing,) = read_score_file(tmp_path / "score.jsonl").problems
    assert "no such file (did you mean 'scores.jsonl'?)" in missing.text
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(JSON.encode())[:-9])
    (cut,) = read_score_file(tmp_path / "cut.jsonl.gz").problems
    assert "cannot be read" in cut.text
    (tmp_path / "no.csv.gz").write_bytes(b"model_name,test\n")
    (plain,) = read_score_file(tmp_path / "no.csv.gz").problems
    assert "cannot be read" in plain.text
    (tmp_path / "folder.csv").mkdir()
    (folder,) = read_score_file(tmp_path / "folder.csv").problems
    assert "a folder" in folder.text


def test_columns_that_occur_twice_are_remembered_with_their_lines(tmp_path) -> None:
    file = read_score_file(written(tmp_path, "s.jsonl", '{"a": 1}\n{"a": 1, "a": 2, "n": {"b": 1, "b": 2}}\n'))
    assert file.lines_by_repeated == {"a": (2,)}
    file = read_score_file(written(tmp_path, "s.csv", "a,b,a\n1,2,3\n"))
    assert file.lines_by_repeated == {"a": (1,)}
