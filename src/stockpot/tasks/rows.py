"""Which rows of a file a split takes: drawn without replacement, so that splits share none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from stockpot.errors import DataError
from stockpot.tasks.tables import Table

__all__ = ["Derived", "Drawn", "Source", "cut_rows", "drawn_rows", "rows_of_shift"]


class Drawn(Protocol):
    """The size of a split, in any family's settings."""

    @property
    def rows(self) -> int | None:
        """Number of rows."""

    @property
    def fraction(self) -> float | None:
        """Share of the rows."""


class Derived(Protocol):
    """Where a shift's rows are from, in any family's settings."""

    @property
    def of(self) -> str | None:
        """The split, if it is derived from one."""

    @property
    def first(self) -> int | None:
        """How many of them."""


class Source(NamedTuple):
    """Where a split's cells stand; without a label where the texts are all there is."""

    file: str
    path: Path
    text: tuple[str, ...]
    label: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        return self.text if self.label is None else (*self.text, self.label)


def drawn_rows(
    splits: Mapping[str, Drawn], seed: int, sources: Mapping[str, Source], tables: Mapping[Path, Table]
) -> dict[str, Sequence[int]]:
    """The rows of every split that is no shift; see `cut_rows`."""
    rows: dict[str, Sequence[int]] = {}
    for path, table in tables.items():
        sharing = {name: split for name, split in splits.items() if sources[name].path == path}
        if sharing:
            rows |= cut_rows(sharing, table.n_rows, sources[next(iter(sharing))].file, seed)
    return rows


def cut_rows(
    splits: Mapping[str, Drawn], n_rows: int, file: str, seed: int, *, order: Sequence[int] | None = None
) -> dict[str, Sequence[int]]:
    """The rows of the splits that share a file of `n_rows`: one permutation, cut in the splits' order.

    Args:
        splits: their sizes.
        n_rows: of the file.
        file: what to call it.
        seed: of the permutation.
        order: the permutation itself, where it is made otherwise.

    Raises:
        DataError: more rows asked for than there are, or one split without a size beside others.

    Example:
        >>> from stockpot.config import SplitConfig
        >>> cut_rows({"test": SplitConfig()}, 3, "a.tsv", seed=0)
        {'test': range(0, 3)}
    """
    whole = [name for name, split in splits.items() if split.rows is None and split.fraction is None]
    if whole and len(splits) == 1:
        return {whole[0]: range(n_rows)}
    if whole:
        raise DataError(
            f"{file}: {' and '.join(whole)} would take the whole file that {' and '.join(splits)} share",
            fix="give each of them `rows` or `fraction`, or a `file` of its own",
        )
    sizes = {name: _size(name, split, n_rows, file) for name, split in splits.items()}
    needed = sum(sizes.values())
    if needed > n_rows:
        asked = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(f"{file} has {n_rows} rows, but {needed} are asked for ({asked})", fix="ask for fewer rows")
    permutation = list(order) if order is not None else np.random.default_rng(seed).permutation(n_rows).tolist()
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: permutation[end - size : end] for (name, size), end in zip(sizes.items(), ends, strict=True)}


def _size(name: str, split: Drawn, n_rows: int, file: str) -> int:
    if split.rows is not None:
        return split.rows
    # The fraction as it is written: in floating point 0.29 of 100 rows would be 28.
    size = math.floor(Fraction(repr(split.fraction)) * n_rows)
    if size == 0:
        raise DataError(
            f"{file} has {n_rows} rows; {split.fraction} of them is none for {name}", fix="raise `fraction`"
        )
    return size


def rows_of_shift(
    shift: Derived,
    name: str,
    sources: Mapping[str, Source],
    tables: Mapping[Path, Table],
    rows: Mapping[str, Sequence[int]],
) -> Sequence[int]:
    """The rows of a shift: the first of test's, or of a file of its own."""
    available = rows[shift.of] if shift.of else range(tables[sources[name].path].n_rows)
    if shift.first is not None and shift.first > len(available):
        whose = shift.of or sources[name].file
        raise DataError(
            f"{name}: first {shift.first} of the {len(available)} rows of {whose}", fix="ask for fewer rows"
        )
    return available[: shift.first]
