"""What stands under the table: paired tests, calibration, optimism; and the table as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from stockpot.records import Cell, Comparison, Results, Row, SelectionOptimism
from stockpot.reports.details import calibration_markdown, comparison_markdown, optimism_lines, p_text
from stockpot.reports.exports import csv_text, latex
from stockpot.reports.table import markdown


def cells(value: float) -> dict[str, Cell]:
    return {"test": Cell(value, 0.01, 2000), "shift_mean": Cell(value - 0.1, 0.02, 500)}


def metrics(ece: float) -> dict[str, dict[str, Cell]]:
    return {
        f"{name}{suffix}": {column: Cell(ece * factor, 0.004, 2000) for column in ("test", "shift_mean")}
        for name in ("ece", "nll", "brier")
        for suffix, factor in (("", 1.0), ("_scaled", 0.5))
    }


RESULTS = Results(
    "accuracy",
    True,
    (
        Row("best", 1, 1, cells(0.72), ("a_1",), metrics(0.1), 1.8),
        Row("greedy", 2, 1, cells(0.74), ("a_1", "b"), metrics(0.08), 1.2),
    ),
    comparisons=(
        Comparison("greedy", "best", "test", 0.02, 0.005, 2000, 0.00004, 91, "mcnemar_exact"),
        Comparison("greedy", "best", "shift:typos", 0.01, 0.005, 500, 0.3, 12, "mcnemar_exact"),
        Comparison("greedy", "best", "shift_mean", 0.012, 0.007, 500, 0.081, 40, "paired_normal"),
    ),
    optimism=(SelectionOptimism("best", 0.0123, 0.004, 6),),
)
TITLES = {"best": "best individual", "greedy": "greedy soup", "test": "test", "shift_mean": "mean of shifts"}


def test_comparisons_say_difference_error_p_and_how_many_changed() -> None:
    table, _, note = comparison_markdown(RESULTS, titles=TITLES).partition("\n\n")
    (line,) = [line for line in table.splitlines() if line.startswith("| greedy")]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "greedy soup − best individual", "+2.0 ± 0.5", "<0.001", "91", "+1.2 ± 0.7", "0.081", "40",
    ]  # fmt: skip
    assert "McNemar's exact test and a paired test clustered by item" in note


def test_calibration_is_shown_before_and_after() -> None:
    table = calibration_markdown(RESULTS, titles=TITLES).partition("\n\n")[0]
    (line,) = [line for line in table.splitlines() if line.startswith("| greedy")]
    assert line.count("→") == 6
    assert "| 1.20 |" in line.replace("        ", " ").replace("  ", " ").replace("  ", " ").replace("  ", " ")


def test_what_was_not_measured_has_no_section() -> None:
    bare = Results("score", True, (Row("best", 1, 1, {"held_out": Cell(0.5, None, None)}),))
    assert comparison_markdown(bare, titles={}) == calibration_markdown(bare, titles={}) == ""
    assert list(optimism_lines(bare, titles={})) == []
    assert "##" not in markdown(bare)


def test_optimism_is_said_in_the_tables_unit() -> None:
    (line,) = optimism_lines(RESULTS, titles=TITLES)
    assert "best individual promises about 1.2 ± 0.4 points too much" in line
    assert line in markdown(RESULTS)


@pytest.mark.parametrize(("p", "shown"), [(0.0009, "<0.001"), (0.001, "0.001"), (0.049999, "0.05"), (1.0, "1")])
def test_p_values_have_two_digits(p: float, shown: str) -> None:
    assert p_text(p) == shown


def test_the_csv_reads_back_to_the_bit() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(RESULTS))))
    assert [row["method"] for row in rows] == ["best", "greedy"]
    for row, recorded in zip(rows, RESULTS.rows, strict=True):
        assert float(row["test"]) == recorded.scores["test"].value
        assert float(row["shift_mean_stderr"]) == recorded.scores["shift_mean"].stderr
        assert float(row["ece_scaled:test"]) == recorded.metrics["ece_scaled"]["test"].value
        assert float(row["temperature"]) == recorded.temperature


def test_latex_marks_the_best_and_is_ascii() -> None:
    text = latex(RESULTS)
    assert text.isascii()
    assert text.count("\\textbf{") == 2
    assert "\\textbf{74.0 $\\pm$ 1.0}" in text
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.count("&") for line in body} == {4}


def test_a_temperature_at_its_bound_says_so() -> None:
    rows = tuple(replace(RESULTS.rows[0], method=name, temperature=t) for name, t in (("a", 0.01), ("b", 100.0)))
    table = calibration_markdown(replace(RESULTS, rows=rows), titles={})
    shown = [line.split("|")[2].strip() for line in table.splitlines()[2:4]]
    assert shown == ["≤ 0.01", "≥ 100.00"]


def test_the_initialisation_s_tiny_errors_give_no_digits() -> None:
    start = replace(RESULTS.rows[0], method="initialisation", metrics=None)
    tiny = {name: {c: replace(cell, stderr=1e-7) for c, cell in found.items()} for name, found in metrics(0.1).items()}
    with_start = replace(RESULTS, rows=(replace(start, metrics=tiny), *RESULTS.rows))
    lines = calibration_markdown(with_start, titles={}).splitlines()
    assert lines[4].split("|")[3].strip() == "0.0800 → 0.0400"
