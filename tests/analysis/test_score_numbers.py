"""Which cells are numbers, and what is said about the others."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.analysis.score_numbers import Fault, number


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("-3", -3.0), ("1e-3", 0.001), ("+.5", 0.5), ("81", 81.0)])
def test_texts_of_csv(text: str, value: float) -> None:
    assert number(text, is_text=True) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"), ("nan", "not finite"), ("-inf", "not finite"), ("1e999", "not finite"), ("1_000", "'1_000'"),
        ("81,2", "'81,2' is no number"), ("81%", "'81%'"), ("٣", "no number"), ("true", "no number"),
        ("1e301", "larger than any score"),
    ],
)  # fmt: skip
def test_texts_that_are_none(text: str, says: str) -> None:
    found = number(text, is_text=True)
    assert isinstance(found, Fault)
    assert says in found.reason


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (True, "true is no number"), (None, "null is no number"), ([1], "a list"), ((), "an object"),
        (math.nan, "nan is not finite"), (-math.inf, "-inf is not finite"), (10**400, "larger than any score"),
        ("0.5", "'0.5' is text"), ("x" * 99, "..."),
    ],
    ids=repr,
)  # fmt: skip
def test_json_values_that_are_none(cell: object, says: str) -> None:
    found = number(cell, is_text=False)
    assert isinstance(found, Fault)
    assert says in found.reason


def test_a_number_in_quotes_is_told_to_lose_them_and_other_text_is_not() -> None:
    quoted, text = number("0.5", is_text=False), number("high", is_text=False)
    assert isinstance(quoted, Fault)
    assert isinstance(text, Fault)
    assert "without quotes" in quoted.fix
    assert "quotes" not in text.fix


@settings(deadline=None, derandomize=True)
@given(st.floats(-1e300, 1e300))
def test_numbers_stay_as_they_are(value: float) -> None:
    assert number(value, is_text=False) == value
    assert number(repr(value), is_text=True) == value
