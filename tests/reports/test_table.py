"""The table: every row as wide as its header, the right values marked, in every width of terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from stockpot.records import METHODS, Cell, Results, Row
from stockpot.reports.table import markdown, summary_sentence, terminal

SPLITS = ("held_out", "test", "shift:typos", "shift:name", "shift_mean")
fast = settings(deadline=None, derandomize=True, max_examples=40)


def cell(value: float, n: int | None = 1000, orders: int | None = None) -> Cell:
    return Cell(value, 0.012, n, 0.002 if orders else None, orders)


def full(splits: tuple[str, ...] = SPLITS) -> Results:
    """Every method; each is one point better than the one above it, mean individual and ensembles best of all."""
    rows = []
    for index, method in enumerate(METHODS):
        value = 0.9 if method in {"mean_individual", "ensemble", "greedy_ensemble"} else 0.6 + index / 100
        orders = 3 if method == "greedy_random" else None
        scores = {split: cell(value, orders=orders) for split in splits}
        rows.append(Row(method, 4, 4 if "ensemble" in method else 1, scores))
    return Results("accuracy", True, tuple(rows))


def table_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def shown(results: Results, width: int, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(width=width, file=file, legacy_windows=False).print(terminal(results))
    file.seek(0)
    return file.read()


class TestMarkdown:
    def test_one_line_per_method_and_equal_cells(self, n_cells) -> None:
        lines = table_of(markdown(full()))
        assert len(lines) == len(METHODS) + 2
        assert {n_cells(line) for line in lines} == {len(SPLITS) + 3}
        assert len({len(line) for line in lines}) == 1

    def test_the_header_says_n(self) -> None:
        header = table_of(markdown(full()))[0]
        assert "test (n=1,000)" in header
        assert "mean of shifts (n=1,000)" in header

    def test_one_model_methods_alone_are_marked(self) -> None:
        (line,) = [line for line in table_of(markdown(full())) if "**" in line]
        assert line.startswith("| learned by layer")
        assert line.count("**") == 2 * len(SPLITS)

    def test_the_direction_decides(self) -> None:
        (line,) = [line for line in table_of(markdown(replace(full(), higher_is_better=False))) if "**" in line]
        assert line.startswith("| initialisation")

    def test_equal_looks_get_equal_marks(self) -> None:
        rows = (Row("best", 1, 1, {"test": cell(0.75001)}), Row("greedy", 2, 1, {"test": cell(0.75)}))
        assert markdown(Results("accuracy", True, rows)).count("**75.0 ± 1.2**") == 2

    def test_missing_cells_are_empty(self, n_cells) -> None:
        rows = (Row("best", 1, 1, {"test": cell(0.7)}), Row("greedy", 2, 1, {"held_out": cell(0.7)}))
        lines = table_of(markdown(Results("accuracy", True, rows)))
        assert {n_cells(line) for line in lines} == {5}

    def test_methods_come_in_order_and_later_ones_last(self) -> None:
        rows = tuple(Row(method, 1, 1, {"test": cell(0.7)}) for method in ("model_stock", *reversed(METHODS)))
        names = [line.split("|")[1].strip() for line in table_of(markdown(Results("accuracy", True, rows)))[2:]]
        assert names[0] == "initialisation"
        assert names[-1] == "model stock"

    def test_the_recorded_sentence_stands_below(self) -> None:
        assert "\nmeasured twice\n" in markdown(replace(full(), sentence="measured twice"))
        assert "\n" + summary_sentence(full()) + "\n" in markdown(full())

    def test_held_out_is_called_optimistic(self) -> None:
        assert "optimistic" in markdown(full())
        assert "optimistic" not in markdown(full(("test",)))

    def test_hostile_names(self, n_cells) -> None:
        rows = (Row("a|b`<script>\n", 1, 1, {"shift:x|y\n<b>": cell(0.7)}),)
        text = markdown(Results("accu|racy", True, rows, notes=("<img src=x>",)))
        assert "<" not in text
        assert {n_cells(line) for line in table_of(text)} == {4}

    def test_nothing_measured(self) -> None:
        assert table_of(markdown(Results("accuracy", True, ())))[0].startswith("| method")

    @fast
    @given(st.dictionaries(st.text(max_size=6), st.floats(-1e6, 1e6), max_size=5), st.text(max_size=6), st.booleans())
    def test_any_names_and_numbers_keep_its_shape(
        self, n_cells, values: dict[str, float], metric: str, higher: bool
    ) -> None:
        rows = tuple(
            Row(method, 2, 1, {f"shift:{name}": Cell(value, abs(value) / 7, None) for name, value in values.items()})
            for method in ("best", "greedy")
        )
        lines = table_of(markdown(Results(metric, higher, rows)))
        assert {n_cells(line) for line in lines} == {len(values) + 3}


class TestTerminal:
    @pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
    def test_no_line_is_too_long_and_no_name_cut(self, width: int) -> None:
        text = shown(full(), width)
        assert all(len(line) <= width for line in text.splitlines())
        assert "…" not in text
        assert "random order (3)" in text

    def test_best_values_are_marked_without_colours(self) -> None:
        (line,) = [line for line in shown(full(), 80).splitlines() if "68.0*" in line]
        assert "learned by layer" in line
        assert line.count("*") == len(SPLITS)

    def test_wide_terminals_show_every_error_narrow_ones_the_largest(self) -> None:
        assert shown(full(), 140).count("±1.2") == len(METHODS) * len(SPLITS)
        assert shown(full(), 80).count("± at most") == 1

    def test_too_many_shifts_leave_their_mean(self) -> None:
        many = full(("test", *(f"shift:number-{index}" for index in range(12)), "shift_mean"))
        text = shown(many, 80)
        assert "number-3" not in text
        assert "12 shifts behind the mean" in text
        assert "number-3" in shown(many, 250)

    def test_the_sentence_is_there(self) -> None:
        assert " ".join(summary_sentence(full()).split()[:4]) in " ".join(shown(full(), 80).split())

    def test_a_terminal_without_unicode(self) -> None:
        rows = (Row("best", 1, 1, {"shift:typös": cell(0.7)}), Row("ensemble", 4, 4, {"shift:typös": cell(0.7)}))
        text = shown(Results("accuracy", True, rows), 100, encoding="ascii")
        assert "typ?s" in text
        assert "x4" in text
        assert "+-1.2" in text

    def test_markup_and_escape_sequences_are_text(self) -> None:
        rows = (Row("[red]x", 1, 1, {"shift:[bold]\x1b[31m": cell(0.7)}),)
        text = shown(Results("accuracy", True, rows), 100)
        assert "\x1b" not in text
        assert "[red]x" in text
        assert "[bold]" in text

    def test_nothing_measured(self) -> None:
        assert "method" in shown(Results("accuracy", True, ()), 80)
