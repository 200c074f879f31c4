"""What every record goes through: found, parsed, brought to the current schema, checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from stockpot.errors import RecordError
from stockpot.records._json import Schema, checked, read_json, record_file

THREE = Schema(
    3, {1: lambda content: {**content, "two": True}, 2: lambda content: {**content, "three": content["two"]}}
)


@dataclass(frozen=True)
class Shape:
    number: int
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("found", "added"), [(1, {"two": True, "three": True}), (2, {"two": 5, "three": 5}), (3, {"two": 5})]
)
def test_every_upgrade_from_the_files_schema_on(tmp_path: Path, found: int, added: dict[str, object]) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"schema": found} | ({} if found == 1 else {"two": 5})))
    assert read_json(file, THREE) == {"schema": 3, **added}


@pytest.mark.parametrize("found", [0, 4, "1", 1.0, True, None, [1]])
def test_other_schemas(tmp_path: Path, found: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"schema": found}))
    with pytest.raises(RecordError, match="reads schemas 1 to 3"):
        read_json(tmp_path / "a.json", THREE)


@pytest.mark.parametrize("text", ['{"schema": 3, "schema": 1}', '{"schema": 3, "a": {"b": 1, "b": 2}}'])
def test_a_key_that_occurs_twice(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RecordError, match="occurs twice"):
        read_json(tmp_path / "a.json", THREE)


def test_a_file_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "odd.json").mkdir()
    assert record_file(tmp_path, "soup.json") == tmp_path / "soup.json"
    assert record_file(tmp_path / "other.json", "soup.json") == tmp_path / "other.json"
    assert record_file(tmp_path / "odd.json", "soup.json") == tmp_path / "odd.json" / "soup.json"


def test_a_shape_or_all_that_is_wrong_with_it() -> None:
    assert checked({"number": 1, "names": ["a"], "later": 2}, Shape) == (Shape(1, ("a",)), [])
    value, problems = checked({"number": "1", "names": [2]}, Shape, "here")
    assert value is None
    assert [problem.split(":")[0] for problem in problems] == ["here.number", "here.names[0]"]
