"""The opened checkpoint that every format becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from stockpot.checkpoints.descriptors import DescriptorPool
from stockpot.checkpoints.header import FileHeader
from stockpot.errors import CheckpointError
from stockpot.types import FileRange, TensorSpec

__all__ = ["OpenedCheckpoint", "SafetensorsReader", "TensorReader"]


class TensorReader(Protocol):
    """Where the bytes of a format come from."""

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        """Fills `buffer` with the bytes of the stored tensor `name` from byte `start` on."""

    def file_range(self, name: str) -> FileRange | None:
        """Where the stored tensor `name` lies in a file, byte for byte; None where it has no such place."""

    def close(self) -> None:
        """Releases files and maps."""


class SafetensorsReader:
    """Reads tensors where the headers say they lie, straight into the caller's buffer; nothing is mapped.

    Args:
        headers: of one file or of all shards.
    """

    def __init__(self, headers: tuple[FileHeader, ...]) -> None:
        # Found once: the rest of a read costs less than putting this together does.
        self._place_by_name = {
            name: (header.path, header.identity, stored.offset)
            for header in headers
            for name, stored in header.tensors.items()
        }
        self._files = DescriptorPool()

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        """Fills `buffer` with the bytes of tensor `name` from byte `start` on."""
        path, identity, offset = self._place_by_name[name]
        self._files.read_into(path, identity, buffer, offset + start)

    def file_range(self, name: str) -> FileRange | None:
        """Where tensor `name` lies."""
        return self._files.open_range(*self._place_by_name[name])

    def close(self) -> None:
        """Closes the files."""
        self._files.close()


@dataclass(eq=False, slots=True)
class OpenedCheckpoint:
    """An opened checkpoint (`stockpot.types.Checkpoint`): specs at once, bytes on demand; a context manager.

    Args:
        source: as the user gave it.
        specs: the stored tensors in file order, tied names left out.
        tied: name -> the stored name whose memory it shares.
        reader: where the bytes come from.
        notes: what the user should hear, one sentence each ("took the state dict 'model'").
        metadata: free text entries of safetensors files; empty for other formats.
        weight_files: every file that holds tensors, in reading order.
        folder: the source if it is a folder: where configuration and tokenizer are looked for.

    Example:
        >>> import tempfile, numpy, safetensors.numpy
        >>> path = tempfile.mkdtemp() + "/model.safetensors"
        >>> safetensors.numpy.save_file({"w": numpy.arange(3, dtype=numpy.uint8)}, path)
        >>> from stockpot.checkpoints import open_checkpoint
        >>> buffer = bytearray(2)
        >>> with open_checkpoint(path) as checkpoint:
        ...     checkpoint.read_into("w", memoryview(buffer), 1)
        >>> list(buffer)
        [1, 2]
    """

    source: str
    specs: Mapping[str, TensorSpec]
    tied: Mapping[str, str]
    reader: TensorReader
    notes: tuple[str, ...]
    metadata: Mapping[str, str]
    weight_files: tuple[Path, ...]
    folder: Path | None
    _is_closed: bool = field(default=False, init=False)
    _bytes_by_name: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Counts once what every read is checked against."""
        self._bytes_by_name = {name: spec.nbytes for name, spec in self.specs.items()}

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        """Fills all of `buffer` with the bytes [start, start + len(buffer)) of a tensor.

        Args:
            name: a stored or tied name.
            buffer: contiguous and writable.
            start: offset in bytes, at any alignment.

        Raises:
            CheckpointError: the checkpoint is closed, or its file changed or cannot be read.
            KeyError: no such tensor.
            ValueError: the range leaves the tensor.
        """
        self._check_open()
        stored = self.tied.get(name, name)
        n_bytes, wanted = self._bytes_by_name[stored], buffer.nbytes
        if not 0 <= start <= start + wanted <= n_bytes:
            raise ValueError(f"bytes [{start}, {start + wanted}) of {name!r}, which has {n_bytes}")
        if wanted:
            self.reader.read_into(stored, buffer if buffer.format == "B" else buffer.cast("B"), start)

    def file_range(self, name: str) -> FileRange | None:
        """Where a tensor's bytes lie in an open file; None where they can only be read.

        Args:
            name: a stored or tied name.

        Raises:
            CheckpointError: the checkpoint is closed, or its file changed or cannot be opened.
            KeyError: no such tensor.
        """
        self._check_open()
        return self.reader.file_range(self.tied.get(name, name))

    def _check_open(self) -> None:
        if self._is_closed:
            raise CheckpointError(f"{self.source}: is closed", fix="read inside its `with` block")

    def close(self) -> None:
        """Releases files and maps; closing twice is allowed."""
        self._is_closed = True
        self.reader.close()

    def __enter__(self) -> OpenedCheckpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
