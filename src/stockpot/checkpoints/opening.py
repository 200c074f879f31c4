"""open_checkpoint: one function for every format, headers only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stockpot.checkpoints.header import FileHeader, read_header
from stockpot.checkpoints.locating import Located, locate
from stockpot.checkpoints.opened import OpenedCheckpoint, SafetensorsReader
from stockpot.checkpoints.shards import index_error, misplaced_tensors, missing_and_unlisted, read_index, read_shards
from stockpot.errors import CheckpointError
from stockpot.types import TensorSpec

__all__ = ["open_checkpoint", "weight_files"]


def open_checkpoint(source: str | Path, *, key: str | None = None) -> OpenedCheckpoint:
    """Opens a checkpoint of any known format lazily: names, shapes and dtypes now, bytes on demand.

    Known are safetensors files, PyTorch files (`.pt`, `.pth`, `.bin`, `.ckpt`; needs the extra `torch`), and folders
    that hold either, single or sharded with an index. Nothing in a file is trusted: headers and indices are checked
    against what is there, and pickles are never executed.

    Args:
        source: a file or folder.
        key: which state dict inside a PyTorch file that holds several, a path of names joined by dots.

    Returns:
        The opened checkpoint; use it in a `with` block.

    Raises:
        CheckpointError: the source cannot be opened, read or trusted; every problem found is listed.
        MissingExtraError: a PyTorch file, and torch is not installed.

    Example:
        >>> import tempfile, numpy, safetensors.numpy
        >>> path = tempfile.mkdtemp() + "/model.safetensors"
        >>> safetensors.numpy.save_file({"w": numpy.zeros((2, 3), numpy.float16)}, path)
        >>> with open_checkpoint(path) as checkpoint:
        ...     print(checkpoint.specs["w"])
        [2, 3] F16
    """
    located = locate(source)
    opened = _open_safetensors(located, key) if located.format == "safetensors" else _open_pickles(located, key)
    if not opened.specs:
        opened.close()
        raise CheckpointError(f"{source}: holds no tensors", fix="give a checkpoint that holds a model's weights")
    return opened


def weight_files(source: str | Path) -> tuple[Path, ...]:
    """The files that hold a source's tensors, in reading order; of an index, only names are read.

    Raises:
        CheckpointError: as `open_checkpoint` for the source, the index and missing shards.
    """
    return _weight_files(locate(source))


def _weight_files(located: Located) -> tuple[Path, ...]:
    if not located.is_sharded:
        return (located.main,)
    index = read_index(located.main)
    problems = missing_and_unlisted(index)
    if problems:
        raise index_error(index.path, problems)
    return index.shards


def _open_safetensors(located: Located, key: str | None) -> OpenedCheckpoint:
    if key is not None:
        raise CheckpointError(
            f"{located.source}: key {key!r} was given, but a safetensors checkpoint holds one state dict only",
            fix="leave the key out for this source",
        )
    headers = _shard_headers(located.main) if located.is_sharded else (read_header(located.main),)
    specs = {name: stored.spec for header in headers for name, stored in header.tensors.items()}
    metadata = _merged_metadata(headers)
    return OpenedCheckpoint(
        source=located.source,
        specs=specs,
        tied=_declared_ties(metadata, specs),
        reader=SafetensorsReader(headers),
        notes=located.notes,
        metadata=metadata,
        weight_files=tuple(header.path for header in headers),
        folder=located.folder,
    )


def _merged_metadata(headers: Iterable[FileHeader]) -> dict[str, str]:
    return {name: text for header in headers for name, text in header.metadata.items()}


def _declared_ties(metadata: Mapping[str, str], specs: Mapping[str, TensorSpec]) -> dict[str, str]:
    """`safetensors.torch.save_model` writes each dropped name as a metadata entry whose text is the stored name."""
    # "format" is the one entry that other writers set always; a tensor may well be called "pt".
    aliases = (name for name in sorted(metadata) if name not in specs and name != "format")
    return {name: metadata[name] for name in aliases if metadata[name] in specs}


def _shard_headers(path: Path) -> tuple[FileHeader, ...]:
    index = read_index(path)
    header_by_shard, problems = read_shards(index, read_header)
    metadata = _merged_metadata(header_by_shard.values())
    stored = {name: entry.spec for header in header_by_shard.values() for name, entry in header.tensors.items()}
    names_by_shard = {shard: header.tensors for shard, header in header_by_shard.items()}
    problems += misplaced_tensors(index, names_by_shard, tied=_declared_ties(metadata, stored))
    if problems:
        raise index_error(path, problems)
    return tuple(header_by_shard.values())


def _open_pickles(located: Located, key: str | None) -> OpenedCheckpoint:
    # What reads pickles and archives takes longer to import than safetensors to open.
    from stockpot.checkpoints.opening_torch import open_torch

    return open_torch(located, key)
