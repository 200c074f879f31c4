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

from stockpot._choices import Choices, number_of, read_choices
from stockpot._shards import shards
from stockpot.errors import DataError, MissingExtraError

__all__ = ["Sample", "are_numbers", "choice_columns", "label_column", "sample", "text_columns"]

_ROWS = 500
_WORDS_OF_A_NAME = 4
_BESIDE_SHARDS = (".json",)  # `datasets` describes what it saved
_PACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_LABELS = (
    "label", "labels", "class", "target", "category", "gold_label", "sentiment", "section", "topic", "intent", "score",
    "rating", "y",
)  # fmt: skip
_PAIRS = (
    ("sentence1", "sentence2"), ("#1 string", "#2 string"), ("premise", "hypothesis"), ("question1", "question2"),
    ("question", "sentence"), ("question", "passage"), ("text_a", "text_b"),
)  # fmt: skip
_CHOICES = ("choices", "options", "endings")
_CONTEXTS = ("context", "question", "ctx", "prompt", "query", "stem")
_ANSWERS = (
    "answer", "label", "gold", "right", "correct", "answer_idx", "answer_index", "answerkey", "correct_answer",
    "target",
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
        has_header: whether the first line of a separated file can be the names of its columns.
    """

    columns: Mapping[str, Sequence[Any]]
    has_header: bool = True


def sample(path: Path) -> Sample:
    """The first rows of a table; of several shards, of the first.

    Raises:
        DataError: it cannot be read, or has no rows.
        MissingExtraError: Parquet without pyarrow.
    """
    found = shards(path, lambda name: Path(name).suffix not in _BESIDE_SHARDS, name=str(path))
    if not found:
        raise DataError(f"{path}: holds no table", fix="give a table with rows")
    path = found[0]
    opener = _PACKED.get(path.suffix.lower())
    kind = (Path(path.stem) if opener else path).suffix.lower()
    try:
        if kind in {".parquet", ".pq", ".arrow", ".feather"}:
            return _columnar(path, is_arrow=kind in {".arrow", ".feather"})
        with opener(path, "rt", encoding="utf-8-sig") if opener else path.open(encoding="utf-8-sig") as file:
            has_header = True
            if kind in {".jsonl", ".ndjson"}:
                rows = [json.loads(line) for line in islice(file, _ROWS) if line.strip()]
            else:
                text = io.StringIO("".join(islice(file, _ROWS + 1)), newline="")
                is_tsv = kind in {".tsv", ".tab"}
                reader = (
                    csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.DictReader(text)
                )
                rows, has_header = list(reader), _are_names(reader.fieldnames or ())
    except (OSError, EOFError, ValueError, csv.Error, lzma.LZMAError, zlib.error) as exc:
        raise DataError(f"{path}: cannot be read: {exc}", fix="give a whole file in UTF-8") from exc
    rows = [row for row in rows if isinstance(row, dict)]
    if not rows:
        raise DataError(f"{path}: holds no rows", fix="give a table with a header and rows")
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if isinstance(name, str)]
    return Sample({name: [row.get(name) for row in rows] for name in names}, has_header)


def _are_names(header: Sequence[str]) -> bool:
    """Whether a first line names columns: names are there, told apart, no numbers and no sentences."""
    return len(set(header)) == len(header) and not any(
        not name.strip() or are_numbers([name]) or len(name.split()) > _WORDS_OF_A_NAME for name in header
    )


def _columnar(path: Path, *, is_arrow: bool) -> Sample:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as exc:
        raise MissingExtraError("pyarrow", extra="hf", needed_for=f"reading {path.name}") from exc
    try:
        batch = _arrow_rows(path) if is_arrow else next(pq.ParquetFile(path).iter_batches(batch_size=_ROWS), None)
    except (pa.ArrowException, OSError) as exc:
        kind = "an Arrow" if is_arrow else "a Parquet"
        raise DataError(f"{path}: cannot be read: {exc}", fix=f"give {kind} file, whole") from exc
    if batch is None or not batch.num_rows:
        raise DataError(f"{path}: holds no rows", fix="give a table with rows")
    return Sample(batch.to_pydict())


def _arrow_rows(path: Path) -> Any:
    """The first rows of the file format, or of the stream format that `datasets` writes."""
    import pyarrow as pa

    with path.open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
    with pa.memory_map(str(path)) as source:
        return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source).read_all().slice(0, _ROWS)


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


def choice_columns(found: Sample) -> tuple[str, str | None, str | None] | None:
    """Columns of choices, of what stands before them and of the right one's number; None where no column holds lists.

    Example:
        >>> rows = Sample({"asked": ["What is up there?"], "options": [["sun", "sea"]], "right": [0]})
        >>> choice_columns(rows)
        ('options', 'asked', 'right')
    """
    listed = [name for name, values in found.columns.items() if values and all(map(_are_choices, values))]
    choices = next((name for name in listed if name.lower() in _CHOICES), listed[0] if len(listed) == 1 else None)
    if choices is None:
        return None
    lowered = {name.lower(): name for name in found.columns if name != choices}
    sentences = [name for name in lowered.values() if _are_sentences(found.columns[name])]
    context = next((lowered[name] for name in _CONTEXTS if name in lowered), None)
    context = context or (sentences[0] if len(sentences) == 1 else None)
    numbers = [
        name
        for name in lowered.values()
        if all(
            number_of(answer, read_choices(options) or Choices(())) is not None
            for answer, options in zip(found.columns[name], found.columns[choices], strict=True)
        )
    ]
    named = next((lowered[name] for name in _ANSWERS if lowered.get(name) in numbers), None)
    return choices, context, named or (numbers[0] if len(numbers) == 1 else None)


def _are_choices(value: Any) -> bool:
    choices = read_choices(value)
    return choices is not None and len(choices.texts) >= 2 and all(isinstance(text, str) for text in choices.texts)


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
