"""JSON as a format needs it: UTF-8, no duplicate keys, no NaN, no half characters."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read_strict_json"]


def read_strict_json(raw: bytes) -> Any:
    """The value that `raw` spells, or a ValueError that says why it is none.

    Python's own reader lets the last of two equal keys win and accepts NaN; a file format cannot afford either.

    Args:
        raw: UTF-8 bytes of one JSON value.

    Returns:
        Plain Python values.

    Raises:
        ValueError: not UTF-8, not JSON, a duplicate key, NaN or infinity, an unpaired surrogate, or nested too deeply.

    Example:
        >>> read_strict_json(b'{"a": [1, 2]}')
        {'a': [1, 2]}
        >>> read_strict_json(b'{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ...
        ValueError: the key 'a' occurs twice
    """
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeError as exc:
        raise ValueError(f"not valid Unicode: {exc}") from exc
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        key.encode("utf-8")  # "\ud800" is legal JSON but no character: it could be neither printed nor written back
        if key in values:
            raise ValueError(f"the key {key!r} occurs twice")
        values[key] = value
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
