"""What stands under the table in results.md: paired tests, calibration, the optimism of the held-out split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from stockpot.metrics import TEMPERATURE_BOUNDS
from stockpot.records import Cell, Comparison, Results, Row
from stockpot.reports.numbers import Scale, scale_for, scale_of
from stockpot.reports.text import escape, pipe_table, printable

__all__ = ["calibration_markdown", "comparison_markdown", "optimism_lines", "p_text"]

_CALIBRATION: Mapping[str, str] = {"ece": "ECE", "nll": "NLL", "brier": "Brier"}
_SCALED = "_scaled"
_TESTS: Mapping[str, str] = {
    "mcnemar_exact": "McNemar's exact test",
    "paired_normal": "a paired test clustered by item",
    "paired_bootstrap": "a paired bootstrap",
}


#: The pairs that are shown; results.json holds all of them.
_SHOWN_AGAINST = frozenset({"best", "greedy"})


def p_text(p: float | None) -> str:
    """A p value with two significant digits, "<0.001" below that; "-" where there is none.

    Example:
        >>> p_text(0.0314), p_text(0.00001), p_text(1.0), p_text(None)
        ('0.031', '<0.001', '1', '-')
    """
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def comparison_markdown(results: Results, *, titles: Mapping[str, str]) -> str:
    """The table of paired differences on test and on the mean of shifts; empty where nothing was compared.

    Args:
        results: as recorded.
        titles: method or split -> its title.
    """
    splits = [split for split in ("test", "shift_mean") if any(c.split == split for c in results.comparisons)]
    if not splits:
        return ""
    scale = scale_of(results)
    by_pair: dict[tuple[str, str], dict[str, Comparison]] = {}
    shown = [c for c in results.comparisons if c.against in _SHOWN_AGAINST and c.method != "second_best"]
    for comparison in shown or results.comparisons:
        by_pair.setdefault((comparison.method, comparison.against), {})[comparison.split] = comparison
    header = ["difference", *(cell for s in splits for cell in (escape(titles.get(s, s)), "p", "changed"))]
    rows = [
        [
            escape(f"{titles.get(method, method)} − {titles.get(against, against)}"),
            *(cell for split in splits for cell in _difference(found.get(split), scale)),
        ]
        for (method, against), found in by_pair.items()
    ]
    return f"{pipe_table(header, rows)}\n\n{_tests(results, splits, scale)}"


def calibration_markdown(results: Results, *, titles: Mapping[str, str]) -> str:
    """ECE, NLL and Brier score, before → after temperature scaling; empty where there are no probabilities.

    Args:
        results: as recorded.
        titles: method or split -> its title.
    """
    rows = [row for row in results.rows if row.metrics]
    present = {column for row in rows for cells in (row.metrics or {}).values() for column in cells}
    columns: list[str] = [column for column in ("test", "shift_mean") if column in present]
    columns = columns or sorted(present)
    if not columns:
        return ""
    # The start's tiny errors would give all others digits that nobody knows.
    tuned = [row for row in rows if row.method != "initialisation"] or rows
    scales = {name: scale_for(name, _cells(tuned, name, columns)) for name in _CALIBRATION}
    header = [
        "method",
        "temperature",
        *(f"{label}, {titles.get(c, c)}" for c in columns for label in _CALIBRATION.values()),
    ]
    lines = [
        [
            escape(titles.get(row.method, row.method)),
            _temperature(row.temperature),
            *(_before_after(row, name, column, scales[name]) for column in columns for name in _CALIBRATION),
        ]
        for row in rows
    ]
    note = (
        "Before → after dividing the logits by a temperature that minimises the held-out NLL; less is better. ECE with "
        "15 bins of equal mass: its value is biased upwards in small samples, alike for all rows."
    )
    return f"{pipe_table(header, lines)}\n\n{note}"


def _temperature(temperature: float | None) -> str:
    """At a bound the fit has not ended where the loss is least, and says so."""
    if temperature is None:
        return ""
    low, high = TEMPERATURE_BOUNDS
    sign = "≤ " if temperature <= low * 1.001 else "≥ " if temperature >= high / 1.001 else ""
    return f"{sign}{temperature:.2f}"


def optimism_lines(results: Results, *, titles: Mapping[str, str]) -> Iterator[str]:
    """How much held-out scores promise too much, one line per method."""
    scale = scale_of(results)
    for found in results.optimism or ():
        error = "" if found.stderr is None else f" ± {scale.number(found.stderr)}"
        yield (
            f"The held-out score of {printable(titles.get(found.method, found.method))} promises about "
            f"{scale.number(found.value)}{error} {scale.unit} too much: it is the best of {found.n_candidates} there."
        )


def _difference(found: Comparison | None, scale: Scale) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    error = "" if found.stderr is None else f" ± {scale.number(found.stderr)}"
    return (
        scale.signed(found.difference) + error,
        p_text(found.p),
        "" if found.n_changed is None else f"{found.n_changed:,}",
    )


def _tests(results: Results, splits: Sequence[str], scale: Scale) -> str:
    used = dict.fromkeys(c.test for c in results.comparisons if c.split in splits and c.test)
    tests = " and ".join(_TESTS.get(name, name) for name in used)
    source = f" p from {tests}, two-sided;" if tests else ""
    unit = "points" if scale.unit == "points" else printable(scale.unit)
    return (
        f"Paired on the same examples, in {unit} ± standard error;{source} changed: examples that count differently in "
        "the two, such as right in one and wrong in the other."
    )


def _cells(rows: Sequence[Row], name: str, columns: Sequence[str]) -> list[Cell]:
    found = [(row.metrics or {}).get(name + suffix, {}) for row in rows for suffix in ("", _SCALED)]
    return [cells[column] for cells in found for column in columns if column in cells]


def _before_after(row: Row, name: str, column: str, scale: Scale) -> str:
    before, after = ((row.metrics or {}).get(name + suffix, {}).get(column) for suffix in ("", _SCALED))
    shown = [scale.number(cell.value) for cell in (before, after) if cell is not None]
    return " → ".join(shown)
