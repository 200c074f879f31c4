"""Splits of a text task: which rows, read strictly, disjoint, with a digest."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from stockpot.config import DataConfig, ShiftConfig, SplitConfig
from stockpot.errors import DataError
from stockpot.tasks.corruptions import corrupt
from stockpot.tasks.data_files import data_path
from stockpot.tasks.rows import Source, drawn_rows, rows_of_shift
from stockpot.tasks.tables import Table, raise_problems, read_table, together

__all__ = [
    "Label",
    "Split",
    "check_overlap",
    "digest",
    "finite_number",
    "load_splits",
    "read_tables",
    "with_uniform_labels",
]

Label: TypeAlias = str | int | float
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")  # "007" stays a name
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell half a character, which no tokenizer takes


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one split, all sequences of one length.

    Args:
        name: "train", "held_out", "test" or "shift:NAME".
        texts: one or two columns per row.
        labels: as in the file: all names, all integers, or for regression all numbers.
        item_ids: "file:line" of the underlying item; shifts of test share them with test, so that statistics can
            treat rows of one item as one cluster.
        of: the split this one is derived from.
        class_names: of class numbers, where the file names them.
    """

    name: str
    texts: tuple[tuple[str, ...], ...]
    labels: tuple[Label, ...]
    item_ids: tuple[str, ...]
    of: str | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


# ---------------------------------------------------------------------------------------------------------- loading


def load_splits(config: DataConfig, *, folder: Path, numbers: bool = False) -> dict[str, Split]:
    """Reads every split of a task.

    `rows` and `fraction` are drawn without replacement: one permutation of the file's rows by `seed` is cut into
    train, held_out and test, in this order, skipping those that come from elsewhere. So the splits are disjoint, and
    changing the size of one moves those after it. A split without a size is its whole file in order.

    Args:
        config: files, columns, sizes.
        folder: what relative files are relative to.
        numbers: whether labels may be numbers with a fraction: what regression predicts.

    Returns:
        "train", "held_out", "test" where configured, then "shift:NAME" for each shift. Overlap is not checked here.

    Raises:
        DataError: unreadable files, missing columns or values, more rows asked for than there are; names file and line.
        MissingExtraError: Parquet without pyarrow.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from stockpot.config import SplitConfig
        >>> config = DataConfig(file="a.tsv", text="text", label="label", held_out=SplitConfig())
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.tsv").write_text("label\\ttext\\nnet\\tSSH tunnels\\n")
        ...     load_splits(config, folder=Path(folder))["held_out"].texts
        (('SSH tunnels',),)
    """
    sources = _sources(config, folder)
    tables = read_tables(sources.values(), config.columns)
    rows = drawn_rows(config.splits, config.seed, sources, tables)
    for name, shift in config.shifts.items():
        rows[f"shift:{name}"] = rows_of_shift(shift, f"shift:{name}", sources, tables, rows)
    _check_cells(sources, tables, rows, numbers=numbers)
    splits = {name: _split(name, source, tables[source.path], rows[name]) for name, source in sources.items()}
    for name, shift in config.shifts.items():
        splits[f"shift:{name}"] = _shifted(splits[f"shift:{name}"], shift, config.seed)
    return splits if numbers else with_uniform_labels(splits)


def _sources(config: DataConfig, folder: Path) -> dict[str, Source]:
    sources = {name: _source(config, split, folder) for name, split in config.splits.items()}
    for name, shift in config.shifts.items():
        if shift.of is None:
            sources[f"shift:{name}"] = _source(config, shift, folder)
        else:
            of = sources[shift.of]
            sources[f"shift:{name}"] = of._replace(text=shift.text or of.text)
    return sources


def _source(config: DataConfig, split: SplitConfig | ShiftConfig, folder: Path) -> Source:
    file = split.file or config.file
    assert file is not None
    path = data_path(file, folder)
    return Source(file, path, split.text or config.text, split.label or config.label)


def read_tables(sources: Iterable[Source], header: Sequence[str] | None = None) -> dict[Path, Table]:
    """Every file once, with all the columns any split needs."""
    names: dict[Path, str] = {}
    columns: dict[Path, list[str]] = {}
    for source in sources:
        names.setdefault(source.path, source.file)
        columns.setdefault(source.path, []).extend(source.columns)
    tables: dict[Path, Table] = {}
    errors: list[DataError] = []
    for path, name in names.items():
        try:
            tables[path] = read_table(path, columns[path], name=name, header=header)
        except DataError as exc:
            errors.append(exc)
    if errors:
        raise together(errors, f"{len(errors)} files cannot be used")
    return tables


# ---------------------------------------------------------------------------------------------------------- cells


def _check_cells(
    sources: Mapping[str, Source],
    tables: Mapping[Path, Table],
    rows: Mapping[str, Sequence[int]],
    *,
    numbers: bool,
) -> None:
    """Only rows in use are looked at; a cell that several splits use is reported once."""
    problems = dict.fromkeys(
        f"{source.file}, line {table.lines[row]}: column {column!r} {wrong}"
        for name, source in sources.items()
        for table in [tables[source.path]]
        for column in source.columns
        for row in rows[name]
        if (wrong := _wrong_cell(table.columns[column][row], is_label=column == source.label, numbers=numbers))
    )
    message = f"{len(problems)} value{'s' if len(problems) > 1 else ''} cannot be used"
    raise_problems(problems, message, fix="mend or remove these rows")


