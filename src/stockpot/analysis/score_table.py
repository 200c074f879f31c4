"""Models side by side from scores that users measured with their own code."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from stockpot.analysis.ranks import spearman_pairs
from stockpot.analysis.score_checks import NAME_COLUMN, NamedScores, check_columns, check_file
from stockpot.analysis.score_files import Problem, ScoreFile, nearest, read_score_file
from stockpot.errors import DataError
from stockpot.score_record import ScoreColumns, ScoreRow, ScoreTable

__all__ = ["score_table"]

_MEAN = "shift_mean"


def score_table(
    files: Sequence[str | os.PathLike[str]],
    *,
    held_out: str | None,
    test: str | None = None,
    shifts: Sequence[str] = (),
    higher_is_better: bool = True,
    sort: str | None = None,
) -> ScoreTable:
    """Ranks individual models by their held-out score and says how well that ranks test and shifts.

    shift_mean = (1 / s) sum over the s shifts; rank correlations are Spearman's, over the individuals.

    Args:
        files: JSON lines, CSV or TSV (see `read_score_file`), each row a `model_name` and a number per data set. The
            first holds the individual models; rows of further ones (soups, ensembles) are shown but do not compete, and
            may lack the held-out score.
        held_out: column to choose by; required, for what is chosen by its test score looks better than it is.
        test: column of the test set.
        shifts: columns of distribution-shifted test sets.
        higher_is_better: direction of all columns.
        sort: order of the individuals: one of these columns, `shift_mean` or `model_name`; None: held-out. Ranks stay
            those of held-out.

    Returns:
        The table. Equal scores: the first given is ranked first.

    Raises:
        DataError: anything wrong with files, columns or values; all of it is listed.

    Source:
        Wortsman et al., "Model soups", 2022: models are selected on a held-out part of the training set.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "scores.csv")
        ...     _ = file.write_text("model_name,val,test\\na,0.7,0.6\\nb,0.8,0.9\\nc,0.9,0.8\\n")
        ...     table = score_table([file], held_out="val", test="test")
        >>> table.best, table.second_best, table.spearman
        ('c', 'b', {'held_out~test': 0.5})
    """
    columns = ScoreColumns(held_out or "", test, tuple(shifts), higher_is_better)
    scores, problems = _checked([read_score_file(file) for file in files], columns, held_out)
    _refuse([*_file_choice(files), *problems, *_sort_choice(sort, columns)])
    (first, individuals), *further = scores
    ranked = _ranked([_row(named, columns, first, "individual") for named in individuals], higher_is_better)
    others = [_row(named, columns, file, "other") for file, found in further for named in found]
    return ScoreTable(
        columns=columns,
        rows=(*_sorted(ranked, sort, columns), *others),
        best=ranked[0].model_name,
        second_best=ranked[1].model_name if len(ranked) > 1 else None,
        spearman=spearman_pairs({split: [_score(row, split) for row in ranked] for split in columns.splits}),
        duplicates=_duplicates(individuals),
    )


def _checked(
    files: Sequence[ScoreFile], columns: ScoreColumns, held_out: str | None
) -> tuple[list[tuple[ScoreFile, list[NamedScores]]], list[Problem]]:
    """The scores of every file, and what is wrong with files and choice of columns."""
    chosen = columns.names if held_out is not None else columns.names[1:]
    names = tuple(dict.fromkeys(chosen))
    problems = check_columns(held_out, columns.test, columns.shifts, files[0] if files else ScoreFile("", ""))
    scores = []
    for index, file in enumerate(files):
        found, faults = check_file(file, names, optional=() if index == 0 else (columns.held_out,))
        scores.append((file, found))
        problems += faults
    return scores, problems


def _file_choice(files: Sequence[str | os.PathLike[str]]) -> list[Problem]:
    if not files:
        return [Problem("no files are given", "give the file of the individual models first")]
    places = [Path(file).resolve() for file in files]
    repeated = [str(file) for index, file in enumerate(files) if places[index] in places[:index]]
    return [Problem(f"{file}: given twice", "give every file once") for file in repeated]


def _sort_choice(sort: str | None, columns: ScoreColumns) -> list[Problem]:
    known = [name for name in _split_by_key(columns) if name]
    if sort is None or sort in (*known, NAME_COLUMN):
        return []
    known.append(NAME_COLUMN)
    return [Problem(f"cannot sort by {sort!r}{nearest(sort, known)}", f"sort by one of: {', '.join(known)}")]


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        fix = "; ".join(dict.fromkeys(problem.fix for problem in problems))
        raise DataError(f"no table can be made: {count}", problems=[p.text for p in problems], fix=fix)


def _row(named: NamedScores, columns: ScoreColumns, file: ScoreFile, kind: Literal["individual", "other"]) -> ScoreRow:
    shifts = {name: value for name in columns.shifts if (value := named.values[name]) is not None}
    return ScoreRow(
        model_name=named.name,
        held_out=named.values[columns.held_out],
        test=None if columns.test is None else named.values[columns.test],
        shifts=shifts,
        shift_mean=math.fsum(shifts.values()) / len(shifts) if shifts else None,
        rank=None,
        kind=kind,
        source=file.source,
    )


def _ranked(rows: Sequence[ScoreRow], higher_is_better: bool) -> list[ScoreRow]:
    """By held-out, best first; equal ones stay in the order given."""
    ordered = _by_score(rows, "held_out", higher_is_better)
    return [replace(row, rank=rank) for rank, row in enumerate(ordered, 1)]


def _sorted(ranked: Sequence[ScoreRow], sort: str | None, columns: ScoreColumns) -> list[ScoreRow]:
    if sort is None:
        return list(ranked)
    split = _split_by_key(columns).get(sort)
    if split is None:
        return sorted(ranked, key=lambda row: row.model_name)
    return _by_score(ranked, split, columns.higher_is_better)


def _split_by_key(columns: ScoreColumns) -> dict[str, str]:
    """What users may call a column: its own name first, else its part (`test`, `shift_mean`)."""
    own = {columns.column(split): split for split in columns.splits if split != _MEAN}
    return own | {split: split for split in columns.splits if split not in own and not split.startswith("shift:")}


def _by_score(rows: Sequence[ScoreRow], split: str, higher_is_better: bool) -> list[ScoreRow]:
    sign = -1.0 if higher_is_better else 1.0
    return sorted(rows, key=lambda row: sign * _score(row, split))


def _score(row: ScoreRow, split: str) -> float:
    """Of an individual, which has them all."""
    score = row.score(split)
    assert score is not None
    return score


def _duplicates(individuals: Sequence[NamedScores]) -> tuple[tuple[str, ...], ...]:
    """Names of models with equal scores throughout, in the order given."""
    groups: dict[tuple[float | None, ...], list[str]] = {}
    for named in individuals:
        groups.setdefault(tuple(named.values.values()), []).append(named.name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)
