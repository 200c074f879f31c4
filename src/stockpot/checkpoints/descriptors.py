"""Open files, few at a time: hundreds of checkpoints with dozens of shards must not exhaust the process's limit."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stockpot.checkpoints.header import FileIdentity
from stockpot.errors import CheckpointError

__all__ = ["DescriptorPool", "OpenRange"]

_COPIED_BYTES = 2**24


class _OpenFile:
    """A descriptor that closes with its last reference: a reader in another thread outlives its eviction."""

    __slots__ = ("descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1
        # O_BINARY keeps Windows from translating line ends; O_CLOEXEC is Python's default.
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` from byte `offset` on; a read may return fewer bytes than asked for."""
        while buffer.nbytes:
            count = _read_at(self.descriptor, buffer, offset)
            if count == 0:
                raise CheckpointError(
                    f"{self.path}: ended at byte {offset} while it was being read",
                    fix="wait until nothing writes to it, then start again",
                )
            buffer, offset = buffer[count:], offset + count


@dataclass(frozen=True, slots=True)
class OpenRange:
    """A place in an open file (`stockpot.types.FileRange`)."""

    file: _OpenFile
    offset: int

    def fileno(self) -> int:
        """The descriptor, open as long as this is held."""
        return self.file.descriptor


def _read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = os.pread(descriptor, min(buffer.nbytes, _COPIED_BYTES), offset)  # older macOS: one copy more
    buffer[: len(data)] = data
    return len(data)


class DescriptorPool:
    """Reads byte ranges of files, keeping the most recently used `limit` of them open.

    Args:
        limit: files kept open; one suffices for a walk in file order, and a thousand checkpoints then stay possible.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "file"
        >>> _ = path.write_bytes(b"abcdef")
        >>> pool, buffer = DescriptorPool(), bytearray(3)
        >>> pool.read_into(path, FileIdentity.of(path.stat()), memoryview(buffer), 2)
        >>> bytes(buffer)
        b'cde'
        >>> pool.close()
    """

    def __init__(self, limit: int = 1) -> None:
        self._limit = limit
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def read_into(self, path: Path, identity: FileIdentity, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` from byte `offset` of `path`.

        Args:
            path: the file.
            identity: of the file whose header was read; another file under the same name is refused.
            buffer: contiguous bytes, filled whole.
            offset: of the first byte, from the start of the file.

        Raises:
            CheckpointError: the file was replaced, ended early or cannot be read.
        """
        with _translated(path):
            self._get(path, identity).fill(buffer, offset)

    def open_range(self, path: Path, identity: FileIdentity, offset: int) -> OpenRange:
        """A place in `path`; as `read_into`, for a reader of one's own.

        Raises:
            CheckpointError: the file was replaced or cannot be opened.
        """
        with _translated(path):
            return OpenRange(self._get(path, identity), offset)

    def close(self) -> None:
        """Forgets all open files."""
        with self._lock:
            self._open.clear()

    def _get(self, path: Path, identity: FileIdentity) -> _OpenFile:
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = _OpenFile(path)
                _check_unchanged(file, identity)
                self._open[path] = file
            self._open.move_to_end(path)
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
            return file


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        fix = "raise the limit: ulimit -n 4096" if exc.errno == errno.EMFILE else "check the disk and try again"
        raise CheckpointError(f"{path}: cannot be read: {exc.strerror or exc}", fix=fix) from exc


def _check_unchanged(file: _OpenFile, identity: FileIdentity) -> None:
    if FileIdentity.of(os.fstat(file.descriptor)) != identity:
        raise CheckpointError(
            f"{file.path}: was replaced or written to after its header was read",
            fix="wait until nothing writes to it, then start again",
        )