def _wrong_cell(value: object, *, is_label: bool, numbers: bool) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "is empty"
    if is_label and numbers:
        return None if finite_number(value) is not None else f"holds {value!r}, which is no finite number"
    if is_label and isinstance(value, int) and not isinstance(value, bool):
        return None
    if is_label and isinstance(value, float):
        return f"holds the number {value!r}: for regression use `metric: mse`, `r2` or `spearman`"
    if not isinstance(value, str):
        return f"holds {value!r}, which is no {'name or integer' if is_label else 'text'}"
    return "holds half of a surrogate pair" if _SURROGATE.search(value) else None


def finite_number(value: object) -> float | None:
    """What a cell of numbers holds; None for anything else.

    Example:
        >>> finite_number("0.5"), finite_number("half")
        (0.5, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _split(name: str, source: Source, table: Table, rows: Sequence[int]) -> Split:
    columns = [table.columns[column] for column in source.text]
    assert source.label is not None, "every text has a label here"
    labels = table.columns[source.label]
    return Split(
        name,
        tuple(tuple(column[row] for column in columns) for row in rows),
        tuple(labels[row] for row in rows),
        tuple(f"{source.file}:{table.lines[row]}" for row in rows),
        class_names=table.class_names.get(source.label, ()),
    )


def _shifted(split: Split, shift: ShiftConfig, seed: int) -> Split:
    if shift.corrupt is None or shift.rate is None:
        return replace(split, of=shift.of)
    return replace(split, of=shift.of, texts=corrupt(split.texts, shift.corrupt, shift.rate, seed))


def with_uniform_labels(splits: Mapping[str, Split]) -> dict[str, Split]:
    """All integers if every label is one, as a text file cannot say which it means; else all names.

    Splits whose file names its classes know which they mean, and are left as they are.
    """
    unsure = {name: split for name, split in splits.items() if not split.class_names}
    everything = {str(label) for split in unsure.values() for label in split.labels}
    as_label = int if all(_INTEGER.fullmatch(label) for label in everything) else str
    uniform = {name: replace(split, labels=tuple(map(as_label, split.labels))) for name, split in unsure.items()}
    return {**splits, **uniform}


# ---------------------------------------------------------------------------------------------------------- overlap


def check_overlap(splits: Mapping[str, Split], allow_overlap: bool = False) -> None:
    """Refuses splits that share texts: train with held_out, and either with test or a shift that has a file of its own.

    Rows are shared when all their texts are equal, blanks at the ends aside, or when they stand in the same line of the
    same file (a shift that reads another column of it). A text that is twice in one split is no overlap.
    Shifts of test are test items, and not looked at.

    Args:
        splits: as `load_splits` gives them.
        allow_overlap: look at nothing.

    Raises:
        DataError: how many rows are shared by which splits, with an example each.

    Example:
        >>> train = Split("train", (("same text",),), ("a",), ("a.csv:2",))
        >>> test = Split("test", (("same text ",),), ("a",), ("b.csv:2",))
        >>> check_overlap({"train": train, "test": test}, allow_overlap=True)
    """
    if allow_overlap:
        return
    problems = [problem for seen, other in _pairs(splits) if (problem := _shared(seen, other))]
    if problems:
        raise DataError(
            "splits share rows, so scores on them would be too good",
            problems=problems,
            fix="remove the shared rows, or insist with `allow_overlap: true` under `data`",
        )


def _pairs(splits: Mapping[str, Split]) -> Iterator[tuple[Split, Split]]:
    seen = [splits[name] for name in ("train", "held_out") if name in splits]
    if len(seen) == 2:
        yield seen[0], seen[1]
    for name, other in splits.items():
        if name not in ("train", "held_out") and other.of is None:
            yield from ((split, other) for split in seen)


def _shared(seen: Split, other: Split) -> str | None:
    items = dict(zip(seen.item_ids, seen.item_ids, strict=True))
    by_text = {_stripped(texts): item for texts, item in zip(seen.texts, seen.item_ids, strict=True)}
    twins = [
        (texts, item, twin)
        for texts, item in zip(other.texts, other.item_ids, strict=True)
        if (twin := items.get(item) or by_text.get(_stripped(texts)))
    ]
    if not twins:
        return None
    texts, item, twin = twins[0]
    example = " | ".join(text if len(text) <= 60 else f"{text[:57]}..." for text in texts)
    return f"{len(twins)} of {len(other)} rows of {other.name} are in {seen.name}: {example!r} ({item} and {twin})"


def _stripped(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts)


# ---------------------------------------------------------------------------------------------------------- digest


def digest(split: Split) -> str:
    """SHA-256 of a split's texts and labels in order: equal content, equal digest, wherever it came from.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest(Split("test", (("a",),), ("x",), ("f:2",)))[:8]
        '1327285b'
    """
    content = hashlib.sha256(json.dumps(split.class_names).encode() if split.class_names else b"")
    for texts, label in zip(split.texts, split.labels, strict=True):
        content.update(json.dumps([*texts, label]).encode() + b"\n")
    return content.hexdigest()
