"""From cells to scores: which columns are there, which values are numbers; every problem with its line and column."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stockpot.analysis.score_files import FileRow, Problem, ScoreFile, nearest
from stockpot.analysis.score_numbers import Fault, is_unicode, number, shown

__all__ = ["NAME_COLUMN", "NamedScores", "check_columns", "check_file", "columns_with_numbers"]

#: The column of the models' names.
NAME_COLUMN = "model_name"

_MOST_LINES, _MOST_COLUMNS = 5, 12
_OPTIMISTIC = (
    "a model chosen by its test score looks better than it is: the best of many noisy scores is partly luck, "
    "so models are chosen and ranked by a held-out column only"
)
_ONE_PART = "give every column one part only: held-out to choose by, test and shifts to judge what was chosen"
_ONCE = "name every column once"
_WHOLE = "give every model a name and a score in every column, or leave it out"
_NAMED = f"call the column of the models' names {NAME_COLUMN!r}"
_NAMES = "give every model a name of its own, as text"


@dataclass(frozen=True, slots=True)
class NamedScores:
    """One model's scores on the columns asked for; None where another kind of row may lack one."""

    name: str
    values: Mapping[str, float | None] = field(hash=False)


def check_columns(held_out: str | None, test: str | None, shifts: Sequence[str], first: ScoreFile) -> list[Problem]:
    """What is wrong with the choice of columns itself.

    Args:
        held_out, test, shifts: as the user named them.
        first: the individuals' file, whose columns are suggested.
    """
    problems = []
    if held_out is None:
        problems.append(Problem(f"no held-out column is named (--held-out COLUMN): {_OPTIMISTIC}", _offer(first)))
    elif held_out == test:
        problems.append(Problem(f"{held_out!r} is both held-out and test: {_OPTIMISTIC}", _ONE_PART))
    elif held_out in shifts:
        problems.append(Problem(f"{held_out!r} is both held-out and a shift: {_OPTIMISTIC}", _ONE_PART))
    if test is not None and test in shifts:
        problems.append(Problem(f"{test!r} is both test and a shift", _ONE_PART))
    repeated = [name for name in dict.fromkeys(shifts) if shifts.count(name) > 1]
    problems += [Problem(f"the shift {name!r} is named {shifts.count(name)} times", _ONCE) for name in repeated]
    named = [name for name in (held_out, test, *shifts) if name is not None]
    if not all(name.strip() and is_unicode(name) for name in named):
        problems.append(Problem("a column without a readable name is asked for", "name columns as in the header"))
    return problems


def check_file(
    file: ScoreFile, columns: Sequence[str], *, optional: Collection[str] = ()
) -> tuple[list[NamedScores], list[Problem]]:
    """The scores of one file, or everything that is wrong with it.

    Args:
        file: as read.
        columns: score columns asked for.
        optional: those that rows may lack (or leave empty).

    Returns:
        One entry per row (none where there are problems), and the problems.
    """
    needed = [NAME_COLUMN, *columns]
    names = [_name(row) for row in file.rows]
    numbers = {column: [_cell(row, column, file, column in optional) for row in file.rows] for column in columns}
    problems = [
        *file.problems,
        *_repeated_columns(file, needed),
        *_missing_columns(file, needed, optional),
        *_repeated_names(file),
        *_faults(file, {NAME_COLUMN: names, **numbers}),
    ]
    return ([] if problems else [_named(str(name), numbers, index) for index, name in enumerate(names)]), problems


def _named(name: str, numbers: Mapping[str, Sequence[float | Fault | None]], index: int) -> NamedScores:
    values = ((column, cells[index]) for column, cells in numbers.items())
    return NamedScores(name, {column: value for column, value in values if not isinstance(value, Fault)})


def columns_with_numbers(file: ScoreFile) -> list[str]:
    """The columns in which every row that has them holds a finite number."""
    names = [name for name in file.columns if name and name != NAME_COLUMN]
    return [name for name in names if _holds_numbers(file, name)]


