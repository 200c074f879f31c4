"""Reading rows: TSV, CSV, JSON lines (each compressed or not), Parquet and Arrow become one small Table."""

from __future__ import annotations

import bz2
import csv
import difflib
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockpot._shards import check_no_sets, shards
from stockpot.errors import DataError, MissingExtraError

__all__ = ["Table", "nearest", "raise_problems", "read_arrow", "read_table", "schema_class_names", "together"]

_MAX_PROBLEMS_SHOWN = 10
_LONGEST_FIELD = 2**31 - 1  # the largest that csv takes on every system


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of a file, as they stand in it.

    Args:
        columns: name -> values, all of one length; None where a value is missing.
        lines: where each row ends in the file, counted from 1 (Parquet, or several files: the row's number).
        class_names: column -> names of the class numbers in it, which `datasets` keeps in Parquet and Arrow.
    """

    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of rows, the header left out."""
        return len(self.lines)


def read_table(path: Path, columns: Iterable[str], *, name: str, header: Sequence[str] | None = None) -> Table:
    """The wanted columns of a file; the ending of its name says what it is.

    `.tsv`, `.tab` (no quoting: tabs separate, quotes are text), `.csv` (quoted as in RFC 4180), `.jsonl`, `.ndjson`, in
    UTF-8 and optionally compressed (`.gz`, `.xz`, `.bz2`); `.parquet`, `.pq`; `.arrow`, `.feather` (file or stream).

    Args:
        path: the file; or several that are read as one, in the order of their names: a folder of them, or a pattern
            (`train-*.parquet`).
        columns: those needed.
        name: what to call the file in errors.
        header: the columns of a separated file whose first line is a row already.

    Raises:
        DataError: no such file, unknown ending, damaged, not UTF-8, no rows, ragged rows, repeated or missing columns.
        MissingExtraError: Parquet or Arrow without pyarrow.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.tsv").write_text("section\\tname\\nnet\\tautossh\\n")
        ...     dict(read_table(Path(folder, "a.tsv"), ["name"], name="a.tsv").columns)
        {'name': ['autossh']}
    """
    wanted = tuple(dict.fromkeys(columns))
    files = shards(path, _is_table, name=name)
    if not files:
        check_no_sets(sorted(folder for folder in path.iterdir() if folder.is_dir()), name)
        raise DataError(f"{name} is a folder without tables; known: {_known()}", fix="correct `file`")
    if files == [path]:
        return _read_file(path, wanted, name, header)
    tables, errors = [], list[DataError]()
    for file in files:
        try:
            tables.append(_read_file(file, wanted, f"{file.name} of {name}", header))
        except DataError as exc:
            errors.append(exc)
    if errors:
        raise together(errors, f"{name}: {len(errors)} files cannot be used")
    return _joined(tables, name)


def _joined(tables: Sequence[Table], name: str) -> Table:
    names = tables[0].class_names
    if any(table.class_names != names for table in tables):
        raise DataError(f"{name}: its files name different classes", fix="name files of one data set")
    columns = {column: [value for table in tables for value in table.columns[column]] for column in tables[0].columns}
    return Table(columns, range(1, sum(table.n_rows for table in tables) + 1), names)


def _kind(name: str) -> tuple[str, bool]:
    """The ending that says what a file is, and whether it is compressed."""
    path = Path(name)
    compressed = path.suffix.lower() in _DECOMPRESS
    return (Path(path.stem).suffix if compressed else path.suffix).lower(), compressed


def _is_table(name: str) -> bool:
    kind, compressed = _kind(name)
    return kind in _READERS or (kind in (*_PARQUET, *_ARROW) and not compressed)


def _known() -> str:
    return f"{', '.join([*_READERS, *_PARQUET, *_ARROW])} (text also {', '.join(_DECOMPRESS)})"


def _read_file(path: Path, wanted: Sequence[str], name: str, header: Sequence[str] | None) -> Table:
    kind, _ = _kind(path.name)
    if not _is_table(path.name):
        raise DataError(
            f"{name}: unknown kind of file; known: {_known()}",
            fix='save it as one of these, such as .jsonl with one {"text": "..."} a line',
        )
    if kind in _READERS:
        table = _READERS[kind](_read_text(path, name), wanted, name, header)
    else:
        table = _read_columns(path, wanted, name, is_arrow=kind in _ARROW)
    if not table.n_rows:
        raise DataError(f"{name} holds no rows", fix="give a file with at least one row below the header")
    return table


def read_arrow(path: Path) -> Any:
    """The pyarrow.Table of an Arrow file: `datasets` writes the stream format, others the file format.

    Raises:
        pyarrow.ArrowException, OSError: damaged, or not there.
    """
    import pyarrow

    with path.open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
    source = pyarrow.memory_map(str(path))
    return (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(source).read_all()


def schema_class_names(schema: Any, column: str) -> tuple[str, ...]:
    """Names of a column's class numbers, in order, which `datasets` keeps in a pyarrow schema; else none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[column]["names"]))
    except (KeyError, ValueError, TypeError):
        return ()


def raise_problems(problems: Iterable[str], message: str, *, fix: str) -> None:
    """A DataError naming the first ten problems and the number of the others; nothing where there is no problem.

    Example:
        >>> raise_problems([], "rows are wrong", fix="mend them")
    """
    found = list(problems)
    if found:
        more = len(found) - _MAX_PROBLEMS_SHOWN
        shown = found[:_MAX_PROBLEMS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise DataError(message, problems=shown, fix=fix)


def together(errors: Sequence[DataError], message: str) -> DataError:
    """Several errors as one that names the first ten and the number of the others; a single one as it is.

    Args:
        errors: at least one.
        message: what they have in common.

    Example:
        >>> together([DataError("a.png is damaged")], "images are damaged").message
        'a.png is damaged'
    """
    if len(errors) == 1:
        return errors[0]
    more = len(errors) - _MAX_PROBLEMS_SHOWN
    shown = errors[:_MAX_PROBLEMS_SHOWN]
    lines = [line for error in shown for line in (error.message, *(f"  {problem}" for problem in error.problems))]
    problems = lines + ([f"and {more} more"] if more > 0 else [])
    fixes = dict.fromkeys(error.fix for error in errors if error.fix)
    return DataError(
        message, problems=problems, fix="; ".join(fixes) if 0 < len(fixes) <= 3 else "mend or replace them"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)', or '' where nothing is near.

    Example:
        >>> nearest("synopsys", ["synopsis", "long"])
        " (did you mean 'synopsis'?)"
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
}


def _read_text(path: Path, name: str) -> str:
    try:
        content = path.read_bytes()
        content = _DECOMPRESS.get(path.suffix.lower(), bytes)(content)
    except FileNotFoundError as exc:
        raise DataError(f"no such file: {name} (looked in {path.parent})", fix="correct `file`") from exc
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as exc:
        raise DataError(f"{name} cannot be read: {exc}", fix="give a whole file that you may read") from exc
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        wrong = f"byte {exc.object[exc.start]:#04x}"
        raise DataError(f"{name}, line {line}: {wrong} is not UTF-8", fix="save the file as UTF-8") from exc


def _read_tsv(text: str, wanted: Sequence[str], name: str, header: Sequence[str] | None) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    return _read_separated(reader, wanted, name, header)


def _read_csv(text: str, wanted: Sequence[str], name: str, header: Sequence[str] | None) -> Table:
    # strict: without it one stray quote swallows the rest of the file into one field without a word.
    return _read_separated(csv.reader(io.StringIO(text, newline=""), strict=True), wanted, name, header)


def _read_separated(reader: Any, wanted: Sequence[str], name: str, given: Sequence[str] | None) -> Table:
    rows = _numbered_rows(reader, name)
    if given is None and not rows:
        raise DataError(f"{name} is empty", fix="give a file with a header and rows")
    header, body = (list(given), rows) if given is not None else (rows[0][1], rows[1:])
    _check_columns(header, wanted, name, fix=_FIX if given is not None else f"{_FIX}; a file without header: {_LIST}")
    ragged = (
        f"line {line}: {len(row)} fields where the header has {len(header)}"
        for line, row in body
        if len(row) != len(header)
    )
    raise_problems(ragged, f"{name}: rows that do not fit the header", fix="mend or remove these rows")
    positions = {column: header.index(column) for column in wanted}
    columns = {column: [row[at] or None for _, row in body] for column, at in positions.items()}
    return Table(columns, [line for line, _ in body])


def _numbered_rows(reader: Any, name: str) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, with the line each ends in."""
    usual = csv.field_size_limit(_LONGEST_FIELD)  # csv's own limit, 128 KiB, is less than a long document
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as exc:
        raise DataError(
            f"{name}, line {reader.line_num}: {exc}",
            fix="mend the quotes, or save the file as .tsv, where quotes are text",
        ) from exc
    finally:
        csv.field_size_limit(usual)


_FIX = "correct the columns under `data`"
_LIST = "list its columns as `columns`"


def _check_columns(there: Sequence[str], wanted: Sequence[str], name: str, *, fix: str = _FIX) -> None:
    twice = sorted({column for column in there if there.count(column) > 1})
    if twice:
        raise DataError(f"{name}: columns given twice: {', '.join(twice)}", fix="rename them in the header")
    missing = [f"no column {column!r}{nearest(column, there)}" for column in wanted if column not in there]
    raise_problems(missing, f"{name} has the columns {', '.join(there)}", fix=fix)


def _read_json_lines(text: str, wanted: Sequence[str], name: str, header: Sequence[str] | None) -> Table:
    del header  # every line names its columns
    numbered = [(at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]
    parsed = [(at, _parse_object(line)) for at, line in numbered]
    wrong = (f"line {at}: {row}" for at, row in parsed if isinstance(row, str))
    raise_problems(wrong, f"{name}: lines that are no JSON objects", fix='write one {"key": value} per line')
    rows = [(at, row) for at, row in parsed if isinstance(row, dict)]
    if rows:
        _check_columns(list(dict.fromkeys(key for _, row in rows for key in row)), wanted, name)
    return Table({column: [row.get(column) for _, row in rows] for column in wanted}, [at for at, _ in rows])


def _parse_object(line: str) -> dict[str, Any] | str:
    """The object, or what is wrong with the line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        return f"not JSON ({exc})"
    return value if isinstance(value, dict) else f"a {type(value).__name__}, not an object"


_Reader = Callable[[str, Sequence[str], str, Sequence[str] | None], Table]
_READERS: Mapping[str, _Reader] = {
    ".tsv": _read_tsv,
    ".tab": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
_PARQUET, _ARROW = (".parquet", ".pq"), (".arrow", ".feather")


def _read_columns(path: Path, wanted: Sequence[str], name: str, *, is_arrow: bool) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as exc:
        if exc.name != "pyarrow":  # a broken installation is not a missing one
            raise
        raise MissingExtraError("pyarrow", extra="hf", needed_for=f"reading {name}") from exc
    if not path.is_file():
        raise DataError(f"no such file: {name} (looked in {path.parent})", fix="correct `file`")
    try:
        if is_arrow:
            content = read_arrow(path)
            _check_columns(content.schema.names, wanted, name)
        else:
            with pyarrow.parquet.ParquetFile(path) as file:
                _check_columns(file.schema_arrow.names, wanted, name)
                content = file.read(columns=list(wanted))
    except (pyarrow.ArrowException, OSError) as exc:
        kind = "an Arrow" if is_arrow else "a Parquet"
        raise DataError(f"{name} cannot be read: {exc}", fix=f"give {kind} file, whole") from exc
    columns = {column: content.column(column).to_pylist() for column in wanted}
    names = {column: found for column in wanted if (found := schema_class_names(content.schema, column))}
    return Table(columns, range(1, content.num_rows + 1), names)
