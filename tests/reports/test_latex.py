"""LaTeX compiles whatever names hold: its own special characters never come through bare."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.reports.latex import comments, escape, number, tabular

#: What may stand in escaped text: commands, groups, mathematics, and characters without a meaning.
TOKEN = re.compile(r"\\[A-Za-z]+(?![A-Za-z])|\\[^A-Za-z]|[{}]|\$(?:\^?\\[A-Za-z]+)\$|[^\\{}$&#%_^~<>|\"`]")


def depth_of(text: str) -> int:
    """Open groups at the end; fails where one is closed that is not open, or where a character is bare."""
    depth = 0
    for token in tokens(text):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0
    return depth


def tokens(text: str) -> list[str]:
    found = TOKEN.findall(text)
    assert "".join(found) == text
    return found


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.text(max_size=12) | st.text(alphabet="\\{}$&#%_^~<>|\"`[]*-'\n\x1béΩβ…", max_size=12))
def test_any_text_is_ascii_in_closed_groups_without_bare_characters(text: str) -> None:
    shown = escape(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert depth_of(shown) == 0
    assert not re.match(r"[\[*]", shown)
    assert "--" not in shown
    assert "''" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lr_3e-5", r"lr\_3e-5"),
        ("a--b", "a-{}-b"),
        ("[x]", "{[}x{]}"),
        ("C:\\x", r"C:\textbackslash{}x"),
        ("naïve Ångström", r"na\"{\i}ve {\AA}ngstr\"{o}m"),
        ("λ=Σ", r"$\lambda$=$\Sigma$"),
        ("Α", "{[}U+0391{]}"),  # a capital alpha has no command
        ("模", "{[}U+6A21{]}"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_numbers_have_a_minus_and_nothing_is_a_dash() -> None:
    assert [number(text) for text in ("0.5", "-0.5", "-", "")] == ["0.5", "$-$0.5", "--", ""]


def test_comments_cannot_end_early() -> None:
    assert comments(["a\n\\input{x}", "é"]) == "% a \\input{x}\n% \\xe9\n"


def test_every_line_of_a_tabular_has_as_many_cells_as_columns() -> None:
    text = tabular([["a", "b", "c"], ["", "", ""]], [[["1", "2", "3"]], [["4", "5", "6"]]], left=2)
    assert text.startswith("\\begin{tabular}{llr}\n\\toprule\n")
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")
    assert [line.count(" & ") for line in text.splitlines() if line.endswith("\\\\")] == [2, 2, 2, 2]
    assert text.count("\\midrule") == 2
