"""Settings of models that users list beside their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stockpot.analysis.score_checks import NAME_COLUMN
from stockpot.analysis.score_files import read_score_file
from stockpot.errors import DataError

__all__ = ["read_settings"]


def read_settings(path: Path) -> dict[str, dict[str, Any]]:
    """Reads model_name -> settings from JSON lines, CSV or TSV; text that is a number becomes one.

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
    return found


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
