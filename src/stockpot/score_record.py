"""What a table of a user's own scores says, and its file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from stockpot.errors import OutputError
from stockpot.outputs import write_json_atomically

__all__ = ["SCORE_TABLE_SCHEMA", "ScoreColumns", "ScoreRow", "ScoreTable", "write_score_table"]

#: Version of the file's schema.
SCORE_TABLE_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Which column of the user's files plays which part.

    Args:
        held_out: the column models are chosen by.
        test: the test set's column.
        shifts: columns of distribution-shifted test sets.
        higher_is_better: direction of all of them.

    Example:
        >>> ScoreColumns("val", "test", ("typos", "slang")).splits
        ('held_out', 'test', 'shift:typos', 'shift:slang', 'shift_mean')
    """

    held_out: str
    test: str | None = None
    shifts: tuple[str, ...] = ()
    higher_is_better: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the files, in the order of the table."""
        return (self.held_out, *(() if self.test is None else (self.test,)), *self.shifts)

    @property
    def splits(self) -> tuple[str, ...]:
        """What the table has a column for, in its order, in the words of results.json."""
        test = () if self.test is None else ("test",)
        shifts = (*(f"shift:{name}" for name in self.shifts), "shift_mean") if self.shifts else ()
        return ("held_out", *test, *shifts)

    def column(self, split: str) -> str:
        """The user's name of a split; the mean has none, so it is 'shift_mean'."""
        known = {"held_out": self.held_out, "test": self.test or ""}
        return known.get(split, split.removeprefix("shift:"))


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One model.

    Args:
        model_name: its name.
        held_out, test: scores as given; None where there is none.
        shifts: column -> score.
        shift_mean: unweighted mean of `shifts`.
        rank: place among the individuals by held-out, from 1; None for others.
        kind: an individual model, or a soup or ensemble of them, which competes with none.
        source: name of the file it comes from, without folders.
    """

    model_name: str
    held_out: float | None
    test: float | None
    shifts: Mapping[str, float] = field(hash=False)
    shift_mean: float | None
    rank: int | None
    kind: Literal["individual", "other"]
    source: str

    def score(self, split: str) -> float | None:
        """The score on one of `ScoreColumns.splits`."""
        if split.startswith("shift:"):
            return self.shifts.get(split[len("shift:") :])
        score: float | None = getattr(self, split)
        return score


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Models ranked by held-out, and how far that ranking carries.

    Args:
        columns: whose scores these are.
        rows: individuals in the order to show, then the others as given.
        best, second_best: names of the first two by held-out; the first given of equals.
        spearman: "held_out~test" and so on for every two splits -> rank correlation over the individuals, None where
            undefined.
        duplicates: names of individuals whose scores are all equal, group by group.
    """

    columns: ScoreColumns
    rows: tuple[ScoreRow, ...]
    best: str
    second_best: str | None
    spearman: Mapping[str, float | None] = field(hash=False)
    duplicates: tuple[tuple[str, ...], ...] = ()

    @property
    def individuals(self) -> tuple[ScoreRow, ...]:
        """The rows that compete."""
        return tuple(row for row in self.rows if row.kind == "individual")

    @property
    def others(self) -> tuple[ScoreRow, ...]:
        """Soups, ensembles: shown, but neither ranked nor correlated."""
        return tuple(row for row in self.rows if row.kind == "other")


def write_score_table(
    table: ScoreTable, path: str | os.PathLike[str], *, force: bool = False, inputs: Sequence[str | Path] = ()
) -> None:
    """Writes the table as JSON, whole or not at all; equal tables give equal bytes.

    Args:
        table: what to write.
        path: the file; missing parent folders are made.
        force: replace an existing file.
        inputs: files that were read and must not be replaced.

    Raises:
        OutputError: the file exists and `force` is off, is an input or a folder, or cannot be written.
    """
    path = Path(path)
    if path.resolve() in [Path(source).resolve() for source in inputs]:
        raise OutputError(f"{path} is what is being read, and is not replaced", fix="name another output file")
    if path.is_dir():
        raise OutputError(f"{path} is a folder", fix=f"name a file, such as {path / 'table.json'}")
    if path.exists() and not force:
        raise OutputError(f"{path} exists", fix="--force replaces it, or name another output file")
    write_json_atomically(path, _file(table))


def _file(table: ScoreTable) -> dict[str, Any]:
    return {
        "schema": SCORE_TABLE_SCHEMA,
        "columns": asdict(table.columns),
        "rows": [{f.name: getattr(row, f.name) for f in fields(row)} for row in table.rows],
        "best": table.best,
        "second_best": table.second_best,
        "spearman": dict(table.spearman),
        "duplicates": table.duplicates,
    }
