"""docs/guide/results-from-elsewhere.md: its files give its transcripts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "results-from-elsewhere.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_runs_as_it_stands(stockpot, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    scores, soups = re.findall(r"```\n(.*?)```", TEXT.split("```console")[0], flags=re.DOTALL)
    Path("scores.jsonl").write_text(scores)
    Path("soups.csv").write_text(soups)
    transcripts = re.findall(r"```console\n\$ (.*?)\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(transcripts) == 4
    for command, shown in transcripts:
        program, *arguments = shlex.split(command)
        assert program == "stockpot"
        done = stockpot(*arguments)
        assert _lines(done.out + done.err) == _lines(shown), command
        assert done.code == (2 if "error:" in shown else 0)


def _lines(text: str) -> list[str]:
    """Without the spaces at the ends of lines, which editors remove."""
    return [line.rstrip() for line in text.rstrip().splitlines()]
