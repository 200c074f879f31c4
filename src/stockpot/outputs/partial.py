"""Temporary siblings: how they are named, when they are rubbish, and what the disk's errors mean to the user."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

from stockpot.errors import OutputError

__all__ = [
    "Role",
    "is_rubbish",
    "process_is_alive",
    "remove",
    "resolved_output",
    "sibling",
    "sweep_stale",
    "translated_os_errors",
]

#: partial: not whole yet. replaced: the old one, until the new one stands in its place.
Role = Literal["partial", "replaced"]

_NAME = re.compile(r"\.(?P<name>.+)\.(?P<role>partial|replaced)-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}")
_DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FILE_IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR})


@contextmanager
def translated_os_errors(path: Path, *, only_about: Path | None = None) -> Iterator[None]:
    """Turns what the operating system says about writing `path` into an `OutputError`.

    Args:
        path: what is being written, as the user knows it.
        only_about: translate only a full disk and errors about files within this folder; others (a source that cannot
            be read, say) pass through.

    Raises:
        OutputError: no space left, no permission, a file where a folder should be, and so on.

    Example:
        >>> with translated_os_errors(Path("out")):
        ...     raise OSError(errno.EACCES, "Permission denied", "out/model.safetensors")
        Traceback (most recent call last):
        ...
        stockpot.errors.OutputError: cannot write out: Permission denied (out/model.safetensors)
        fix: name another output folder
    """
    try:
        yield
    except Exception as exc:
        if not isinstance(exc, OSError):
            if "No space left on device" not in str(exc):  # how safetensors' and torch's own errors say it
                raise
            raise _output_error(OSError(errno.ENOSPC, "No space left on device"), path) from exc
        if only_about is not None and not _is_about(exc, only_about):
            raise
        raise _output_error(exc, path) from exc


def resolved_output(path: str | Path) -> Path:
    """The absolute path of an output folder.

    Raises:
        OutputError: an empty name, the root of a file system, or a link that leads to itself.

    Example:
        >>> resolved_output("out/soup").is_absolute()
        True
    """
    if not str(path).strip():
        raise OutputError("the output folder is an empty name", fix="check the variable that it came from")
    try:
        target = Path(path).resolve()
    except (OSError, RuntimeError) as exc:  # Python 3.11 raises RuntimeError for a loop of links
        raise OutputError(f"{path} leads nowhere: {exc}", fix="name another output folder with -o") from exc
    if not target.name:
        raise OutputError(f"{target} is the root of a file system", fix="name a folder in it with -o")
    return target


def sibling(path: Path, role: Role) -> Path:
    """A new temporary name beside `path` that tells the host and the process it belongs to.

    Example:
        >>> sibling(Path("out/soup"), "partial").name.startswith(".soup.partial-")
        True
    """
    return path.with_name(f".{path.name}.{role}-{_host()}-{os.getpid()}-{os.urandom(4).hex()}")


def is_rubbish(entry: Path, *, role: Role, name: str | None = None) -> bool:
    """Whether `entry` is a temporary sibling left behind by a process of this host that is dead.

    Args:
        entry: any file or folder.
        role: what kind of leftover is asked for.
        name: the name of the output it belongs to; None for any.
    """
    match = _NAME.fullmatch(entry.name)
    if match is None or match["role"] != role or name not in (None, match["name"]):
        return False
    return match["host"] == _host() and not process_is_alive(int(match["pid"]))


def sweep_stale(folder: Path, *, name: str | None = None) -> None:
    """Removes partial files and folders directly inside `folder` whose process is dead; anything else stays.

    Args:
        folder: where to look; may be missing.
        name: only leftovers of the output of this name; None for all.
    """
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if is_rubbish(entry, role="partial", name=name):
            remove(entry)


def remove(path: Path) -> None:
    """Deletes a file or a folder as far as possible; a missing one is fine."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def process_is_alive(pid: int) -> bool:
    """Whether a process of this number exists on this host (when in doubt, yes).

    Example:
        >>> process_is_alive(os.getpid())
        True
    """
    if sys.platform == "win32":  # there os.kill(pid, 0) is no question but a Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@cache
def _host() -> str:
    # On a shared file system the process numbers of other hosts mean nothing here: what they left is not ours to judge.
    return hashlib.sha256(_host_name().encode()).hexdigest()[:8]


def _host_name() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform

    return platform.node()


def _is_about(exc: OSError, folder: Path) -> bool:
    if exc.errno in _DISK_IS_FULL:
        return True
    names = [os.fsdecode(name) for name in (exc.filename, exc.filename2) if isinstance(name, str | bytes)]
    return any(Path(name).is_relative_to(folder) for name in names)


def _output_error(exc: OSError, path: Path) -> OutputError:
    if exc.errno in _DISK_IS_FULL:
        reason = "the disk is full" if exc.errno == errno.ENOSPC else "the disk quota is used up"
        return OutputError(
            f"cannot write {path}: {reason} ({_free_bytes(path)} free)",
            fix="free some space or name an output folder on another disk; what was finished before is kept",
        )
    if exc.errno in _FILE_IN_THE_WAY and (obstacle := _file_on_the_way(path)) is not None:
        return OutputError(f"cannot write {path}: {obstacle} is a file, not a folder", fix="name another output folder")
    where = f" ({exc.filename})" if exc.filename not in (None, str(path)) else ""
    return OutputError(f"cannot write {path}: {exc.strerror or exc}{where}", fix="name another output folder")


def _file_on_the_way(path: Path) -> Path | None:
    return next((parent for parent in path.absolute().parents if parent.is_file()), None)


def _free_bytes(path: Path) -> str:
    import shutil

    existing = next((parent for parent in (path, *path.absolute().parents) if parent.exists()), Path("/"))
    try:
        return f"{shutil.disk_usage(existing).free:,} bytes"
    except OSError:
        return "unknown"
