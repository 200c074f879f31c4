"""SHA-256 of weight files: the identity of an ingredient, and a cheap stand-in from headers alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from stockpot.checkpoints.opening import open_checkpoint, weight_files
from stockpot.errors import CheckpointError
from stockpot.types import Checkpoint

__all__ = ["digest_of", "header_digest", "modified_ns", "size_of"]

Source = str | Path | Sequence[Path]


def digest_of(source: Source, *, memory: MutableMapping[str, str] | None = None) -> str:
    """The digest of a checkpoint's weight files, as hexadecimal text.

    One file: its SHA-256, as `sha256sum` prints it. Several: the SHA-256 over the lines "name NUL digest NEWLINE" of
    the files sorted by name. Configuration and index do not count: they change no tensor.

    Args:
        source: a checkpoint's path, or its weight files.
        memory: digests taken before, by path, size and modification time; is added to. None trusts nothing.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: a file is missing or cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> _ = path.write_bytes(b"abc")
        >>> digest_of(path)[:16]
        'ba7816bf8f01cfea'
    """
    files = _files(source)
    digests = sorted((file.name, _file_digest(file, memory)) for file in files)
    if len(files) == 1:
        return digests[0][1]
    lines = "".join(f"{name}\0{digest}\n" for name, digest in digests)
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def header_digest(source: str | Path | Checkpoint) -> str:
    """SHA-256 over names, dtypes, shapes and ties in file order: tells architectures apart, not values.

    Args:
        source: a path, or an opened checkpoint, which stays open.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: the source cannot be opened.
    """
    if isinstance(source, str | Path):
        with open_checkpoint(source) as checkpoint:
            return header_digest(checkpoint)
    specs = [[name, spec.dtype, list(spec.shape)] for name, spec in source.specs.items()]
    listing = json.dumps([specs, sorted(source.tied.items())], separators=(",", ":"))
    return hashlib.sha256(listing.encode("utf-8")).hexdigest()


def size_of(source: Source) -> int:
    """Bytes of a checkpoint's weight files together.

    Raises:
        CheckpointError: a file is missing.
    """
    return sum(stat.st_size for stat in _stats(source))


def modified_ns(source: Source) -> int:
    """When the newest of a checkpoint's weight files was modified, in nanoseconds since 1970.

    Raises:
        CheckpointError: a file is missing.
    """
    return max(stat.st_mtime_ns for stat in _stats(source))


def _stats(source: Source) -> list[os.stat_result]:
    try:
        return [file.stat() for file in _files(source)]
    except OSError as exc:
        raise CheckpointError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc


def _files(source: Source) -> tuple[Path, ...]:
    return weight_files(source) if isinstance(source, str | Path) else tuple(source)


def _file_digest(path: Path, memory: MutableMapping[str, str] | None) -> str:
    try:
        remembered = _memory_key(path)
        if memory is not None and remembered in memory:
            return memory[remembered]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = _memory_key(path)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc.strerror or exc}", fix="check its permissions") from exc
    if after != remembered:
        raise CheckpointError(f"{path}: was written to while it was being read", fix="wait until nothing writes to it")
    if memory is not None:
        memory[remembered] = digest
    return digest


def _memory_key(path: Path) -> str:
    stat = path.stat()
    return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
