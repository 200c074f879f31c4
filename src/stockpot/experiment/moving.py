"""What was taken from the hub under a name that moves: notes that say which commit it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stockpot.config import ExperimentConfig, canonical
from stockpot.tasks.data_files import HUB_DATA, data_path

__all__ = ["moving_notes"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


def moving_notes(config: ExperimentConfig, pretrained: Path) -> tuple[str, ...]:
    """One note for each model or data set of an experiment that is named by a branch, or by no revision at all.

    Args:
        config: whose.
        pretrained: where the initialisation was found.

    Raises:
        DataError: data on the hub that cannot be found any more.
    """
    places = {config.initialisation: pretrained}
    for given in dict.fromkeys(_hub_data(canonical(config.task))):
        places[given] = data_path(given, config.task.folder)
    return tuple(
        f"{given} was commit {commit} on the hub; name it to have the same again."
        for given, path in places.items()
        if (commit := _commit(path)) is not None and commit not in given
    )


def _hub_data(settings: Any) -> Iterator[str]:
    if isinstance(settings, str) and settings.startswith(HUB_DATA):
        yield settings
    elif isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _hub_data(value)


def _commit(path: Path) -> str | None:
    """The hub's cache keeps what it downloads in snapshots/COMMIT."""
    pairs = zip(path.parts, path.parts[1:], strict=False)
    return next((commit for above, commit in pairs if above == "snapshots" and _COMMIT.fullmatch(commit)), None)
