"""Records as JSON: how a file is found, written, parsed, brought to the current schema and checked."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

from stockpot._version import __version__
from stockpot.errors import RecordError
from stockpot.outputs import write_text_atomically

__all__ = ["PathLike", "Schema", "checked", "parsed", "read_json", "record_file", "write_json"]

_T = TypeVar("_T")
PathLike: TypeAlias = str | os.PathLike[str]
#: Mappings of free form: their order means nothing, so it must not show in the bytes.
_UNORDERED = frozenset({"settings", "output", "experiment"})
_RESTORE = "restore the file or make it again"


@dataclass(frozen=True, slots=True)
class Schema:
    """The version a record is written in, and how what older versions wrote becomes it.

    Args:
        version: of the files written now.
        upgrades: version -> content of that version -> content of the next. Content is not checked yet: what is not
            as expected is left as it is, for the check afterwards to name.
    """

    version: int
    upgrades: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)

    @property
    def readable(self) -> str:
        """The versions that can be read, in words."""
        oldest = min(self.upgrades, default=self.version)
        return f"schema {self.version}" if oldest == self.version else f"schemas {oldest} to {self.version}"


def record_file(path: PathLike, name: str) -> Path:
    """The file itself, or the one called `name` in a folder."""
    path = Path(path)
    return path if path.suffix == ".json" and not path.is_dir() else path / name


def write_json(file: Path, record: object, schema: Schema) -> None:
    """Writes a dataclass under its schema number, whole or not at all.

    Raises:
        RecordError: a value that JSON cannot hold; the key is named.
        OutputError: the file cannot be written.
    """
    content = {"schema": schema.version, **_plain(record, file.name)}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as exc:  # a file name that is not UTF-8 reaches Python as lone surrogates
        line = text.count("\n", 0, exc.start)
        raise RecordError(f"{text.splitlines()[line].strip()!r} is not valid Unicode", fix="rename the file") from exc
    write_text_atomically(file, text)


def read_json(file: Path, schema: Schema) -> dict[str, Any]:
    """The content of a record in the current schema, its keys unchecked.

    Raises:
        RecordError: no such file, not JSON, no record, or of a schema that cannot be read.
    """
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as exc:
        raise RecordError(f"{file} is not UTF-8 text: byte {exc.start}", fix="restore the file") from exc
    except OSError as exc:
        raise RecordError(f"{file} cannot be read: {exc.strerror or exc}", fix="give the record or its folder") from exc
    return _upgraded(_parse(text, file), file, schema)


def parsed(file: Path, content: object, shape: type[_T], *, problems: Sequence[str] = ()) -> _T:
    """The content as a `shape`.

    Args:
        file: for the error.
        content: JSON values.
        shape: a dataclass; keys that it does not know are ignored.
        problems: what is known to be wrong already, to be told together with what is found here.

    Raises:
        RecordError: missing or wrong keys; all of them are listed.
    """
    value, found = checked(content, shape)
    if found or problems or value is None:
        every = [*found, *problems]
        count = f"{len(every)} wrong key{'s' if len(every) > 1 else ''}"
        raise RecordError(f"{file} is not a whole record: {count}", problems=every, fix=_RESTORE)
    return value


def checked(content: object, shape: type[_T], where: str = "") -> tuple[_T | None, list[str]]:
    """The content as a `shape`, or what is wrong with it, one line per key below `where`."""
    from pydantic import TypeAdapter, ValidationError  # 0.15 s: only those who read a record pay

    try:
        # As JSON once more: only there is a list strictly a tuple.
        return TypeAdapter(shape).validate_json(json.dumps(content), strict=True), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        return None, [_problem((where, *error["loc"]) if where else error["loc"], error) for error in errors]


def _problem(location: Sequence[int | str], error: Mapping[str, Any]) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if error["type"] == "missing":
        return f"{where}: missing"
    found = repr(error["input"])
    return f"{where}: {error['msg'].removeprefix('Input ')}, not {found if len(found) <= 60 else found[:57] + '...'}"


def _plain(value: Any, where: str) -> Any:
    """JSON values of a record, free of nan; optional fields that are None are left out."""
    if is_dataclass(value):
        return _plain_fields(value, where)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{where} is {value}, which JSON cannot hold", fix="record only finite numbers")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    kind = type(value).__name__
    raise RecordError(f"{where} is a {kind} that JSON cannot hold", fix="use texts, numbers, lists, texts as keys")


def _plain_fields(record: Any, where: str) -> dict[str, Any]:
    content = {}
    for f in fields(record):
        value = getattr(record, f.name)
        if value is None and f.default is None:
            continue
        item = _plain(value, f"{where}: {f.name}")
        content[f.name] = _sorted(item) if f.name in _UNORDERED else _whole(item) if f.name == "n_ingredients" else item
    return content


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _parse(text: str, file: Path) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_number, parse_float=_finite, object_pairs_hook=_unique)
    except json.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}"
        raise RecordError(f"{file} is not JSON: {exc.msg} in {where}", fix=_RESTORE) from exc
    except (ValueError, RecursionError) as exc:
        raise RecordError(f"{file} is not a record: {exc}", fix=_RESTORE) from exc


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _refuse_number(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:  # two readers would see two records
            raise ValueError(f"the key {key!r} occurs twice")
        content[key] = value
    return content


def _upgraded(content: Any, file: Path, schema: Schema) -> dict[str, Any]:
    if not isinstance(content, dict) or "schema" not in content:
        raise RecordError(
            f"{file} has no 'schema': it is no record",
            fix=f"give the {file.name} that stockpot wrote, or make it again",
        )
    found = content["schema"]
    if type(found) is not int or (found != schema.version and found not in schema.upgrades):
        message = f"{file} has schema {found!r}, but stockpot {__version__} reads {schema.readable}"
        raise RecordError(message, fix="install the stockpot that wrote it, or a newer one")
    for version in range(found, schema.version):
        content = schema.upgrades[version](content)
    return {**content, "schema": schema.version}
