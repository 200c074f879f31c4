"""How a soup was written: checked when it is read, names kept inside the folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stockpot.errors import RecordError
from stockpot.records import Output, WrittenFile, output_of, read_soup_record, write_soup
from stockpot.types import Coefficients, Ingredient, Soup

SOUP = Soup((Ingredient("a", "org/a"),), Coefficients.equal(1), "best")
OUTPUT = Output(
    dtype="BF16",
    only=("*.weight",),
    max_shard_size=10**9,
    donor="a",
    files={"model.safetensors": WrittenFile(352, "ab")},
    side_files={"1_Pooling/config.json": WrittenFile(17, None)},
    integer_differences={"steps": ("b",)},
    header_digest="cd",
)


def damaged(tmp_path: Path, **changes: object) -> tuple[str, ...]:
    """The problems of a record whose output has these keys changed; ... removes one."""
    write_soup(SOUP, tmp_path, output=OUTPUT)
    file = tmp_path / "soup.json"
    content = json.loads(file.read_text())
    content["output"] = {k: v for k, v in {**content["output"], **changes}.items() if v is not ...}
    file.write_text(json.dumps(content))
    with pytest.raises(RecordError) as caught:
        read_soup_record(tmp_path)
    assert str(file) in caught.value.message
    return caught.value.problems


@pytest.mark.parametrize("output", [OUTPUT, replace(OUTPUT, dtype=None, header_digest=None, only=())])
def test_it_reads_back_equal(output: Output, tmp_path: Path) -> None:
    write_soup(SOUP, tmp_path, output=output)
    record = read_soup_record(tmp_path)
    assert output_of(record.output, tmp_path) == output
    assert set(record.output) == set(asdict(OUTPUT))


def test_unknown_keys_are_kept_and_ignored(tmp_path: Path) -> None:
    write_soup(SOUP, tmp_path, output={**asdict(OUTPUT), "later": [1]})
    record = read_soup_record(tmp_path)
    assert record.output["later"] == [1]
    assert output_of(record.output, tmp_path) == OUTPUT


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "C:\\x", "C:x", "\\\\host\\share", "..\\x", "..", ".", "", "a\0b"],
    ids=["up", "around", "root", "drive", "drive only", "share", "windows up", "dots", "dot", "empty", "nul"],
)
@pytest.mark.parametrize("key", ["files", "side_files"])
def test_a_name_that_leaves_the_folder(key: str, name: str, tmp_path: Path) -> None:
    problems = damaged(tmp_path, **{key: {"good.json": {"bytes": 1}, name: {"bytes": 1}}})
    assert problems == (f"output.{key}: {name!r} is no path inside the soup's folder",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", 32), ("only", "*.weight"), ("only", [1]), ("max_shard_size", 1.5), ("max_shard_size", True),
        ("donor", None), ("files", {"a": "digest"}), ("side_files", ["config.json"]),
        ("integer_differences", {"steps": "b"}), ("header_digest", 1), ("dtype", ...),
        ("side_files", ...),
    ],
    ids=lambda value: "missing" if value is ... else json.dumps(value),
)  # fmt: skip
def test_wrong_types_and_missing_keys_are_named(key: str, value: object, tmp_path: Path) -> None:
    problems = damaged(tmp_path, **{key: value})
    assert problems
    assert all(problem.startswith(f"output.{key}") for problem in problems)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    write_soup(SOUP, tmp_path, output=OUTPUT)
    file = tmp_path / "soup.json"
    content = json.loads(file.read_text())
    content["combine"] = "words"
    content["output"] |= {"dtype": 1, "files": {"../x": {}}}
    file.write_text(json.dumps(content))
    with pytest.raises(RecordError) as caught:
        read_soup_record(tmp_path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["combine", "output.dtype", "output.files"]


def test_a_record_without_weight_files() -> None:
    with pytest.raises(RecordError, match=r"some\.json says nothing of weight files"):
        output_of({"dtype": "F32"}, "some.json")
