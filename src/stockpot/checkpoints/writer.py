"""Streams blended tensors into safetensors files: planned whole before the first byte, visible only when whole."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from stockpot.errors import ConfigError, OutputError
from stockpot.types import TensorSpec

__all__ = ["DEFAULT_MAX_SHARD_BYTES", "TensorChunk", "parse_size", "write_checkpoint"]

#: As large as most hubs and file systems take without complaint; also the default of transformers.
DEFAULT_MAX_SHARD_BYTES = 5 * 10**9
_ALIGNMENT = 8
_NO_SPACE = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(?:([kmgt])(i?))?b)?", re.IGNORECASE)


class TensorChunk(Protocol):
    """A piece of a tensor on its way out; `stockpot.kernel.Chunk` is one."""

    @property
    def name(self) -> str:
        """The tensor."""

    @property
    def spec(self) -> TensorSpec:
        """Its spec in the output."""

    @property
    def start(self) -> int:
        """Offset of the first byte inside the tensor."""

    @property
    def data(self) -> memoryview:
        """The little-endian bytes."""


@dataclass(frozen=True, slots=True)
class _Shard:
    file_name: str
    header: bytes
    names: tuple[str, ...]


def parse_size(text: str | int) -> int:
    """Bytes from a size such as "5GB" (10^9) or "5GiB" (2^30); a plain number is bytes.

    Args:
        text: a positive number, with or without one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB.

    Returns:
        Bytes, at least 1.

    Raises:
        ConfigError: not such a size.

    Example:
        >>> parse_size("5GB"), parse_size("1.5 KiB"), parse_size(42)
        (5000000000, 1536, 42)
    """
    match = _SIZE.fullmatch(str(text).strip())
    n_bytes = 0
    if match:
        number, letter, binary = match.groups(default="")
        n_bytes = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(letter.lower() or " "))
        n_bytes = int(number) if number.isdigit() and not letter else n_bytes  # exact beyond 2^53
    if n_bytes < 1:
        raise ConfigError(f"{text!r} is not a size", fix="give bytes, or a number with KB, MB, GB, KiB, MiB or GiB")
    return n_bytes


def write_checkpoint(
    chunks: Iterable[TensorChunk],
    folder: Path,
    *,
    specs: Mapping[str, TensorSpec],
    tied: Mapping[str, str] | None = None,
    max_shard_bytes: int = DEFAULT_MAX_SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
    shown_as: Path | None = None,
) -> tuple[str, ...]:
    """Writes a checkpoint as one safetensors file, or as shards with an index, holding one chunk at a time.

    Every file gets its final name only when it is whole; if anything fails, no unfinished file stays.

    Args:
        chunks: of all tensors, tensor by tensor in the order of `specs`, ascending without gaps inside each; a
            zero-size tensor comes as one empty chunk.
        folder: exists; the caller renames it when all is done.
        specs: the tensors to write, in file order.
        tied: alias -> stored name; recorded in the metadata of the shard that holds the stored tensor.
        max_shard_bytes: tensor bytes per file, at least 1; a larger tensor gets a file of its own.
        metadata: text entries of every file, beside {"format": "pt"}, which transformers asks for.
        shown_as: the folder's name in errors, where `folder` is a temporary one.

    Returns:
        Names of the files written, the index last.

    Raises:
        OutputError: the disk is full or refuses, or an alias collides with a metadata entry.
        ConfigError: max_shard_bytes is not positive.

    Example:
        >>> import tempfile
        >>> from types import SimpleNamespace
        >>> spec = TensorSpec("U8", (2,))
        >>> chunk = SimpleNamespace(name="w", spec=spec, start=0, data=memoryview(b"ab"))
        >>> write_checkpoint([chunk], Path(tempfile.mkdtemp()), specs={"w": spec})
        ('model.safetensors',)
    """
    texts = {"format": "pt", **(metadata or {})}
    shards = _plan(specs, tied or {}, texts, max_shard_bytes)
    needed = sum(len(shard.header) for shard in shards) + sum(spec.nbytes for spec in specs.values())
    shown_as = shown_as or folder
    with _translated(folder, needed, shown_as):
        _refuse_small_disk(folder, needed, shown_as)
        stream = iter(chunks)
        for shard in shards:
            _write_shard(stream, folder, shard, specs)
        if next(stream, None) is not None:
            raise AssertionError("more chunks than the specs describe")
        return tuple(shard.file_name for shard in shards) + _write_index(folder, shards, specs)


def _plan(
    specs: Mapping[str, TensorSpec], tied: Mapping[str, str], texts: Mapping[str, str], max_shard_bytes: int
) -> list[_Shard]:
    if max_shard_bytes < 1:
        raise ConfigError(f"the maximal shard size is {max_shard_bytes} bytes", fix="give at least 1 byte, say 5GB")
    colliding = sorted(set(tied) & (set(texts) | set(specs)))
    if colliding:
        raise OutputError(f"tied names {colliding} are taken already", fix="rename these tensors or metadata entries")
    groups = _split(specs, max_shard_bytes)
    return [
        _Shard(_file_name(number, len(groups)), _header(names, specs, texts, tied), names)
        for number, names in enumerate(groups, start=1)
    ]


def _split(specs: Mapping[str, TensorSpec], max_shard_bytes: int) -> list[tuple[str, ...]]:
    """Names in order, cut where the next tensor would not fit any more."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, spec in specs.items():
        if groups[-1] and filled + spec.nbytes > max_shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += spec.nbytes
    return [tuple(group) for group in groups]


