"""Which columns of a table are texts and which is the label: from names and the first rows."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

from stockpot.errors import DataError, MissingExtraError

__all__ = ["Sample", "are_numbers", "label_column", "sample", "text_columns"]

_ROWS = 500
_PACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_LABELS = (
    "label", "labels", "class", "target", "category", "gold_label", "sentiment", "section", "topic", "intent", "score",
    "rating", "y",
)  # fmt: skip
_PAIRS = (
    ("sentence1", "sentence2"), ("#1 string", "#2 string"), ("premise", "hypothesis"), ("question1", "question2"),
    ("question", "sentence"), ("question", "passage"), ("text_a", "text_b"),
)  # fmt: skip
_TEXTS = (
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "body",
    "document",
    "tweet",
    "synopsis",
    "title",
    "prompt",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a table.

    Args:
        columns: name -> values of these rows.
    """

    columns: Mapping[str, Sequence[Any]]


def sample(path: Path) -> Sample:
    """The first rows of a table.

    Raises:
        DataError: it cannot be read, or has no rows.
        MissingExtraError: Parquet without pyarrow.
    """
    opener = _PACKED.get(path.suffix.lower())
    kind = (Path(path.stem) if opener else path).suffix.lower()
    try:
        if kind in {".parquet", ".pq"}:
            return _parquet(path)
        with opener(path, "rt", encoding="utf-8-sig") if opener else path.open(encoding="utf-8-sig") as file:
            if kind in {".jsonl", ".ndjson"}:
                rows = [json.loads(line) for line in islice(file, _ROWS) if line.strip()]
            else:
                text = io.StringIO("".join(islice(file, _ROWS + 1)), newline="")
                if kind in {".tsv", ".tab"}:
                    rows = list(csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE))
                else:
                    rows = list(csv.DictReader(text))
    except (OSError, EOFError, ValueError, csv.Error, lzma.LZMAError, zlib.error) as exc:
        raise DataError(f"{path}: cannot be read: {exc}", fix="give a whole file in UTF-8") from exc
    rows = [row for row in rows if isinstance(row, dict)]
    if not rows:
        raise DataError(f"{path}: holds no rows", fix="give a table with a header and rows")
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if isinstance(name, str)]
    return Sample({name: [row.get(name) for row in rows] for name in names})


def _parquet(path: Path) -> Sample:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as exc:
        raise MissingExtraError("pyarrow", extra="hf", needed_for=f"reading {path.name}") from exc
    try:
        batch = next(pq.ParquetFile(path).iter_batches(batch_size=_ROWS), None)
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{path}: cannot be read: {exc}", fix="give a whole Parquet file") from exc
    if batch is None:
        raise DataError(f"{path}: holds no rows", fix="give a table with rows")
    return Sample(batch.to_pydict())


def label_column(found: Sample, labels: Sequence[str] | None) -> str | None:
    """The column of labels: the one whose values are the model's labels, else the one that is called so.

    Args:
        found: of a table.
        labels: the model's label names, where it has any.

    Example:
        >>> rows = Sample({"a": ["x", "y"], "kind": ["pos", "neg"]})
        >>> label_column(rows, ["neg", "pos"]), label_column(rows, None)
        ('kind', None)
    """
    if labels:
        numbers = {str(number) for number in range(len(labels))}
        for wanted in (set(labels), numbers):
            fitting = [
                name for name, values in found.columns.items() if values and {str(value) for value in values} <= wanted
            ]
            if len(fitting) == 1:
                return fitting[0]
            if named := [name for name in fitting if name.lower() in _LABELS]:
                return named[0]
    lowered = {name.lower(): name for name in found.columns}
    return next((lowered[name] for name in _LABELS if name in lowered), None)


def text_columns(found: Sample, label: str | None) -> tuple[str, ...]:
    """One or two columns of texts: a known pair, a known name, else the only column of sentences.

    Example:
        >>> rows = Sample({"id": ["1", "2"], "words": ["a cat sat", "two dogs ran"], "label": ["0", "1"]})
        >>> text_columns(rows, "label")
        ('words',)
    """
    lowered = {name.lower(): name for name in found.columns if name != label}
    for first, second in _PAIRS:
        if first in lowered and second in lowered:
            return lowered[first], lowered[second]
    for name in _TEXTS:
        if name in lowered:
            return (lowered[name],)
    sentences = [name for name, values in found.columns.items() if name != label and _are_sentences(values)]
    return (sentences[0],) if len(sentences) == 1 else ()


def _are_sentences(values: Sequence[Any]) -> bool:
    texts = [value for value in values if isinstance(value, str)]
    return bool(texts) and sum(" " in text.strip() for text in texts) > len(texts) / 2


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether every value is a number, or the text of one.

    Example:
        >>> are_numbers(["1.5", 2]), are_numbers(["1.5", "high"]), are_numbers([])
        (True, False, False)
    """
    try:
        return bool(values) and all(isfinite(float(value)) for value in values)
    except (TypeError, ValueError):
        return False
