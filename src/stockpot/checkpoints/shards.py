"""The index of a sharded checkpoint, checked both ways: what it names must be there, what is there must be named."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from stockpot.checkpoints.strict_json import read_strict_json
from stockpot.errors import CheckpointError

__all__ = ["ShardIndex", "index_error", "misplaced_tensors", "missing_and_unlisted", "read_index", "read_shards"]

_NUMBER = re.compile(r"\d+(?=-of-\d+\.)")
_FETCH_AGAIN = "fetch or save the whole folder again"


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """Which shard holds which tensor.

    Args:
        path: of the index.
        shard_by_name: tensor name -> the shard's file name, inside the folder of the index.
    """

    path: Path
    shard_by_name: Mapping[str, str]

    @property
    def shards(self) -> tuple[Path, ...]:
        """The shards' paths, sorted by name: the reading order."""
        return tuple(self.path.parent / shard for shard in sorted(set(self.shard_by_name.values())))


def read_index(path: Path) -> ShardIndex:
    """Reads an index; `metadata.total_size` is informative only and not looked at.

    Args:
        path: of a `*.index.json` file.

    Returns:
        The index; every path in it stays inside its folder.

    Raises:
        CheckpointError: unreadable, not JSON, no weight map, or paths that leave the folder (all listed).

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors.index.json"
        >>> _ = path.write_text('{"weight_map": {"w": "model-00001-of-00001.safetensors"}}')
        >>> [shard.name for shard in read_index(path).shards]
        ['model-00001-of-00001.safetensors']
    """
    try:
        value = read_strict_json(path.read_bytes())
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc.strerror or exc}", fix="check its permissions") from exc
    except ValueError as exc:
        raise CheckpointError(f"{path}: not JSON: {exc}", fix=_FETCH_AGAIN) from exc
    weight_map = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_text, weight_map.values())):
        raise CheckpointError(f"{path}: weight_map must map tensor names to file names", fix=_FETCH_AGAIN)
    outside = sorted({shard for shard in weight_map.values() if _leaves_folder(shard)})
    if outside:
        raise index_error(path, [f"{shard!r} points outside the folder" for shard in outside])
    return ShardIndex(path, weight_map)


def index_error(path: Path, problems: list[str]) -> CheckpointError:
    """Every way in which an index and its folder disagree, as one error."""
    return CheckpointError(f"{path}: index and shards disagree", problems=problems, fix=_FETCH_AGAIN)


def missing_and_unlisted(index: ShardIndex) -> list[str]:
    """Shards that the index names but the folder lacks, and the other way round, one line each."""
    folder = index.path.parent
    listed = [shard.relative_to(folder).as_posix() for shard in index.shards]
    missing = [
        f"{shard} is named by the index but not in the folder" for shard in listed if not _is_file(folder, shard)
    ]
    # model-00001-of-00003 and model-00002-of-00003 are one series; another total is another save.
    series = {_NUMBER.sub("#", shard) for shard in listed if _NUMBER.search(shard)}
    there = sorted(entry.name for entry in folder.iterdir() if _NUMBER.sub("#", entry.name) in series)
    unlisted = [f"{name} is in the folder but not named by the index" for name in there if name not in listed]
    return missing + unlisted


def misplaced_tensors(
    index: ShardIndex, names_by_shard: Mapping[str, Collection[str]], tied: Collection[str]
) -> list[str]:
    """Tensors that are not where the index says, one line each, both directions.

    Args:
        index: the index.
        names_by_shard: file name of each shard that could be read -> the tensors in it.
        tied: names that need not be stored because a stored tensor stands for them.
    """
    absent = [
        f"{name!r} is not in {shard}, where the index puts it"
        for name, shard in index.shard_by_name.items()
        if shard in names_by_shard and name not in names_by_shard[shard] and name not in tied
    ]
    surplus = [
        f"{name!r} is in {shard}, but the index {_says(index.shard_by_name.get(name))}"
        for shard, names in names_by_shard.items()
        for name in names
        if index.shard_by_name.get(name) != shard
    ]
    return absent + surplus


def _says(shard: str | None) -> str:
    return "does not name it" if shard is None else f"puts it in {shard}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _leaves_folder(shard: str) -> bool:
    # Both conventions, whatever the host: an index travels. "\0" would make the system call itself raise.
    windows, posix = PureWindowsPath(shard), PurePosixPath(shard)
    return bool(windows.anchor) or posix.is_absolute() or ".." in windows.parts or ".." in posix.parts or "\0" in shard


def _is_file(folder: Path, shard: str) -> bool:
    return (folder / shard).is_file()


def read_shards(index: ShardIndex, read: Callable[[Path], Any]) -> tuple[dict[str, Any], list[str]]:
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
