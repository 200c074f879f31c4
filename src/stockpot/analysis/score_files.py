"""Files of scores that users wrote with their own code: JSON lines, CSV and TSV, also gzipped.

Nothing here knows which columns matter; what is wrong is collected, not raised, so that all of it is told at once.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from stockpot.errors import DataError

__all__ = ["FileRow", "Problem", "ScoreFile", "nearest", "read_score_file"]

_KNOWN = ".jsonl, .ndjson, .csv and .tsv, each also with .gz"
_ONE_OBJECT_PER_LINE = "write one JSON object per line (pandas: to_json(..., orient='records', lines=True))"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, with its place, and what to do about it."""

    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class FileRow:
    """One model as the file spells it.

    Args:
        line: where it begins, from 1.
        values: column -> JSON value, or text.
    """

    line: int
    values: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """What a file says, as far as it can be read.

    Args:
        label: the file as the user named it.
        source: its name without folders.
        rows: in the file's order.
        problems: what could not be read.
        has_texts: whether every value is text (CSV), numbers included.
        lines_by_repeated: columns that occur twice in one row or header -> lines where they do.
    """

    label: str
    source: str
    rows: tuple[FileRow, ...] = ()
    problems: tuple[Problem, ...] = ()
    has_texts: bool = False
    lines_by_repeated: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that any row has, in the order of their appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))


def read_score_file(path: str | os.PathLike[str]) -> ScoreFile:
    """Reads rows of scores; whatever is wrong is in `problems`.

    Args:
        path: .jsonl or .ndjson (one object per line), .csv or .tsv (with a header); each may be gzipped (.gz).

    Returns:
        Rows and problems. Cells of CSV and TSV are stripped of spaces around them; blank lines mean nothing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "scores.csv").write_text("model_name, test\\na, 0.5\\n")
        ...     read_score_file(Path(folder, "scores.csv")).rows
        (FileRow(line=2, values={'model_name': 'a', 'test': '0.5'}),)
    """
    path = Path(path)
    file = ScoreFile(str(path), os.fsencode(path.name).decode("utf-8", "replace"))
    try:
        parse = _parser(path)
        text = _text(path)
    except DataError as exc:
        return replace(file, problems=(Problem(exc.message, exc.fix or ""),))
    return _with_rows_or_problem(parse(file, text))


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)', or '' where nothing is near; upper and lower case are near.

    Example:
        >>> nearest("imagenet-v2", ["ImageNetV2", "ObjectNet"])
        " (did you mean 'ImageNetV2'?)"
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f" (did you mean {by_folded[found[0]]!r}?)" if found else ""


def _parser(path: Path) -> Callable[[ScoreFile, str], ScoreFile]:
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    parser = _PARSERS.get(suffixes[0].lower()) if suffixes else None
    if parser is None:
        suffix = "".join(suffixes)
        what = f"unknown suffix {suffix!r}" if suffix else "no suffix, so its format is unknown"
        raise DataError(f"{path}: {what}", fix=f"known are {_KNOWN}")
    return parser


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError as exc:
        raise DataError(f"{path}: no such file{_nearest_sibling(path)}", fix="correct the file names") from exc
    except IsADirectoryError as exc:
        raise DataError(f"{path}: a folder, not a file", fix="name the files in it") from exc
    except (OSError, EOFError, zlib.error) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise DataError(f"{path}: cannot be read: {reason}", fix="give whole files that you may read") from exc
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise DataError(f"{path}: line {line}: not UTF-8 text", fix="save files as UTF-8") from exc


def _nearest_sibling(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return ""
    return nearest(path.name, names)


def _with_rows_or_problem(file: ScoreFile) -> ScoreFile:
    if file.rows or file.problems:
        return file
    problem = Problem(f"{file.label}: no rows", "every file needs one row per model at least")
    return replace(file, problems=(problem,))


def _json_lines(file: ScoreFile, text: str) -> ScoreFile:
    rows, problems, repeated = [], [], dict[str, tuple[int, ...]]()
    for line, content in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand inside a JSON text
        if not content.strip():
            continue
        try:
            pairs = _pairs(content)
        except ValueError as exc:
            problems.append(Problem(f"{file.label}: line {line}: {exc}", _ONE_OBJECT_PER_LINE))
            continue
        for name in _twice(name for name, _ in pairs):
            repeated[name] = (*repeated.get(name, ()), line)
        rows.append(FileRow(line, dict(pairs)))
    if problems and _is_one_value(text):
        problems = [Problem(f"{file.label}: one JSON value, not one object per line", _ONE_OBJECT_PER_LINE)]
    return replace(file, rows=tuple(rows), problems=tuple(problems), lines_by_repeated=repeated)


def _pairs(content: str) -> tuple[tuple[str, Any], ...]:
    """Keys and values of one line, repeated keys included; a ValueError says what else it is."""
    try:
        value = json.loads(content, object_pairs_hook=tuple)  # objects become tuples, arrays lists
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON: {exc.msg} (character {exc.pos + 1})") from exc
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(value, tuple):
        raise ValueError(f"{content.strip()[:40]} is no JSON object")
    return value


def _is_one_value(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _csv_lines(file: ScoreFile, text: str, *, delimiter: str) -> ScoreFile:
    file = replace(file, has_texts=True)
    rows, problems, header = [], [], list[str]()
    try:
        for line, cells in _csv_cells(text, delimiter):
            if not header:
                header = cells
                file = replace(file, lines_by_repeated=dict.fromkeys(_twice(header), (line,)))
            elif len(cells) == len(header):
                rows.append(FileRow(line, dict(zip(header, cells, strict=True))))
            else:
                counts = f"{len(cells)} cells under a header of {len(header)}"
                problems.append(Problem(f"{file.label}: line {line}: {counts}", "give every row a cell per column"))
    except _CsvError as exc:
        problems.append(Problem(f"{file.label}: line {exc.line}: {exc}", "close every quote that is opened"))
    problems = _wrong_delimiter(file, header) or problems
    return replace(file, rows=tuple(rows), problems=tuple(problems))


class _CsvError(Exception):
    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


def _csv_cells(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The line each row begins in, and its cells; a quoted cell may go over several lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield line, stripped
            line = reader.line_num + 1
    except csv.Error as exc:
        raise _CsvError(str(exc), line) from exc


def _wrong_delimiter(file: ScoreFile, header: list[str]) -> list[Problem]:
    if len(header) != 1 or not (found := [mark for mark in ";\t," if mark in header[0]]):
        return []
    fix = "separate columns by commas in .csv and by tabs in .tsv; write numbers with a point"
    return [Problem(f"{file.label}: one column only; its header {header[0]!r} holds {found[0]!r}", fix)]


_PARSERS: Mapping[str, Callable[[ScoreFile, str], ScoreFile]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": partial(_csv_lines, delimiter=","),
    ".tsv": partial(_csv_lines, delimiter="\t"),
}
