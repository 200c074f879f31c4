"""What is told while a command works is kept beside its results, and gone when it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockpot.experiment.progress import PROGRESS_FILE, Progress, kept_progress
from stockpot.reports.page.document import page_document


def test_lines_are_kept_while_the_work_goes_on_and_heard_too(tmp_path: Path) -> None:
    heard: list[Progress] = []
    (tmp_path / PROGRESS_FILE).write_text("of a command that was killed\n")
    with kept_progress(tmp_path, heard.append) as tell:
        tell(Progress("sweep", "run-00 held-out 0.7", 1, 6))
        tell(Progress("select", "greedy: + run-00 0.7 kept"))
        lines = (tmp_path / PROGRESS_FILE).read_text().splitlines()
        shown = page_document(tmp_path, is_under_way=True)["progress"]
    assert [json.loads(line)["line"] for line in lines] == [one.line for one in heard]
    assert shown == ["greedy: + run-00 0.7 kept", "[1/6] run-00 held-out 0.7"]
    assert list(tmp_path.iterdir()) == []


def test_they_go_when_the_work_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with kept_progress(tmp_path, None) as tell:
            tell(Progress("sweep", "begun"))
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert list(tmp_path.iterdir()) == []
