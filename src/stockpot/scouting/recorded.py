"""The task that an output of stockpot was made with: its record says it whole, but for where the data are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.outputs.whole import EXPERIMENT_NAME

__all__ = ["recorded_task", "search", "with_files"]

#: Settings of `data` that name a file or a folder. (`labels` is one where it is a text.)
_PLACES = frozenset({"file", "path", "list", "mappings", "labels"})


def recorded_task(folder: Path) -> dict[str, Any] | None:
    """The task in the record of an experiment, sweep, soup or comparison; None where there is none to be read.

    What says nothing (null) is left out.

    Args:
        folder: an output folder.

    Example:
        >>> recorded_task(Path("no/such/folder")) is None
        True
    """
    try:
        record = json.loads((folder / EXPERIMENT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = record if isinstance(record, dict) else {}
    inside = whole.get("experiment")
    task = (inside if isinstance(inside, dict) else whole).get("task")
    if not isinstance(task, dict) or not isinstance(task.get("family"), str) or not isinstance(task.get("data"), dict):
        return None
    said: dict[str, Any] = _said(task)
    return said


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _said(item) for key, item in value.items() if item is not None and item != {}}
    return [_said(item) for item in value] if isinstance(value, list) else value


def with_files(task: Mapping[str, Any], found: Callable[[str], str | None], missing: str) -> tuple[Any, list[str]]:
    """The task with its data where they are now.

    Args:
        task: as recorded; its paths are relative to a folder that the record does not name.
        found: a recorded path -> the path to write; None where nothing is there.
        missing: what to write then.

    Returns:
        The task, and the recorded paths that were not found.

    Example:
        >>> with_files({"data": {"file": "a.tsv", "test": {"file": "b.tsv"}}}, {"a.tsv": "x/a.tsv"}.get, "?")
        ({'data': {'file': 'x/a.tsv', 'test': {'file': '?'}}}, ['b.tsv'])
    """
    lost: list[str] = []

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: there(item) if _is_place(key, item) else placed(item) for key, item in value.items()}

    def there(given: str) -> str:
        now = found(given)
        if now is None and given not in lost:
            lost.append(given)
        return missing if now is None else now

    return {**task, "data": placed(task["data"])}, lost


def _is_place(key: str, value: Any) -> bool:
    return key in _PLACES and isinstance(value, str) and not value.startswith("hf://")


def search(given: str, places: Sequence[Path]) -> Path | None:
    """The first of the places that holds a recorded path.

    Example:
        >>> search("no-such-file.tsv", [Path()]) is None
        True
    """
    return next((place / given for place in places if (place / given).exists()), None)
