"""One process at a time in a folder: the operating system's lock, which vanishes with the process, however it ends."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from stockpot.errors import OutputError
from stockpot.outputs.partial import process_is_alive

__all__ = ["LOCK_NAME", "FolderLock"]

LOCK_NAME = ".lock"

#: What file systems without locks answer (some cluster and FUSE mounts).
_NO_LOCKS_HERE = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
_ATTEMPTS = 20


class FolderLock:
    """Holds `<folder>/.lock` until released; the file stays behind, empty.

    The lock belongs to the open file, not to its name: the folder may be renamed while it is held. Child processes do
    not inherit it. Where the file system knows no locks, the process number in the file stands in for one.

    Args:
        folder: an existing folder.

    Raises:
        OutputError: another process holds it; names the process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lock = FolderLock(Path(folder))
        ...     lock.is_at(Path(folder))
        ...     lock.release()
        True
    """

    def __init__(self, folder: Path) -> None:
        for _ in range(_ATTEMPTS):
            self._descriptor: int | None = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(self._descriptor, folder)
                # Between opening and locking another process may have put another folder in this one's place.
                if self.is_at(folder):
                    _rewrite(self._descriptor, f"{os.getpid()} {' '.join(sys.argv)}\n")
                    return
            except BaseException:
                os.close(self._descriptor)
                raise
            os.close(self._descriptor)
        raise OutputError(f"{folder} is being replaced by another process", fix="wait for it, then start again")

    def is_at(self, folder: Path) -> bool:
        """Whether the lock held is the one of `folder`, wherever that was when the lock was taken."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), (folder / LOCK_NAME).stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Lets the next process in. Releasing twice is fine."""
        if self._descriptor is not None:
            _rewrite(self._descriptor, "")
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int, folder: Path) -> None:
    try:
        _lock_or_raise(descriptor)
        taken = False
    except (BlockingIOError, PermissionError):
        taken = True
    except OSError as exc:
        if exc.errno not in _NO_LOCKS_HERE:
            raise
        taken = _holder_is_alive(descriptor)
    if taken:
        pid, _, command = _read(descriptor).partition(" ")
        holder = f"process {pid} ({command})" if pid else "another process"
        raise OutputError(
            f"{folder} is in use by {holder}",
            fix="wait until it is done, end it, or name another output folder with -o",
        )


def _holder_is_alive(descriptor: int) -> bool:
    pid = _read(descriptor).partition(" ")[0]
    return pid.isdecimal() and process_is_alive(int(pid))


def _read(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 4096).decode(errors="replace").strip()


def _rewrite(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text.encode(errors="replace")[:4096])


if sys.platform == "win32":
    import msvcrt

    def _lock_or_raise(descriptor: int) -> None:
        # A byte far behind the text, so that others can still read who holds the lock.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_or_raise(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
