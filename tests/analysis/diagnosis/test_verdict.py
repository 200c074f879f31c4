"""The recommendation follows from what was found, and from nothing else."""

from __future__ import annotations

import pytest

from stockpot.analysis.diagnosis import concluded, saturation_findings
from stockpot.records import Finding
from stockpot.types import Score

RUNS = ("a", "b", "c", "d")


def said(*found: tuple[str, str, tuple[str, ...]]) -> str:
    return concluded(
        RUNS, [Finding(kind, severity, "...", (), "", names) for kind, severity, names in found], []
    ).recommendation


@pytest.mark.parametrize(
    ("kind", "names", "behind", "word"),
    [
        ("unequal", ("b",), True, "unequal"),
        ("barely_moved", ("b",), True, "hardly moved"),
        ("running_statistics", (), True, "--recalibrate"),
        ("held_out_too_small", (), False, "--significance"),
        ("overlap", (), False, "shared examples"),
        ("saturated", (), False, "that is solved"),
        ("near_duplicates", ("a", "b"), False, "keep one"),
    ],
)
def test_each_finding_gives_its_own_reason(kind: str, names: tuple[str, ...], behind: bool, word: str) -> None:
    text = said((kind, "caution", names))
    assert ("uniform one may fall behind" in text) is behind
    assert ("uniform beside it" in text) is not behind
    assert word in text
    assert "nothing speaks against" not in text


def test_what_is_dropped_gives_no_reasons() -> None:
    text = said(
        ("diverged", "fault", ("b",)), ("unequal", "caution", ("b",)), ("near_duplicates", "caution", ("a", "b"))
    )
    assert text == "leave out b and take greedy of the other 3, and uniform beside it"


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (Score(1.0, 0.0, 200, metric="accuracy"), True),
        (Score(0.995, 0.005, 200, metric="accuracy"), True),
        (Score(0.97, 0.01, 200, metric="accuracy"), False),
        (Score(0.6, 0.2, 5, metric="accuracy"), False),
        (Score(1.0, 0.0, 200, metric="f1"), True),
        (Score(0.99, 0.01, 200, metric="f1"), False),
        (Score(0.0, 0.0, 200, metric="nll", higher_is_better=False), True),
        (Score(0.2, 0.1, 200, metric="nll", higher_is_better=False), False),
        (Score(1.0, 0.0, 200, metric="my_own"), False),
    ],
)
def test_a_solved_set_leaves_nothing_to_gain(score: Score, expected: bool) -> None:
    assert bool(saturation_findings({"a": score, "b": score})) is expected