def _holds_numbers(file: ScoreFile, column: str) -> bool:
    cells = (row.values[column] for row in file.rows if column in row.values)
    return not any(isinstance(number(cell, is_text=file.has_texts), Fault) for cell in cells)


def _offer(file: ScoreFile) -> str:
    """Which columns there are to name; nothing where the file could not be read at all."""
    fix = "name columns that are there"
    names = columns_with_numbers(file)
    if not names:
        return f"{fix} ({file.label} has no column of numbers)" if file.rows else fix
    more = f" and {len(names) - _MOST_COLUMNS} more" if len(names) > _MOST_COLUMNS else ""
    return f"{fix} (columns of numbers in {file.label}: {', '.join(names[:_MOST_COLUMNS])}{more})"


def _repeated_columns(file: ScoreFile, needed: Iterable[str]) -> list[Problem]:
    return [
        Problem(f"{file.label}: {_lines(lines)}: the column {name!r} occurs twice", "keep one column of each name")
        for name, lines in file.lines_by_repeated.items()
        if name in needed
    ]


def _missing_columns(file: ScoreFile, needed: Iterable[str], optional: Collection[str]) -> Iterator[Problem]:
    for name in needed:
        lines = [row.line for row in file.rows if name not in row.values]
        if not lines or name in optional:
            continue
        if len(lines) == len(file.rows):
            fix = _NAMED if name == NAME_COLUMN else _offer(file)
            yield Problem(f"{file.label}: no column {name!r}{nearest(name, file.columns)}", fix)
        else:
            yield Problem(f"{file.label}: {_lines(lines)}: no {name!r}", _WHOLE)


def _repeated_names(file: ScoreFile) -> Iterator[Problem]:
    lines_by_name: dict[str, list[int]] = {}
    for row in file.rows:
        if isinstance(name := row.values.get(NAME_COLUMN), str) and name.strip():
            lines_by_name.setdefault(name, []).append(row.line)
    for name, lines in lines_by_name.items():
        if len(lines) > 1:
            yield Problem(f"{file.label}: {_lines(lines)}: {name!r} is the name of {len(lines)} models", _NAMES)


def _lines(lines: Sequence[int]) -> str:
    """
    >>> _lines([3]), _lines([1, 2, 3, 4, 5, 6, 7])
    ('line 3', 'lines 1, 2, 3, 4, 5 and 2 more')
    """
    shown = ", ".join(map(str, lines[:_MOST_LINES]))
    more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"


def _name(row: FileRow) -> str | Fault | None:
    name = row.values.get(NAME_COLUMN)
    if NAME_COLUMN not in row.values or (isinstance(name, str) and name.strip() and is_unicode(name)):
        return name
    return Fault("empty" if name == "" else f"{shown(name)} is no readable text", _NAMES)


def _cell(row: FileRow, column: str, file: ScoreFile, is_optional: bool) -> float | Fault | None:
    value = row.values.get(column)
    if column not in row.values or (is_optional and value in (None, "")):
        return None
    return number(value, is_text=file.has_texts)


def _faults(file: ScoreFile, cells_by_column: Mapping[str, Sequence[object]]) -> list[Problem]:
    """By line; a long column without a single good cell is one problem."""
    found = []
    for column, cells in cells_by_column.items():
        faults = [(row.line, cell) for row, cell in zip(file.rows, cells, strict=True) if isinstance(cell, Fault)]
        more = ""
        if _MOST_LINES < len(faults) == len(cells):
            faults, more = faults[:1], f"; likewise in all {len(cells)} rows"
        for line, fault in faults:
            found.append((line, Problem(f"{file.label}: line {line}, {column}: {fault.reason}{more}", fault.fix)))
    return [problem for _, problem in sorted(found, key=lambda pair: pair[0])]
