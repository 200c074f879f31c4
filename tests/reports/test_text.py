"""User strings show literally, and tables keep their shape whatever the cells hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.records import Cell
from stockpot.reports.numbers import Scale, scale_for
from stockpot.reports.text import escape, pipe_table, printable

fast = settings(deadline=None, derandomize=True, max_examples=100)


@fast
@given(st.text())
def test_escaped_text_is_one_safe_line(n_cells, text: str) -> None:
    shown = escape(text)
    assert all(character.isprintable() for character in shown)
    assert "<" not in shown
    assert ">" not in shown
    assert n_cells(f"| {shown} |") == 1


@fast
@given(st.text(st.characters(categories=["L", "N"])))
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert escape(text) == printable(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**bold**", r"\*\*bold\*\*"),
        ("[a](b)", r"\[a\](b)"),
        ("_em_", r"\_em\_"),
        ("a_b", "a_b"),
        ("a\\|b", r"a\\\|b"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("two\nlines", "two lines"),
    ],
)
def test_markup_is_text(text: str, shown: str) -> None:
    assert escape(text) == shown


@fast
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=5))
def test_every_line_of_a_table_has_the_same_cells(n_cells, rows: list[tuple[str, ...]]) -> None:
    lines = pipe_table(["a", "b", "c"], [[escape(cell) for cell in row] for row in rows]).splitlines()
    assert len(lines) == len(rows) + 2
    assert {n_cells(line) for line in lines} == {3}


@fast
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_values_that_look_alike_are_alike(a: float, b: float) -> None:
    scale = Scale(100, 1, "points")
    assert (scale.rounded(a) == scale.rounded(b)) == (scale.number(a) == scale.number(b))
    assert "-0.0" not in {scale.number(a), scale.signed(b)}


@pytest.mark.parametrize(
    ("metric", "cell", "scale"),
    [
        ("accuracy", Cell(0.7, 0.01, 1000), Scale(100.0, 1, "points")),
        ("accuracy", Cell(70.0, 1.0, 1000), Scale(1.0, 1, "points")),
        ("nll", Cell(0.7, 0.01, 1000), Scale(1.0, 3, "nll")),
        ("score", Cell(1234.0, None, None), Scale(1.0, 0, "score")),
        ("score", Cell(0.0, None, None), Scale(1.0, 3, "score")),
    ],
)
def test_scales(metric: str, cell: Cell, scale: Scale) -> None:
    assert scale_for(metric, [cell]) == scale
