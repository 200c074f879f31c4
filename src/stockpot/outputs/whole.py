"""Files and folders that appear whole or not at all: made under a temporary name beside the target, renamed last.

A rename is atomic for every reader of the same file system and survives the death of the process; nothing here calls
fsync, so a power cut may cost what was written in its last seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stockpot.errors import OutputError
from stockpot.outputs.locks import LOCK_NAME, FolderLock
from stockpot.outputs.partial import is_rubbish, remove, resolved_output, sibling, sweep_stale, translated_os_errors

__all__ = [
    "EXPERIMENT_NAME",
    "adopt_files",
    "check_target",
    "made_folder",
    "whole_folder",
    "write_json_atomically",
    "write_text_atomically",
]

_ANOTHER = "name another output folder with -o"
#: Says that a folder is an earlier output.
_RESULT_NAME = "soup.json"
#: Says that a folder is an experiment's.
EXPERIMENT_NAME = "experiment.json"


def write_text_atomically(path: str | Path, text: str) -> None:
    """Writes a UTF-8 file that is there whole or not at all; an existing one is replaced in one step.

    Args:
        path: the file; missing parent folders are made.
        text: its content; line ends are written as given.

    Raises:
        OutputError: the disk is full, no permission.
    """
    path = Path(path)
    partial = sibling(path, "partial")
    with translated_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(text.encode("utf-8"))
            partial.replace(path)
        finally:
            remove(partial)


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Writes JSON for people and programs (two spaces, keys in their order, a newline last), whole or not at all.

    Args:
        path: the file; missing parent folders are made.
        value: anything JSON can hold; NaN and infinity are refused, for no other reader takes them.

    Raises:
        OutputError: the disk is full, no permission.
        ValueError: NaN or infinity in `value`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json_atomically(Path(folder, "a.json"), {"b": 1})
        ...     Path(folder, "a.json").read_text()
        '{\\n  "b": 1\\n}\\n'
    """
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def whole_folder(target: str | Path, *, force: bool = False, inputs: Sequence[str | Path] = ()) -> Iterator[Path]:
    """Yields a temporary folder beside `target` that takes its place when the block ends well.

    When the block raises (Ctrl-C included) the temporary folder is removed and `target` is as it was. After ``kill -9``
    the next call for the same target clears up, and puts back an old folder that was being replaced.

    Args:
        target: the folder to make; missing parents are made.
        force: replace what is in `target`. The old one is moved aside, and deleted once the new one stands.
        inputs: paths that are being read; a target that holds one of them is refused, for replacing would delete it.

    Yields:
        The folder to write into.

    Raises:
        OutputError: `target` is a file, is not empty and `force` is off, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with whole_folder(Path(home, "soup")) as folder:
        ...         _ = (folder / "a.txt").write_text("whole")
        ...     sorted(path.name for path in Path(home).iterdir())
        ['soup']
    """
    target = resolved_output(target)
    partial = sibling(target, "partial")
    with translated_os_errors(target):
        _clear_up(target)
        _check(target, force, [Path(path).resolve() for path in inputs])
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with translated_os_errors(target, only_about=partial):
            partial.mkdir()
            yield partial
        with translated_os_errors(target):
            _put_in_place(partial, target, force)
    finally:
        remove(partial)


def check_target(target: str | Path, *, force: bool = False, inputs: Sequence[str | Path] = ()) -> None:
    """Refuses a folder that `whole_folder` would refuse: asked before a long work, so that it is not done in vain.

    Args:
        target, force, inputs: as for `whole_folder`.

    Raises:
        OutputError: `target` is a file, is not empty and `force` is off, or holds an input.
    """
    target = resolved_output(target)
    with translated_os_errors(target):
        _check(target, force, [Path(path).resolve() for path in inputs])


def _clear_up(target: Path) -> None:
    """Undoes what a killed process left: partial folders go, an old folder that has no successor comes back."""
    sweep_stale(target.parent, name=target.name)
    entries = sorted(target.parent.iterdir()) if target.parent.is_dir() else []
    for entry in entries:
        if is_rubbish(entry, role="replaced", name=target.name):
            if target.exists():
                remove(entry)
            else:
                entry.rename(target)


def _check(target: Path, force: bool, inputs: Sequence[Path]) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"the output folder {target} is a file", fix=_ANOTHER)
    if target.is_mount():
        raise OutputError(f"{target} is a mount point and cannot be replaced", fix=f"use a folder in it: {target}/soup")
    content = sorted(path.name for path in target.iterdir())
    if content and not force:
        shown = ", ".join(content[:3]) + (", ..." if len(content) > 3 else "")
        replaceable = _not_ours(target) is None
        raise OutputError(
            f"the output folder {target} is not empty (it holds {shown})",
            fix=f"--force replaces it, or {_ANOTHER}" if replaceable else _ANOTHER,
        )
    if content:
        _check_expendable(target, inputs)


def _check_expendable(target: Path, inputs: Sequence[Path]) -> None:
    """--force is for replacing an earlier output, not for losing a home folder or the ingredients themselves."""
    needed = [path for path in inputs if path.is_relative_to(target)]
    if needed:
        problems = [f"needed: {path}" for path in needed]
        raise OutputError(f"replacing {target} would delete what is being read", problems=problems, fix=_ANOTHER)
    if any(place.is_relative_to(target) for place in (Path.cwd(), Path.home())):
        raise OutputError(f"{target} holds your home or working folder and is not replaced", fix=_ANOTHER)
    if (reason := _not_ours(target)) is not None:
        raise OutputError(reason, fix=f"{_ANOTHER}, or delete the folder yourself")


def _not_ours(target: Path) -> str | None:
    """Why a folder is no earlier output of a command that replaces its outputs; None if it is one.

    Raises:
        OutputError: another process works there.
    """
    if (target / LOCK_NAME).exists():
        FolderLock(target).release()
    if (target / EXPERIMENT_NAME).exists():
        return f"{target} holds an experiment, whose journal and models --force does not delete"
    if not (target / _RESULT_NAME).exists():
        return f"{target} holds no {_RESULT_NAME}: --force replaces what stockpot has written, nothing else"
    return None


def _put_in_place(partial: Path, target: Path, force: bool) -> None:
    if not (force and target.exists()):
        partial.rename(target)  # takes the place of an empty folder; refuses one that was filled in the meantime
        return
    replaced = sibling(target, "replaced")
    target.rename(replaced)
    try:
        partial.rename(target)
    finally:
        if not target.exists():
            replaced.rename(target)
    remove(replaced)


def adopt_files(source: Path, target: Path, *, last: str) -> None:
    """Moves a finished folder's entries into another folder, `last` at the very end: its presence means all are there.

    Args:
        source: a whole folder on the same file system.
        target: exists; entries of the same name are replaced.
        last: name of the entry that vouches for the others.

    Raises:
        OutputError: the target cannot be written.
    """
    entries = sorted(source.iterdir(), key=lambda entry: (entry.name == last, entry.name))
    with translated_os_errors(target):
        for entry in entries:
            place = target / entry.name
            if place.is_dir():
                remove(place)
            entry.replace(place)


def made_folder(path: str | Path) -> Path:
    """An existing folder, made where it is missing.

    Raises:
        OutputError: it cannot be made.
    """
    folder = Path(path)
    with translated_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
