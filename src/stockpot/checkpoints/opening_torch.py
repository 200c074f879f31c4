"""Opens PyTorch's own files; imported only when there is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stockpot.checkpoints.locating import Located
from stockpot.checkpoints.mapped import FileRange
from stockpot.checkpoints.opened import OpenedCheckpoint
from stockpot.checkpoints.pickles import TorchReader, is_tensor, is_zip, load_pickle, spec_of, split_ties, unsupported
from stockpot.checkpoints.shards import index_error, misplaced_tensors, read_index, read_shards
from stockpot.checkpoints.unwrapping import StateDict, strip_common_prefixes, unwrap
from stockpot.errors import CheckpointError

__all__ = ["open_torch"]


def open_torch(located: Located, key: str | None) -> OpenedCheckpoint:
    """Opens PyTorch's files, single or sharded.

    Args:
        located: their place.
        key: which state dict inside a file that holds several.

    Raises:
        CheckpointError: a file cannot be read or trusted, or it holds tensors without plain bytes.
        MissingExtraError: torch is not installed.
    """
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

    found_by_shard, problems = read_shards(index, read)
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
