"""The folder of one experiment: claimed by one process, continued after a kill, replaced only by something whole.

With ``fresh`` the work is done in a staging folder beside the target. Four names play a part::

    target          what the user named
    .target.fresh   staging: the new one, being made; whole as soon as it holds `.complete`, its last file
    .target.old     the old one, while the new one takes its place
    .complete       inside staging, and inside the target until the old one is gone

What a kill can leave behind, and what the next claim makes of it (`_recover`)::

    target  staging             old   then
    yes     unfinished          no    nothing: --fresh of the same experiment continues there, of another discards it
    yes     complete            no    target becomes old, staging becomes target, old is deleted
    no      complete            yes   staging becomes target, old is deleted
    complete   no               yes   old is deleted (it may be half deleted already)
    complete   no               no    `.complete` is removed
    no      no or unfinished    yes   old becomes target (somebody deleted the new one by hand)

All folders that exist are locked while this is decided, and a lock moves with its folder, so a second process is
turned away at every moment, also between two renames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.errors import OutputError
from stockpot.outputs.locks import LOCK_NAME, FolderLock
from stockpot.outputs.partial import remove, resolved_output, sweep_stale, translated_os_errors
from stockpot.outputs.whole import EXPERIMENT_NAME, write_json_atomically

__all__ = ["ExperimentFolder"]

_COMPLETE_NAME = ".complete"
_LONGEST_VALUE = 80  # characters of one side of a difference
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class ExperimentFolder:
    """A claimed output folder.

    Args:
        folder: where to work: the target itself, or its staging folder.
        target: where the result will stand.
        is_new: nothing was there to continue.
    """

    folder: Path
    target: Path
    is_new: bool

    @classmethod
    @contextmanager
    def claim(
        cls, folder: str | Path, identity: Mapping[str, Any], *, fresh: bool = False
    ) -> Iterator[ExperimentFolder]:
        """Holds the output folder of one experiment until the block ends.

        Args:
            folder: the output folder; made if it is missing.
            identity: what makes the experiment this one and no other (JSON values, nested mappings allowed); kept in
                `experiment.json` and compared with it.
            fresh: start over; what is there stays until the block ends well.

        Yields:
            The claimed folder. With `fresh`, a staging folder where there is something to keep until then.

        Raises:
            OutputError: another process works there, another experiment is kept there (every changed key is listed), or
                something that is no experiment.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as home:
            ...     with ExperimentFolder.claim(Path(home, "out"), {"seed": 0}) as claimed:
            ...         claimed.is_new
            ...     with ExperimentFolder.claim(Path(home, "out"), {"seed": 0}) as claimed:
            ...         claimed.is_new
            True
            False
        """
        places = _Places(resolved_output(folder))
        wanted = json.loads(json.dumps(identity, allow_nan=False))
        with _Locks() as locks:
            with translated_os_errors(places.target):
                here = _enter(places, locks, wanted, fresh)
                is_new = not (here / EXPERIMENT_NAME).exists()
                if is_new:
                    write_json_atomically(here / EXPERIMENT_NAME, wanted)
            with translated_os_errors(places.target, only_about=here):
                yield cls(here, places.target, is_new)
            if here == places.staging:
                with translated_os_errors(places.target):
                    (here / _COMPLETE_NAME).touch()
                    _promote(places, locks)


@dataclass(frozen=True, slots=True)
class _Places:
    target: Path

    @property
    def staging(self) -> Path:
        return self.target.with_name(f".{self.target.name}.fresh")

    @property
    def old(self) -> Path:
        return self.target.with_name(f".{self.target.name}.old")


class _Locks:
    """The locks of one claim, found again by where their folders are now."""

    def __init__(self) -> None:
        self._held: list[FolderLock] = []

    def __enter__(self) -> _Locks:
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._held:
            lock.release()

    def take(self, folder: Path) -> None:
        if folder.is_dir() and not any(lock.is_at(folder) for lock in self._held):
            self._held.append(FolderLock(folder))

    def let_go(self, folder: Path) -> None:
        for lock in self._held:
            if lock.is_at(folder):
                lock.release()


def _enter(places: _Places, locks: _Locks, wanted: dict[str, Any], fresh: bool) -> Path:
    """Locks, recovers, checks; returns the folder to work in, the target or staging."""
    if places.target.exists() and not places.target.is_dir():
        raise OutputError(f"the output folder {places.target} is a file", fix="name another output folder with -o")
    _take_all(places, locks)
    promoted = _recover(places, locks)
    places.target.mkdir(parents=True, exist_ok=True)
    _take_all(places, locks)
    sweep_stale(places.target)
    found = _read_record(places.target)
    if found is None:
        _check_blank(places.target)
        return places.target
    # A --fresh that was killed while its result took the old one's place is finished now, not started a second time.
    if not fresh or (promoted and found == wanted):
        _check_same(places.target, found, wanted)
        return places.target
    _check_replaceable(places)
    _prepare_staging(places, locks, wanted)
    return places.staging


def _take_all(places: _Places, locks: _Locks) -> None:
    for folder in (places.staging, places.target, places.old):
        locks.take(folder)


def _recover(places: _Places, locks: _Locks) -> bool:
    """Finishes or undoes a replacement that was cut off (see the table above); returns whether one was finished."""
    if _is_complete(places.target):
        _finish(places, locks)
        return True
    if _is_complete(places.staging):
        _promote(places, locks)
        return True
    if places.old.is_dir() and _is_missing_or_blank(places.target):
        _remove_blank(places.target)
        places.old.rename(places.target)
    return False


def _promote(places: _Places, locks: _Locks) -> None:
    if _is_missing_or_blank(places.target):
        _remove_blank(places.target)
    else:
        places.target.rename(places.old)
    places.staging.rename(places.target)
    _finish(places, locks)


def _finish(places: _Places, locks: _Locks) -> None:
    locks.let_go(places.old)  # network file systems keep open files, and with them the folder
    remove(places.old)
    if not places.old.exists():
        (places.target / _COMPLETE_NAME).unlink()


def _prepare_staging(places: _Places, locks: _Locks, wanted: dict[str, Any]) -> None:
    if places.staging.exists() and _read_record(places.staging) != wanted:
        locks.let_go(places.staging)
        remove(places.staging)
    places.staging.mkdir(exist_ok=True)
    locks.take(places.staging)
    sweep_stale(places.staging)


def _is_complete(folder: Path) -> bool:
    return (folder / _COMPLETE_NAME).exists()


def _is_missing_or_blank(folder: Path) -> bool:
    return not folder.exists() or not _content(folder)


def _content(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_NAME)


def _remove_blank(folder: Path) -> None:
    if folder.exists():
        (folder / LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()


def _check_blank(folder: Path) -> None:
    content = _content(folder)
    if content:
        shown = ", ".join(content[:3]) + (", ..." if len(content) > 3 else "")
        raise OutputError(
            f"{folder} is not empty and holds no experiment of stockpot (it holds {shown})",
            fix="name another output folder with -o",
        )


def _check_replaceable(places: _Places) -> None:
    if places.target.is_mount():
        raise OutputError(
            f"{places.target} is a mount point, so --fresh cannot put a new folder in its place",
            fix=f"use a folder in it: -o {places.target}/out",
        )
    if places.old.exists():
        raise OutputError(f"{places.old} is in the way of --fresh", fix="look into it, then move or delete it")


def _check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    there, now = dict(_leaves(found)), dict(_leaves(wanted))
    keys = [*now, *(key for key in there if key not in now)]
    changed = [key for key in keys if there.get(key, _NOTHING) != now.get(key, _NOTHING)]
    if changed:
        raise OutputError(
            f"{folder} holds another experiment",
            problems=[f"{key}: {_shown(there, key)} there, {_shown(now, key)} now" for key in changed],
            fix="name another output folder with -o, or replace what is there with --fresh",
        )


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    if key not in leaves:
        return "absent"
    text = json.dumps(leaves[key], ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _read_record(folder: Path) -> dict[str, Any] | None:
    record = folder / EXPERIMENT_NAME
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise OutputError(f"{record} is damaged: {exc}", fix="name another output folder with -o") from exc
    if not isinstance(found, dict):
        raise OutputError(f"{record} is damaged: it holds no mapping", fix="name another output folder with -o")
    return found
