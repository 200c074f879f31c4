"""The part of soup.json that says how the weights were written: all that a rebuild needs beside the soup itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from stockpot.errors import RecordError
from stockpot.records._json import PathLike, checked, parsed

__all__ = ["Output", "WrittenFile", "output_of", "output_problems", "upgraded_from_1"]


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What tells a changed file.

    Args:
        bytes: its size; None where an old record does not say.
        digest: SHA-256 of its content; None where it was not taken.
    """

    bytes: int | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """How a soup's weights were written.

    Args:
        dtype: output dtype of the blended tensors, in the format's spelling; None: as stored.
        only: names and globs of the blended tensors; empty: all.
        max_shard_size: tensor bytes per file; a text ("5GB") in old records.
        donor: name of the ingredient that gave side files and integer tensors.
        files: weight files and index, by name.
        side_files: configuration, tokenizer and the like, by path inside the folder.
        integer_differences: integer tensor -> names of the ingredients whose values differ from the donor's.
        header_digest: SHA-256 over names, dtypes, shapes and ties of all tensors.
        recalibrated: tensors whose values were made anew with training data, not blended; None: none were.

    Example:
        >>> Output("BF16", (), 10**9, "a", {"model.safetensors": WrittenFile(352)}, {}, {}).files
        {'model.safetensors': WrittenFile(bytes=352, digest=None)}
    """

    dtype: str | None
    only: tuple[str, ...]
    max_shard_size: int | str
    donor: str
    files: Mapping[str, WrittenFile] = field(hash=False)
    side_files: Mapping[str, WrittenFile] = field(hash=False)
    integer_differences: Mapping[str, tuple[str, ...]] = field(hash=False)
    header_digest: str | None = None
    recalibrated: tuple[str, ...] | None = None


def output_of(output: Mapping[str, Any], where: PathLike) -> Output:
    """The checked form of `SoupRecord.output`.

    Args:
        output: as read.
        where: the record's file, for the error.

    Raises:
        RecordError: it speaks of no weight files, or its keys are wrong; all of them are listed.
    """
    if "files" not in output:
        raise RecordError(f"{where} says nothing of weight files", fix="give the record of a soup that was written")
    return parsed(Path(where), output, Output, problems=list(_stray(output)))


def output_problems(output: object) -> list[str]:
    """What is wrong with the `output` of a record, one line per key; a record without weight files may say anything."""
    if not isinstance(output, dict) or "files" not in output:
        return []
    return [*checked(output, Output, "output")[1], *_stray(output)]


def _stray(output: Mapping[str, Any]) -> Iterator[str]:
    """Names that would lead a reader out of the soup's folder."""
    for key in ("files", "side_files"):
        names = output.get(key)
        for name in names if isinstance(names, dict) else ():
            if _leaves_folder(name):
                yield f"output.{key}: {name!r} is no path inside the soup's folder"


def _leaves_folder(name: str) -> bool:
    # Both conventions, whatever the host: a record travels. "\0" would make the system call itself raise.
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    is_absolute = posix.is_absolute() or bool(windows.anchor)
    return not posix.parts or is_absolute or ".." in (*posix.parts, *windows.parts) or "\0" in name


def upgraded_from_1(content: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 knew a digest per weight file and the bare names of side files."""
    output = content.get("output")
    if not isinstance(output, dict) or "files" not in output:
        return content
    files, side_files = output["files"], output.get("side_files")
    changed: dict[str, Any] = {}
    if isinstance(files, dict):
        changed["files"] = {name: {"bytes": None, "digest": digest} for name, digest in files.items()}
    if isinstance(side_files, list) and all(isinstance(name, str) for name in side_files):
        changed["side_files"] = {name: {"bytes": None, "digest": None} for name in side_files}
    return {**content, "output": {**output, **changed}}