def _file_name(number: int, total: int) -> str:
    return "model.safetensors" if total == 1 else f"model-{number:05d}-of-{total:05d}.safetensors"


def _header(
    names: Sequence[str], specs: Mapping[str, TensorSpec], texts: Mapping[str, str], tied: Mapping[str, str]
) -> bytes:
    """Length and JSON of one file; spaces pad it so that the tensors start at a multiple of 8, as the format does."""
    ties_here = {alias: stored for alias, stored in tied.items() if stored in names}
    entries: dict[str, object] = {"__metadata__": dict(sorted({**texts, **ties_here}.items()))}
    begin = 0
    for name in names:
        spec, end = specs[name], begin + specs[name].nbytes
        entries[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [begin, end]}
        begin = end
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % _ALIGNMENT)
    return len(raw).to_bytes(8, "little") + raw


def _write_shard(stream: Iterator[TensorChunk], folder: Path, shard: _Shard, specs: Mapping[str, TensorSpec]) -> None:
    with _appearing_whole(folder / shard.file_name) as file:
        file.write(shard.header)
        for name in shard.names:
            _write_tensor(stream, file, name, specs[name])


def _write_tensor(stream: Iterator[TensorChunk], file: BinaryIO, name: str, spec: TensorSpec) -> None:
    written = 0
    while True:
        chunk = next(stream, None)
        if chunk is None or (chunk.name, chunk.spec, chunk.start) != (name, spec, written):
            found = "the end" if chunk is None else f"{chunk.name!r} ({chunk.spec}) at byte {chunk.start}"
            raise AssertionError(f"expected a chunk of {name!r} ({spec}) at byte {written}, got {found}")
        written += chunk.data.nbytes
        if written > spec.nbytes:
            raise AssertionError(f"{written} bytes for {name!r}, which has {spec.nbytes}")
        file.write(chunk.data)
        if written == spec.nbytes:
            return


def _write_index(folder: Path, shards: Sequence[_Shard], specs: Mapping[str, TensorSpec]) -> tuple[str, ...]:
    if len(shards) == 1:
        return ()
    index = {
        "metadata": {"total_size": sum(spec.nbytes for spec in specs.values())},
        "weight_map": {name: shard.file_name for shard in shards for name in shard.names},
    }
    file_name = "model.safetensors.index.json"
    with _appearing_whole(folder / file_name) as file:
        file.write(json.dumps(index, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
    return (file_name,)


@contextmanager
def _appearing_whole(path: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name that gets its own when the block ends well and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _translated(folder: Path, needed: int, shown_as: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise _disk_full(folder, needed, shown_as) from exc
        raise OutputError(
            f"{shown_as}: cannot be written: {exc.strerror or exc}", fix="check permissions and limits on file sizes"
        ) from exc


def _refuse_small_disk(folder: Path, needed: int, shown_as: Path) -> None:
    total, free = _space(folder)
    if total and free < needed:  # some network file systems report 0 for everything
        raise _disk_full(folder, needed, shown_as)


def _disk_full(folder: Path, needed: int, shown_as: Path) -> OutputError:
    _, free = _space(folder)
    return OutputError(
        f"{shown_as}: the checkpoint needs {needed:,} bytes, {free:,} are free",
        fix="make room, or write to another disk (a quota may allow less than is free)",
    )


def _space(folder: Path) -> tuple[int, int]:
    """Bytes of a disk in all, and those free."""
    if hasattr(os, "statvfs"):  # what shutil asks, too, but that brings four compressors along
        disk = os.statvfs(folder)
        return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    import shutil

    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
