"""Settings of models that users list beside their scores."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.analysis.score_checks import NAME_COLUMN
from stockpot.analysis.score_files import nearest, read_score_file
from stockpot.errors import DataError

__all__ = ["read_settings", "settings_notes"]

#: How files of texts spell that there is no value.
_MISSING = frozenset({"", "-", "na", "n/a", "nan", "null", "none"})
_MOST_NAMES = 5


def read_settings(path: Path) -> dict[str, dict[str, Any]]:
    """Reads model_name -> settings from JSON lines, CSV or TSV; text that is a number becomes one.

    An empty cell is no value (None); so is `-`, `NA`, `nan`, `null` or `none` among numbers.

    Raises:
        DataError: the file cannot be read, a row has no name, or a name comes twice; all of it is listed.
    """
    file = read_score_file(path)
    problems = [problem.text for problem in file.problems]
    found: dict[str, dict[str, Any]] = {}
    for row in file.rows:
        name = row.values.get(NAME_COLUMN)
        if not name or str(name) in found:
            problems.append(f"{file.label}, line {row.line}: {f'{name!r} again' if name else f'no {NAME_COLUMN}'}")
            continue
        found[str(name)] = {key: _number(value) for key, value in row.values.items() if key != NAME_COLUMN}
    if problems:
        raise DataError("the settings cannot be read", problems=problems, fix=f"give every {NAME_COLUMN} one row")
    blanks = {key: _blanks(one[key] for one in found.values() if key in one) for key in file.columns}
    return {
        name: {key: None if _is_blank(value, blanks[key]) else value for key, value in chosen.items()}
        for name, chosen in found.items()
    }


def settings_notes(
    settings: Mapping[str, Mapping[str, Any]], scored: Collection[str], others: Collection[str] = ()
) -> list[str]:
    """Which names of settings and of scores have no counterpart, and which settings have no value for some.

    Args:
        settings: as read.
        scored: names of the models that compete.
        others: names of soups and ensembles, whose settings are looked for by nobody.

    Example:
        >>> settings_notes({"a": {"lr": 0.1}, "rn-2": {"lr": None}}, ["a", "run-2"])
        ["settings of 'rn-2' (did you mean 'run-2'?) have no scores", "no settings for 'run-2'"]
    """
    strange = [name for name in settings if name not in scored and name not in others]
    bare = [name for name in scored if name not in settings]
    near = nearest(strange[0], bare) if len(strange) == 1 else ""
    notes = [f"settings of {_listed(strange)}{near} have no scores"] if strange else []
    notes += [f"no settings for {_listed(bare)}"] if bare else []
    names = dict.fromkeys(key for chosen in settings.values() for key in chosen)
    for key in names:
        empty = [name for name, chosen in settings.items() if name in scored and chosen.get(key) is None]
        notes += [f"{key} has no value for {_listed(empty)}"] if empty else []
    return notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(repr(name) for name in names[:_MOST_NAMES]) + more


def _blanks(values: Iterable[Any]) -> frozenset[str]:
    """The texts that are no value: all spellings among numbers, else the empty one alone."""
    texts = {value.casefold() for value in values if isinstance(value, str)}
    return _MISSING if texts <= _MISSING else frozenset({""})


def _is_blank(value: Any, blanks: frozenset[str]) -> bool:
    return (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, str) and value.casefold() in blanks
    )


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
