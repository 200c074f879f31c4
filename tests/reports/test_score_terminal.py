"""The table of a user's own scores in every width of window."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from stockpot.reports.score_terminal import terminal
from stockpot.score_record import ScoreColumns, ScoreRow, ScoreTable

SHIFTS = ("ImageNetV2", "ImageNetSketch", "ImageNetR", "ObjectNet", "ImageNetA")


def many(n: int = 72, name: str = "model_{}") -> ScoreTable:
    """The held-out ranking is the other way round on the shifts; two soups without a held-out score."""
    rows = [_row(name.format(i), 0.9 - i / 1000, 0.8 - i / 1000, 0.4 + i / 1000, i + 1) for i in range(n)]
    soups = [_row(soup, None, 0.85, 0.5, None) for soup in ("uniform_soup", "greedy_soup")]
    columns = ScoreColumns("ImageNet2p", "ImageNet", SHIFTS)
    splits = columns.splits
    spearman = {f"{a}~{b}": -0.5 for i, a in enumerate(splits) for b in splits[i + 1 :]}
    return ScoreTable(columns, (*rows, *soups), rows[0].model_name, rows[1].model_name, spearman)


def _row(name: str, held_out: float | None, test: float, shift: float, rank: int | None) -> ScoreRow:
    kind = "other" if rank is None else "individual"
    return ScoreRow(name, held_out, test, dict.fromkeys(SHIFTS, shift), shift, rank, kind, "s.jsonl")


def shown(table: ScoreTable, width: int, encoding: str = "utf-8", **options: bool) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(width=width, file=file, legacy_windows=False).print(terminal(table, **options))
    file.seek(0)
    return file.read()


def drawn(text: str) -> list[str]:
    return text.split("\nBest individual", maxsplit=1)[0].splitlines()


@pytest.mark.parametrize("width", [50, 60, 80, 81, 100, 120, 200])
@pytest.mark.parametrize("name", ["model_{}", "lr=3e-5,wd=0.1,seed={},augmented", "模型{}"])
def test_no_line_is_broken_or_too_long(width: int, name: str) -> None:
    lines = drawn(shown(many(name=name), width))
    assert max(map(cell_len, lines)) <= width
    assert len({cell_len(line) for line in lines if line.strip()}) == 1  # every line as wide as the rule


@pytest.mark.parametrize("width", [80, 120])
def test_all_columns_fit_usual_windows(width: int) -> None:
    (line,) = [line for line in shown(many(), width).splitlines() if "model_0 " in line and "0.9000*" in line]
    assert line.split() == ["1", "model_0", "0.9000*", "0.8000*", *["0.4000"] * 6]


def test_the_first_twenty_the_best_of_a_column_and_all_soups_are_shown() -> None:
    text = shown(many(), 80)
    names = [word for line in drawn(text) for word in line.split() if word.startswith(("model_", "uniform", "greedy"))]
    assert names == [*(f"model_{i}" for i in range(20)), "model_71", "uniform_soup", "greedy_soup"]
    assert "21 of 72 individuals are shown; --all" in text
    everything = shown(many(), 80, show_all=True)
    assert "model_50" in everything
    assert "--all" not in everything
    assert "--all" not in shown(many(20), 80)


def test_best_values_are_marked_and_numbers_stay_in_line() -> None:
    lines = drawn(shown(many(), 80))
    (last,) = [line for line in lines if "model_71" in line]
    assert last.count("0.4710*") == 6
    first = next(line for line in lines if "model_0" in line)
    second = next(line for line in lines if "model_1 " in line)
    assert first.index("0.9000*") == second.index("0.8990 ")
    assert "*" not in next(line for line in lines if "uniform_soup" in line)


def test_narrow_windows_keep_the_mean_of_the_shifts() -> None:
    text = shown(many(), 60)
    assert "Sketch" not in text
    assert "mean" in text
    assert "5 shifts behind the mean" in text


def test_long_names_are_cut_only_where_they_stay_different() -> None:
    different = shown(many(name="a-long-beginning-of-a-name-{}-end"), 90)
    assert any("…" in line and line.rstrip("* ").endswith("0.4000") for line in drawn(different))
    assert "Sketch" in different
    alike = shown(many(name="a-long-beginning-of-a-name-{}-with-a-long-and-common-end"), 100)
    assert not any("…" in line for line in drawn(alike))
    assert "Sketch" not in alike
    assert f"a-long-beginning-of-a-name-{0}-end (held-out" in " ".join(different.split())


def test_correlations_stand_under_their_columns() -> None:
    lines = drawn(shown(many(), 120))
    assert next(line for line in lines if "rho held-out" in line).split() == ["rho", "held-out", *["-0.500"] * 7]
    assert next(line for line in lines if "rho test" in line).split()[:3] == ["rho", "test", "-0.500"]


def test_a_terminal_without_unicode() -> None:
    text = shown(many(name="modèl_{}-with-quite-a-long-name-that-will-not-fit-anywhere"), 80, encoding="ascii")
    assert text.isascii()
    assert max(map(len, drawn(text))) <= 80


def test_markup_and_escape_sequences_are_text() -> None:
    text = shown(many(2, name="[red]{}\x1b[31m"), 80)
    assert "\x1b" not in text
    assert "[red]0" in text


def test_one_model_and_one_column() -> None:
    row = ScoreRow("a", 0.5, None, {}, None, 1, "individual", "s.csv")
    text = shown(ScoreTable(ScoreColumns("val"), (row,), "a", None, {}), 80)
    assert "0.5000*" in text
    assert "rho" not in text
