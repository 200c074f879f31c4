"""Strict reading of YAML: one mapping per file, no key twice, plain values as in YAML 1.2's core schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stockpot.errors import ConfigError

__all__ = ["read_mapping"]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's plain values.

    PyYAML follows YAML 1.1, where `1e-4` is text, `no` is a boolean, `010` is 8 and `12:30` is 750: four ways to train
    with a value nobody wrote.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol


#: Tag -> pattern of the whole plain value, and the characters it may start with ("" for an empty value).
_PLAIN_VALUES: Mapping[str, tuple[str, list[str]]] = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
for _tag, (_pattern, _starts) in _PLAIN_VALUES.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _starts)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[str, Any] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                first = seen[key.value].line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is given twice (first in line {first})", key.start_mark
                )
            seen[key.value] = key.start_mark
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def read_mapping(path: Path) -> dict[str, Any]:
    """The one mapping a YAML file holds.

    Args:
        path: a UTF-8 file.

    Returns:
        Its content; nested mappings and lists are plain dicts and lists.

    Raises:
        ConfigError: no such file, not UTF-8, a syntax error or repeated key (line and column), empty, no mapping.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.yaml").write_text("learning_rate: 1e-4")
        ...     read_mapping(Path(folder, "a.yaml"))
        {'learning_rate': 0.0001}
    """
    content = _parse(_read_text(path), path)
    if content is None:
        raise ConfigError(f"{path} is empty", fix="write the settings as `key: value` lines")
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}, not a mapping", fix="write the settings as `key: value` lines"
        )
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise ConfigError(f"no such file: {path}", fix="check the path") from exc
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise ConfigError(f"{path} is not UTF-8 text (line {line})", fix="save it as UTF-8") from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}", fix="give a YAML file that you may read") from exc


def _parse(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: {exc.problem or exc.context}", fix="mend the YAML there") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path}: not readable as YAML: {exc}", fix="mend the YAML") from exc
