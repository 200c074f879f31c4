"""The header of a safetensors file, read strictly: what it promises must be what the file holds.

A safetensors file is an unsigned 64-bit little-endian length n, n bytes of JSON, then the tensors' bytes without holes.
The header comes from strangers, so nothing in it is believed before it is checked against the file's size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from stockpot.checkpoints.strict_json import read_strict_json
from stockpot.errors import CheckpointError
from stockpot.types import ITEM_BYTES, TensorSpec

__all__ = ["MAX_HEADER_BYTES", "FileHeader", "FileIdentity", "StoredTensor", "read_header"]

#: The format's own limit on the JSON part: 100 MB describe millions of tensors.
MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_MAX_DIMENSION = 2**63
_ENTRY_KEYS = frozenset({"dtype", "shape", "data_offsets"})
_UNKNOWN_DTYPE = "save the file without these tensors, or in a dtype that can be averaged"
_DAMAGED = "fetch or save the file again; if a training run is still writing it, wait for its end"


class FileIdentity(NamedTuple):
    """What tells a file from its replacement under the same name."""

    inode: int
    n_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> FileIdentity:
        """The identity in a stat result."""
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor's bytes lie: its spec and the offset of its first byte from the start of the file."""

    spec: TensorSpec
    offset: int


@dataclass(frozen=True, slots=True)
class FileHeader:
    """A checked header.

    Args:
        path: the file.
        tensors: by name, in the order of their bytes in the file.
        metadata: the free text entries (`__metadata__`).
        identity: of the file when the header was read.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    identity: FileIdentity


def read_header(path: Path) -> FileHeader:
    """Reads and checks the header of one safetensors file; no tensor byte is read.

    Args:
        path: a file.

    Returns:
        The checked header: every tensor's bytes lie inside the file, none overlap, none are missing.

    Raises:
        CheckpointError: the file cannot be read, is no safetensors file, or its header does not describe it; every
            problem of every tensor is listed.

    Example:
        >>> import tempfile
        >>> header = b'{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}'
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> _ = path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        >>> read_header(path).tensors["w"]
        StoredTensor(spec=TensorSpec(dtype='F16', shape=(2,)), offset=62)
    """
    try:
        with path.open("rb") as file:
            identity = FileIdentity.of(os.fstat(file.fileno()))
            raw = _header_bytes(file, path, identity.n_bytes)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc.strerror or exc}", fix="check its permissions") from exc
    entries = _json_object(raw, path)
    metadata = _metadata(entries.pop("__metadata__", {}), path)
    tensors = _tensors(entries, path, data_start=_LENGTH_BYTES + len(raw))
    _check_layout(tensors, path, data_start=_LENGTH_BYTES + len(raw), file_bytes=identity.n_bytes)
    return FileHeader(path, tensors, metadata, identity)


def _header_bytes(file: BinaryIO, path: Path, file_bytes: int) -> bytes:
    prefix = file.read(_LENGTH_BYTES)
    if file_bytes == 0:
        raise CheckpointError(f"{path}: is empty (0 bytes)", fix=_DAMAGED)
    if len(prefix) < _LENGTH_BYTES:
        raise CheckpointError(
            f"{path}: holds {file_bytes} bytes, but a safetensors file starts with an {_LENGTH_BYTES}-byte length",
            fix=_DAMAGED,
        )
    length = int.from_bytes(prefix, "little")
    limit = min(file_bytes - _LENGTH_BYTES, MAX_HEADER_BYTES)
    if length > limit:
        raise CheckpointError(
            f"{path}: not a safetensors file: it announces a header of {length:,} bytes, but at most {limit:,} are "
            f"possible in a file of {file_bytes:,} bytes{_looks_like(prefix)}",
            fix=_DAMAGED,
        )
    raw = file.read(length)
    if len(raw) < length:
        raise CheckpointError(f"{path}: ended at byte {_LENGTH_BYTES + len(raw)} of its header", fix=_DAMAGED)
    return raw


def _looks_like(prefix: bytes) -> str:
    if prefix.startswith(b"PK\x03\x04"):
        return "; it begins like a PyTorch file (then its name should end in .pt)"
    if prefix.lstrip().lower().startswith((b"<!doc", b"<html")):
        return "; it begins like a web page (a failed download?)"
    return ""


def _json_object(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        if not raw.startswith(b"{"):
            raise ValueError(f"it starts with {raw[:8]!r}, not with '{{'")
        value = read_strict_json(raw)
    except ValueError as exc:
        raise CheckpointError(f"{path}: not a safetensors file: the header is not JSON: {exc}", fix=_DAMAGED) from exc
    assert isinstance(value, dict)  # it starts with "{"
    return value


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise CheckpointError(f"{path}: __metadata__ must map texts to texts", fix=_DAMAGED)
    return value


def _tensors(entries: dict[str, Any], path: Path, data_start: int) -> dict[str, StoredTensor]:
    problems: list[str] = []
    tensors: dict[str, StoredTensor] = {}
    for name, entry in entries.items():
        wrong = _wrong_entry(entry)
        if wrong:
            problems.append(f"{name!r}: {wrong}")
        else:
            spec = TensorSpec(entry["dtype"], tuple(entry["shape"]))
            tensors[name] = StoredTensor(spec, data_start + entry["data_offsets"][0])
    if problems:
        is_unknown = all(": unknown dtype " in problem for problem in problems)
        count = f"{len(problems)} wrong header entr{'y' if len(problems) == 1 else 'ies'}"
        raise CheckpointError(f"{path}: {count}", problems=problems, fix=_UNKNOWN_DTYPE if is_unknown else _DAMAGED)
    # Zero-size tensors share an offset with their neighbour; they sort before it.
    return dict(sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].spec.nbytes)))


def _wrong_entry(entry: Any) -> str | None:
    """What is wrong with one tensor's entry, both sides named; None if nothing is."""
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        return f"needs exactly dtype, shape and data_offsets, not {_shortened(entry)}"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        return f"unknown dtype {_shortened(dtype)}; known are {', '.join(ITEM_BYTES)}"
    if not _are_naturals(shape):
        return f"shape must be a list of integers >= 0, not {_shortened(shape)}"
    if not _are_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        return f"data_offsets must be [begin, end] with 0 <= begin <= end, not {_shortened(offsets)}"
    needed, given = TensorSpec(dtype, tuple(shape)).nbytes, offsets[1] - offsets[0]
    if needed != given:
        return f"{_shortened(shape)} {dtype} needs {needed} bytes, but data_offsets {_shortened(offsets)} span {given}"
    return None


def _are_naturals(value: Any) -> bool:
    # `type(...) is int` because JSON's true is an int to isinstance.
    return isinstance(value, list) and all(type(item) is int and 0 <= item < _MAX_DIMENSION for item in value)


def _shortened(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def _check_layout(tensors: Mapping[str, StoredTensor], path: Path, data_start: int, file_bytes: int) -> None:
    """Tensors follow one another from the end of the header to the end of the file."""
    problems: list[str] = []
    end, before = data_start, "the header"
    for name, stored in tensors.items():
        if stored.offset != end:
            word = "overlaps" if stored.offset < end else "leaves a hole after"
            problems.append(
                f"{name!r} {word} {before}: it starts at byte {stored.offset - data_start} of the data, "
                f"not at {end - data_start}"
            )
        end, before = max(end, stored.offset + stored.spec.nbytes), repr(name)
    if end != file_bytes:
        described, held = end - data_start, file_bytes - data_start
        what = "is truncated" if held < described else "has bytes after its last tensor"
        problems.append(f"the file {what}: the header describes {described:,} bytes of tensors, {held:,} are there")
    if problems:
        raise CheckpointError(f"{path}: the header does not describe the file", problems=problems, fix=_DAMAGED)
