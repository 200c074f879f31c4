"""Memory that becomes a file above a stated budget."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stockpot.errors import OutputError
from stockpot.kernel.codec import Bytes

__all__ = ["Scratch"]


class Scratch:
    """Gives byte arrays: in memory up to a budget, in memory-mapped files of a temporary folder above it.

    Args:
        budget_bytes: largest sum of one `allocate` that is kept in memory.
        folder: where the temporary folder is made; the system's place by default.

    Example:
        >>> scratch = Scratch(budget_bytes=10)
        >>> [len(array) for array in scratch.allocate([4, 4])]
        [4, 4]
        >>> scratch.close()
    """

    def __init__(self, budget_bytes: int, folder: str | Path | None = None) -> None:
        self._budget_bytes = budget_bytes
        self._folder = folder
        self._owned: tempfile.TemporaryDirectory[str] | None = None

    def allocate(self, sizes: Sequence[int]) -> list[Bytes]:
        """Arrays of these sizes in bytes, content undefined; files of an earlier call are removed.

        Raises:
            OutputError: the scratch folder cannot be written or has no room.
        """
        self.close()
        if sum(sizes) <= self._budget_bytes:
            return [np.empty(size, np.uint8) for size in sizes]
        try:
            self._owned = tempfile.TemporaryDirectory(prefix="stockpot-", dir=self._folder)
            return [_mapped(Path(self._owned.name, str(number)), size) for number, size in enumerate(sizes)]
        except OSError as exc:
            self.close()
            raise OutputError(
                f"no scratch file of {sum(sizes) / 2**30:.1f} GiB in {self._folder or tempfile.gettempdir()}: {exc}",
                fix="free some space, name another scratch folder, or raise the memory budget",
            ) from exc

    def close(self) -> None:
        """Removes the files; arrays that are still mapped keep their content until they are dropped."""
        if self._owned is not None:
            self._owned.cleanup()
            self._owned = None


def _mapped(path: Path, size: int) -> Bytes:
    if not size:  # nothing to map
        return np.empty(0, np.uint8)
    with path.open("wb+") as file:
        # A mapped page that finds the disk full kills the process; reserving first turns that into an OSError.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, np.uint8, mode="r+", shape=(size,))
