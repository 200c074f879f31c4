"""The sentence: its words follow the numbers, and nothing inside the noise is called a result."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.records import Cell, Comparison, Results, Row
from stockpot.reports.sentence import summary_sentence

SPLITS = ("held_out", "test", "shift:typos", "shift_mean")


def row(method: str, k: int = 3, value: float = 0.7, splits: tuple[str, ...] = SPLITS, cost: int = 1) -> Row:
    names = tuple(f"run-{index}" for index in range(k))
    return Row(method, k, cost, {split: Cell(value, 0.01, 1000) for split in splits}, names)


def results(differences: dict[tuple[str, str], tuple[float, float | None]], *, rows=None, higher=True) -> Results:
    """Comparisons against best from {(method, split): (difference, stderr)}."""
    rows = rows or (row("best", 1), *(row(method) for method in dict.fromkeys(m for m, _ in differences)))
    found = tuple(Comparison(m, "best", s, d, e, 1000, None) for (m, s), (d, e) in differences.items())
    return Results("accuracy" if higher else "nll", higher, rows, found)


def said(test: tuple[float, float | None], shifts: tuple[float, float | None] | None = None, **options) -> str:
    differences = {("greedy", "test"): test} | ({("greedy", "shift_mean"): shifts} if shifts else {})
    return summary_sentence(results(differences, **options))


def test_the_issue_s_own_example() -> None:
    assert said((0.006, 0.005), (0.008, 0.005)).startswith(
        "greedy beats the best single model by +0.6 ± 0.5 points on test and +0.8 ± 0.5 on the mean of shifts; "
        "on one seed that is not significant; no soup beats the best single model beyond noise"
    )


@pytest.mark.parametrize(("p", "is_sure"), [(0.0625, False), (0.04, True)])
def test_the_exact_test_decides_where_one_was_made(p: float, is_sure: bool) -> None:
    """Five answers changed and all won: 2.24 standard errors, but p = 0.06."""
    found = results({("greedy", "test"): (0.05, 0.0223)})
    (comparison,) = found.comparisons
    sentence = summary_sentence(replace(found, comparisons=(replace(comparison, p=p, test="mcnemar_exact"),)))
    assert ("only the difference on test is significant" in sentence) == is_sure


def test_both_significant() -> None:
    sentence = said((0.02, 0.005), (0.03, 0.005))
    assert sentence.endswith("on one seed both are significant.")
    assert "no soup" not in sentence


def test_only_the_shifts_are_significant() -> None:
    assert said((0.006, 0.005), (0.03, 0.005)).endswith(
        "on one seed only the difference on the mean of shifts is significant."
    )


def test_worse() -> None:
    sentence = said((-0.02, 0.005), (-0.01, 0.004))
    assert "is worse than the best single model by 2.0 ± 0.5 points on test and 1.0 ± 0.4 on" in sentence
    assert sentence.endswith("no soup beats the best single model beyond noise.")


def test_test_and_shifts_disagree() -> None:
    sentence = said((0.02, 0.005), (-0.02, 0.005))
    assert "beats the best single model by +2.0 ± 0.5 points on test but is worse by 2.0 ± 0.5 points" in sentence
    assert "both are significant" in sentence


def test_a_tie() -> None:
    assert "ties with the best single model (0.0 ± 0.5 points on test" in said((0.0, 0.005), (0.0001, 0.005))


def test_a_difference_that_reads_zero_is_no_defeat() -> None:
    sentence = summary_sentence(
        results({("greedy", "test"): (-0.0001, 0.005), ("greedy", "shift_mean"): (-0.02, 0.03)})
    )
    assert "is worse than the best single model by 2.0 ± 3.0 points on the mean of shifts but ties on test" in sentence


def test_without_shifts() -> None:
    sentence = said((0.02, 0.005), rows=(row("best", 1, splits=("test",)), row("greedy", splits=("test",))))
    assert "shifts" not in sentence
    assert sentence.endswith("on one seed that is significant.")


def test_without_standard_errors() -> None:
    sentence = said((0.02, None), (0.02, None))
    assert sentence.endswith("without a paired standard error nothing says that this is more than noise.")


def test_a_loss_is_mirrored() -> None:
    sentence = said((-0.02, 0.005), (-0.03, 0.005), higher=False)
    assert "greedy beats the best single model by 0.020 ± 0.005 in nll on test" in sentence


def test_greedy_that_kept_one() -> None:
    rows = (row("best", 1), row("uniform"), row("greedy", 1))
    sentence = said((0.0, 0.0), (0.0, 0.0), rows=rows)
    assert sentence.startswith("greedy kept the best single model alone")
    assert sentence.endswith("no soup beats the best single model beyond noise.")


def test_one_ingredient() -> None:
    rows = tuple(row(method, 1) for method in ("best", "uniform", "greedy"))
    assert summary_sentence(Results("accuracy", True, rows)) == (
        "There was one ingredient only, so every soup is that one model."
    )


def test_no_unseen_split() -> None:
    rows = (row("best", 1, 0.7, ("held_out",)), row("greedy", 3, 0.72, ("held_out",)))
    sentence = summary_sentence(Results("accuracy", True, rows))
    assert "greedy scores 72.0 and the best single model 70.0" in sentence
    assert "measure a test split" in sentence


@pytest.mark.parametrize("rows", [(), (row("best", 1),), (row("greedy"),), (row("best", 1), row("ensemble", cost=3))])
def test_nothing_to_compare(rows: tuple[Row, ...]) -> None:
    assert summary_sentence(Results("accuracy", True, rows)).startswith("There is no soup")


class TestUniformBesideGreedy:
    def test_it_wins_where_greedy_does_not(self) -> None:
        sentence = summary_sentence(results({("greedy", "test"): (0.006, 0.005), ("uniform", "test"): (0.02, 0.005)}))
        assert "against the best single model, uniform is better by +2.0 ± 0.5 points on test, beyond noise" in sentence
        assert "no soup" not in sentence

    def test_it_collapses(self) -> None:
        sentence = summary_sentence(results({("greedy", "test"): (0.02, 0.005), ("uniform", "test"): (-0.3, 0.01)}))
        assert "against the best single model, uniform is worse by 30.0 ± 1.0 points on test" in sentence

    def test_the_same_verdict_is_not_repeated(self) -> None:
        sentence = summary_sentence(results({("greedy", "test"): (0.02, 0.005), ("uniform", "test"): (0.021, 0.005)}))
        assert "uniform" not in sentence

    def test_a_direct_comparison_speaks(self) -> None:
        base = results({("greedy", "test"): (0.02, 0.005), ("uniform", "test"): (0.04, 0.005)})
        direct = Comparison("uniform", "greedy", "test", 0.02, 0.004, 1000, None)
        sentence = summary_sentence(Results("accuracy", True, base.rows, (*base.comparisons, direct)))
        assert "against greedy, uniform is better by +2.0 ± 0.4 points on test, beyond noise" in sentence


difference = st.tuples(st.floats(-0.2, 0.2), st.floats(0.001, 0.1))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(test=difference, shifts=difference, uniform=difference, higher=st.booleans())
def test_the_verdict_follows_the_numbers(test, shifts, uniform, higher: bool) -> None:
    differences = {("greedy", "test"): test, ("greedy", "shift_mean"): shifts, ("uniform", "test"): uniform}
    sentence = summary_sentence(results(differences, higher=higher))
    sign = 1 if higher else -1
    beyond_noise = any(sign * d > 1.96 * e for d, e in (test, shifts, uniform))
    assert ("no soup beats the best single model beyond noise" in sentence) == (not beyond_noise)
    assert sentence.endswith(".")
    assert "\n" not in sentence


@settings(deadline=None, derandomize=True, max_examples=60)
@given(test=difference, shifts=difference)
def test_a_loss_and_its_negative_are_told_alike(test, shifts) -> None:
    gain = said(test, shifts)
    loss = said((-test[0], test[1]), (-shifts[0], shifts[1]), higher=False)
    verbs = ("beats", "is worse than", "but is worse", "both are significant", "no soup", "not significant")
    # Accuracy is told in tenths of a point, nll in thousandths: the same digits.
    assert [verb in gain for verb in verbs] == [verb in loss for verb in verbs]


def test_a_search_that_was_cut_short_is_called_approximate() -> None:
    cut = replace(row("greedy"), approximate=True)
    differences = {("greedy", "test"): (0.02, 0.005)}
    assert summary_sentence(results(differences, rows=(row("best", 1), cut))).endswith(
        "; greedy is approximate: its search was cut short."
    )
    assert "approximate" not in summary_sentence(results(differences))
    seen = tuple(replace(one, scores={"held_out": Cell(0.7, 0.01, 1000)}) for one in (row("best", 1), cut))
    assert summary_sentence(results({}, rows=seen)).endswith("; greedy is approximate: its search was cut short.")
