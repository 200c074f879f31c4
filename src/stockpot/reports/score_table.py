"""The table of a user's own scores, for files: Markdown, CSV, LaTeX; and the words that every view of it shares."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stockpot.records import Cell
from stockpot.reports import latex as tex
from stockpot.reports.numbers import Scale, scale_for
from stockpot.reports.text import escape, pipe_table, printable
from stockpot.score_record import ScoreRow, ScoreTable

__all__ = ["Looks", "correlation", "csv_text", "findings", "latex", "legend", "looks_of", "markdown", "part"]

NOTHING = "-"
_PARTS: Mapping[str, str] = {"held_out": "held-out", "test": "test", "shift_mean": "mean of shifts"}
#: A column this much smaller than the largest has its own number of decimals.
_OTHER_MAGNITUDE = 100.0
_MOST_GROUPS, _MOST_NAMES = 5, 4


@dataclass(frozen=True, slots=True)
class Looks:
    """How numbers of each column are written, and which number is its best.

    Args:
        scales: split -> decimals.
        best: split -> best value among the individuals, as shown.
    """

    scales: Mapping[str, Scale] = field(hash=False)
    best: Mapping[str, float] = field(hash=False)

    def number(self, row: ScoreRow, split: str) -> str:
        """The score as text."""
        score = row.score(split)
        if score is None:
            return NOTHING
        scale = self.scales[split]
        # Beside far larger ones a small score would read 0.
        return f"{score:.1e}" if score and not scale.rounded(score) else scale.number(score)

    def is_best(self, row: ScoreRow, split: str) -> bool:
        """Whether the row is an individual with the column's best score; equal looks are equal."""
        score = row.score(split)
        if score is None or row.kind != "individual":
            return False
        return self.scales[split].rounded(score) == self.best[split]


def looks_of(table: ScoreTable) -> Looks:
    """One number of decimals for all columns of one magnitude: four significant digits of the largest score."""
    splits = table.columns.splits
    scores = {split: [score for row in table.rows if (score := row.score(split)) is not None] for split in splits}
    largest = {split: max((abs(score) for score in scores[split]), default=0.0) for split in splits}
    top = max(largest.values())
    scales = {split: _scale(size if 0.0 < size < top / _OTHER_MAGNITUDE else top) for split, size in largest.items()}
    choose = max if table.columns.higher_is_better else min
    best = {split: choose(s for row in table.individuals if (s := row.score(split)) is not None) for split in splits}
    return Looks(scales, {split: scales[split].rounded(score) for split, score in best.items()})


def _scale(largest: float) -> Scale:
    return scale_for("score", [Cell(largest, None, None)])


def markdown(table: ScoreTable) -> str:
    """The table, its rank correlations and what to know about it, in GitHub-flavoured Markdown.

    Args:
        table: as made from the user's scores.

    Returns:
        Text that ends with a line end; every name shows literally.

    Example:
        >>> from stockpot.score_record import ScoreColumns
        >>> row = ScoreRow("a_1", 0.8, None, {}, None, 1, "individual", "scores.csv")
        >>> print(markdown(ScoreTable(ScoreColumns("val"), (row,), "a_1", None, {})).splitlines()[2])
        | a_1   |    1 |     **0.8000** |
    """
    looks, splits = looks_of(table), table.columns.splits
    rows = [[escape(r.model_name), _rank(r), *(_markdown_cell(r, s, looks) for s in splits)] for r in table.rows]
    sections = [pipe_table(["model", "rank", *(_title(table, split) for split in splits)], rows)]
    if lines := correlation_rows(table):
        header = ["rank correlation with", *(_title(table, split) for split in splits)]
        sections.append(pipe_table(header, [[part(of), *values] for of, values in lines]))
    notes = [*findings(table, looks), *legend(table, mark="bold")]
    return "\n\n".join([*sections, "\n".join(f"- {escape(note)}" for note in notes)]) + "\n"


def csv_text(table: ScoreTable) -> str:
    """Every row with its numbers to the last bit; empty where there is none.

    Args:
        table: as made from the user's scores.

    Returns:
        Comma-separated values with a header: rank, model_name, kind, source, the columns, shift_mean.
    """
    splits = table.columns.splits
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["rank", "model_name", "kind", "source", *(table.columns.column(split) for split in splits)])
    for row in table.rows:  # csv writes None as nothing, and floats by repr
        writer.writerow([row.rank, row.model_name, row.kind, row.source, *(row.score(split) for split in splits)])
    return file.getvalue()


def latex(table: ScoreTable) -> str:
    r"""A `tabular` for papers, with the findings as comments; needs `\usepackage{booktabs}` and nothing else.

    Args:
        table: as made from the user's scores.

    Returns:
        Plain ASCII that any LaTeX compiles: letters it may lack are written as accents, symbols or code points.
    """
    looks, splits = looks_of(table), table.columns.splits
    body = [
        [tex.escape(r.model_name), _rank(r) or "--", *(_latex_cell(r, s, looks) for s in splits)] for r in table.rows
    ]
    parts = ["", "", *(tex.escape(part(split)) for split in splits)]
    header = ["model", "rank", *(_latex_title(table, split) for split in splits)]
    cut = len(table.individuals)
    lines = correlation_rows(table)
    correlations = [[f"rank correlation with {part(of)}", "", *map(tex.number, values)] for of, values in lines]
    sections = [section for section in (body[:cut], body[cut:], correlations) if section]
    notes = ["needs \\usepackage{booktabs}", *findings(table, looks), *legend(table, mark="bold")]
    return tex.comments(notes) + tex.tabular([header, parts], sections, left=1)


