"""Where a mapped PyTorch file keeps its tensors, so that they can be read instead of mapped.

Pages of a map that were touched count as this process's memory until the kernel wants them back: blending 16 mapped
models would look like holding 16 models. torch tells each tensor's address but not its offset in the file. The zip
directory lists the offsets; the one base address that puts every storage on a record of its size connects the two.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from stockpot.checkpoints.header import FileIdentity

if TYPE_CHECKING:
    import torch

__all__ = ["FileRange", "file_ranges"]

#: Length of a zip member's local header without name and extra field, and where their two-byte lengths stand in it.
_LOCAL_HEADER_BYTES, _NAME_LENGTH_AT = 30, 26
_COMPARED_BYTES = 64


class FileRange(NamedTuple):
    """A tensor's first byte in a file."""

    path: Path
    identity: FileIdentity
    offset: int


def file_ranges(path: Path, identity: FileIdentity, loaded: Any) -> dict[int, FileRange]:
    """The place in the file of every tensor in a mapped value, by the tensor's address.

    Args:
        path: the file that `loaded` maps.
        identity: of the file before it was mapped.
        loaded: containers of tensors.

    Returns:
        Address -> place; empty where the places are not certain (then the map itself has to be read).
    """
    tensors = [tensor for tensor in _tensors_within(loaded, set()) if tensor.numel()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    base = _base({address: storage.nbytes() for address, storage in storages.items()}, _record_sizes(path))
    if base is None or not _shows(path, base, storages):
        return {}
    return {tensor.data_ptr(): FileRange(path, identity, tensor.data_ptr() - base) for tensor in tensors}


def _tensors_within(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """Every plain tensor, the optimiser's too: the more storages must fit, the fewer bases can."""
    import torch

    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided and not value.is_meta:
            yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_within(entry, seen)


def _record_sizes(path: Path) -> dict[int, int]:
    """Offset of each uncompressed record's first byte -> its size; empty if this host would have to swap bytes."""
    import zipfile  # for PyTorch's files alone

    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            records = archive.infolist()
            orders = {archive.read(record) for record in records if record.filename.endswith("/byteorder")}
            if orders - {sys.byteorder.encode()}:
                return {}
            stored = (record for record in records if record.compress_type == zipfile.ZIP_STORED)
            return {_data_offset(file, record.header_offset): record.file_size for record in stored}
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return {}  # torch could read it all the same


def _data_offset(file: BinaryIO, header_offset: int) -> int:
    file.seek(header_offset + _NAME_LENGTH_AT)
    lengths = file.read(4)
    name_length, extra_length = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
    return header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length


def _base(size_by_address: Mapping[int, int], size_by_offset: Mapping[int, int]) -> int | None:
    """The one page-aligned address at which the file's records and the storages coincide.

    Example:
        >>> _base({3 * mmap.PAGESIZE + 64: 8}, {64: 8, 128: 4}) == 3 * mmap.PAGESIZE
        True
    """
    if not size_by_address:
        return None
    address, size = next(iter(size_by_address.items()))
    bases = (address - offset for offset, held in size_by_offset.items() if held == size)
    fitting = [base for base in bases if base % mmap.PAGESIZE == 0 and _fits(base, size_by_address, size_by_offset)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(base: int, size_by_address: Mapping[int, int], size_by_offset: Mapping[int, int]) -> bool:
    return all(size_by_offset.get(address - base) == size for address, size in size_by_address.items())


def _shows(path: Path, base: int, storages: Mapping[int, torch.UntypedStorage]) -> bool:
    """Whether file and memory agree at the start of the first and the last storage: a guard against surprises."""
    with path.open("rb") as file:
        return all(_starts_alike(file, base, address, storages[address]) for address in _ends(storages))


def _ends(addresses: Iterable[int]) -> set[int]:
    listed = list(addresses)
    return {min(listed), max(listed)}


def _starts_alike(file: BinaryIO, base: int, address: int, storage: torch.UntypedStorage) -> bool:
    in_memory = bytes(storage[: min(_COMPARED_BYTES, storage.nbytes())].tolist())
    file.seek(address - base)
    return file.read(len(in_memory)) == in_memory
