"""Comparisons with a record: what agrees, what differs, in words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stockpot.assembly.recorded import Checked, check_file, file_differences, place_of
from stockpot.records import WrittenFile
from stockpot.types import Ingredient

ABC = hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("expected", "result", "differs"),
    [
        (WrittenFile(3, ABC), "SHA-256 as recorded", None),
        (WrittenFile(None, ABC), "SHA-256 as recorded", None),
        (WrittenFile(3), "3 bytes as recorded; no digest was taken", None),
        (WrittenFile(), "is there; the record says no more", None),
        (WrittenFile(4, ABC), None, "size 3 bytes, recorded 4"),
        (WrittenFile(3, "0" * 64), None, "its bytes are others (SHA-256 ba7816bf8f01..., recorded 000000000000...)"),
        (WrittenFile(None, ""), None, "its bytes are others (SHA-256 ba7816bf8f01..., recorded ...)"),
    ],
    ids=["both", "digest", "size", "nothing", "other size", "other bytes", "no digest at all"],
)
def test_a_file(tmp_path: Path, expected: WrittenFile, result: str | None, differs: str | None) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    checked = check_file(tmp_path / "x", "x", expected)
    assert checked.problems == (() if differs is None else (differs,))
    if result is not None:
        assert checked.result == result


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    assert check_file(tmp_path / "x", "x", WrittenFile()).lines() == ["x: is missing"]
    assert check_file(tmp_path, "x", WrittenFile()).lines() == ["x: is missing"]


def test_what_was_not_taken_on_either_side_does_not_count() -> None:
    assert not list(file_differences(WrittenFile(3), WrittenFile(3, "ab")))
    assert not list(file_differences(WrittenFile(3, "ab"), WrittenFile(3)))
    assert list(file_differences(WrittenFile(4), WrittenFile(3, "ab"))) == ["size 4 bytes, recorded 3"]


def test_every_problem_is_a_line_of_its_own() -> None:
    assert Checked("a", "", ("one", "two")).lines() == ["a: one", "a: two"]


def test_a_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place_of(Ingredient("a", "~/a")) == tmp_path / "a"
    assert place_of(Ingredient("a", "~no-such-user/a")) == Path("~no-such-user/a")