def correlation_rows(table: ScoreTable) -> list[tuple[str, list[str]]]:
    """For held-out and test: rank correlations with every column; nothing where held-out is alone."""
    splits = table.columns.splits
    ranks_anything = len(splits) > 1 and len(table.individuals) > 1
    chosen = [split for split in splits if split in {"held_out", "test"}] if ranks_anything else []
    return [(of, [correlation(table, of, split) for split in splits]) for of in chosen]


def correlation(table: ScoreTable, first: str, second: str) -> str:
    """One rank correlation as text, in either order of its columns; nothing for a column with itself."""
    if first == second:
        return ""
    value = table.spearman.get(f"{first}~{second}", table.spearman.get(f"{second}~{first}"))
    return NOTHING if value is None else f"{value + 0.0:.3f}".replace("-0.000", "0.000")


def part(split: str) -> str:
    """What a column is for.

    Example:
        >>> part("held_out"), part("shift:typos")
        ('held-out', 'shift')
    """
    return _PARTS.get(split, "shift")


def findings(table: ScoreTable, looks: Looks) -> list[str]:
    """Best and second best with their scores, ties for the first place, and models that are one and the same."""
    row_by_name = {row.model_name: row for row in table.individuals}
    lines = [_introduced("Best individual", row_by_name[table.best], table, looks)]
    if table.second_best is not None:
        lines.append(_introduced("Second best", row_by_name[table.second_best], table, looks))
    n_first = sum(row.held_out == row_by_name[table.best].held_out for row in table.individuals)
    if n_first > 1:
        lines.append(f"{n_first} models share the best held-out score; the first given of equals is ranked first.")
    return [*lines, *_mixed_units(table), *_duplicates(table)]


def _mixed_units(table: ScoreTable) -> list[str]:
    """Columns in which some scores look like shares and others like percent."""
    found = []
    for split in table.columns.splits:
        scores = [score for row in table.rows if (score := row.score(split)) is not None]
        small, large = [s for s in scores if 0 < s <= 1], [s for s in scores if 10 < s <= 100]
        if small and large and len(small) + len(large) == len(scores):
            name = printable(table.columns.column(split)) if split != "shift_mean" else part(split)
            found.append(f"{name} holds {small[0]:g} and {large[0]:g}: shares and percent in one column?")
    return found


def legend(table: ScoreTable, *, mark: str) -> list[str]:
    """How to read the table.

    Args:
        table: what is shown.
        mark: how the best values are marked: "*", or "bold".
    """
    direction = "" if table.columns.higher_is_better else " (less is better)"
    lines = [f"Ranked by held-out{direction}; {mark}: best of its column among individual models."]
    if table.others:
        lines.append("Rows without a rank, from further files, compete for nothing.")
    if len(table.columns.splits) > 1:
        lines.append("Held-out is optimistic for what was chosen on it; compare on the other columns.")
        lines.append(_correlation_legend(len(table.individuals)))
    return lines


def _correlation_legend(n: int) -> str:
    return f"Rank correlation: Spearman's, over the {n} individuals." if n > 1 else "One individual: nothing to rank."


def _introduced(title: str, row: ScoreRow, table: ScoreTable, looks: Looks) -> str:
    splits = [split for split in table.columns.splits if not split.startswith("shift:")]
    scores = ", ".join(f"{part(split)} {looks.number(row, split)}" for split in splits)
    return f"{title} by held-out: {printable(row.model_name)} ({scores})."


def _duplicates(table: ScoreTable) -> list[str]:
    n = len(table.columns.names)
    where = {1: "on the one score column", 2: "on both score columns"}.get(n, f"on all {n} score columns")
    shown = [f"{_enumerated(names)} are equal {where}: the same run?" for names in table.duplicates[:_MOST_GROUPS]]
    more = len(table.duplicates) - _MOST_GROUPS
    return [*shown, f"{more} more groups of models are equal {where}."] if more > 0 else shown


def _enumerated(names: Sequence[str]) -> str:
    """
    >>> _enumerated(["a", "b"]), _enumerated(list("abcdefg"))
    ('a and b', 'a, b, c, d and 3 more')
    """
    names = [printable(name) for name in names]
    if len(names) > _MOST_NAMES + 1:
        names = [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _rank(row: ScoreRow) -> str:
    return "" if row.rank is None else str(row.rank)


def _title(table: ScoreTable, split: str) -> str:
    name = escape(table.columns.column(split))
    return {"held_out": f"{name} (held-out)", "test": f"{name} (test)", "shift_mean": part(split)}.get(split, name)


def _markdown_cell(row: ScoreRow, split: str, looks: Looks) -> str:
    shown = looks.number(row, split)
    return f"**{shown}**" if looks.is_best(row, split) else shown


def _latex_title(table: ScoreTable, split: str) -> str:
    return "" if split == "shift_mean" else tex.escape(table.columns.column(split))


def _latex_cell(row: ScoreRow, split: str, looks: Looks) -> str:
    shown = tex.number(looks.number(row, split))
    return f"\\textbf{{{shown}}}" if looks.is_best(row, split) else shown
