"""open_checkpoint: one function for every format, headers only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stockpot.checkpoints.header import FileHeader, read_header
from stockpot.checkpoints.locating import Located, locate
from stockpot.checkpoints.mapped import FileRange
from stockpot.checkpoints.opened import OpenedCheckpoint, SafetensorsReader
from stockpot.checkpoints.pickles import TorchReader, is_tensor, is_zip, load_pickle, spec_of, split_ties, unsupported
from stockpot.checkpoints.shards import ShardIndex, index_error, misplaced_tensors, missing_and_unlisted, read_index
from stockpot.checkpoints.unwrapping import StateDict, strip_common_prefixes, unwrap
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
    opened = _open_safetensors(located, key) if located.format == "safetensors" else _open_torch(located, key)
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
    header_by_shard, problems = _read_shards(index, read_header)
    metadata = _merged_metadata(header_by_shard.values())
    stored = {name: entry.spec for header in header_by_shard.values() for name, entry in header.tensors.items()}
    names_by_shard = {shard: header.tensors for shard, header in header_by_shard.items()}
    problems += misplaced_tensors(index, names_by_shard, tied=_declared_ties(metadata, stored))
    if problems:
        raise index_error(path, problems)
    return tuple(header_by_shard.values())


def _read_shards(index: ShardIndex, read: Callable[[Path], Any]) -> tuple[dict[str, Any], list[str]]:
    """What `read` makes of every shard that is there, by file name, and what is wrong with the others."""
    results: dict[str, Any] = {}
    problems = missing_and_unlisted(index)
    for shard in index.shards:
        if not shard.is_file():
            continue
        try:
            results[shard.relative_to(index.path.parent).as_posix()] = read(shard)
        except CheckpointError as exc:
            problems += [exc.message, *exc.problems]
    return results, problems


def _open_torch(located: Located, key: str | None) -> OpenedCheckpoint:
    if located.is_sharded:
        files, found, ranges = _torch_shards(located.main, key)
    else:
        files = (located.main,)
        loaded = load_pickle(located.main)
        found, ranges = unwrap(loaded.value, is_tensor, source=located.source, key=key), dict(loaded.ranges)
    stripped = strip_common_prefixes(found.tensors)
    _refuse_unsupported(located.source, stripped.tensors)
    stored, tied = split_ties(stripped.tensors)
    return OpenedCheckpoint(
        source=located.source,
        specs={name: spec_of(tensor) for name, tensor in stored.items()},
        tied=tied,
        reader=TorchReader(stored, ranges),
        notes=located.notes + found.notes + stripped.notes + _legacy_notes(files),
        metadata={},
        weight_files=files,
        folder=located.folder,
    )


def _torch_shards(path: Path, key: str | None) -> tuple[tuple[Path, ...], StateDict, dict[int, FileRange]]:
    index = read_index(path)

    ranges: dict[int, FileRange] = {}

    def read(shard: Path) -> StateDict:
        loaded = load_pickle(shard)
        ranges.update(loaded.ranges)
        return unwrap(loaded.value, is_tensor, source=str(shard), key=key)

    found_by_shard, problems = _read_shards(index, read)
    names_by_shard = {shard: found.tensors for shard, found in found_by_shard.items()}
    problems += misplaced_tensors(index, names_by_shard, tied=())
    if problems:
        raise index_error(path, problems)
    tensors = {name: tensor for found in found_by_shard.values() for name, tensor in found.tensors.items()}
    notes = dict.fromkeys(note for found in found_by_shard.values() for note in found.notes)
    return index.shards, StateDict(tensors, tuple(notes)), ranges


def _refuse_unsupported(source: str, tensors: Mapping[str, Any]) -> None:
    problems = [f"{name!r} {wrong}" for name, tensor in tensors.items() if (wrong := unsupported(tensor))]
    if problems:
        raise CheckpointError(
            f"{source}: {len(problems)} tensors cannot be read",
            problems=problems,
            fix="save a plain dense state dict of floats, integers and booleans",
        )


def _legacy_notes(files: Iterable[Path]) -> tuple[str, ...]:
    legacy = [file.name for file in files if not is_zip(file)]
    return (f"read into memory whole, as its old format demands: {', '.join(legacy)}",) if legacy else ()
