"""What makes a model folder loadable beside its weights: configuration, tokenizer, custom code, licence."""

from __future__ import annotations

import filecmp
import fnmatch
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from stockpot.checkpoints.locating import is_training_state
from stockpot.errors import CheckpointError, OutputError

__all__ = ["compare_side_files", "copy_side_files", "side_files"]

_TAKEN = (
    "*.json", "*.txt", "*.py", "*.jinja", "*.model", "*.spm", "*.tiktoken", "*.bpe", "*.codes",
    "tokenizer*", "vocab*", "merges*", "chat_template*", "licen[sc]e*", "notice*",
)  # fmt: skip
_WEIGHTS = (
    "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.gguf",
    "*.tflite", "*.npz", "*.index", "*.data-*",
)  # fmt: skip
#: Belongs to the run or to the old weights; an adapter's configuration would make transformers look for the adapter.
_LEFT = (
    *_WEIGHTS, "*.index.json", "trainer_state.json", "adapter_config.json", "soup.json", "run.json", "timings.json",
    "experiment.json", "results*", "*_results.json", "*.log", "readme*", "requirements*.txt",
)  # fmt: skip
_LEFT_FOLDERS = ("checkpoint-*", "runs", "logs", "wandb", "mlruns", "__pycache__", "journal")
#: Where a JSON configuration came from, not what it says.
_IGNORED_KEYS = frozenset({"_name_or_path", "transformers_version"})
_MAX_DIFFERENCES = 5
_MAX_NAMES = 3
#: Stands for the other folder until all that differ in the same way are known.
_OTHER = "<other>"
_ABSENT = object()


def side_files(folder: str | Path) -> tuple[Path, ...]:
    """Paths, relative to `folder`, of the files that belong to the model beside its weights.

    One level of subfolders comes along (`1_Pooling/config.json`), except those that hold weights or runs of their own.

    Args:
        folder: a model folder.

    Returns:
        Sorted relative paths.

    Raises:
        CheckpointError: a symbolic link leads out of the folder (other than into a hub cache's blobs), or nowhere.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("config.json", "model.safetensors", "trainer_state.json", "vocab.txt"):
        ...     _ = (folder / name).write_text("{}")
        >>> [path.as_posix() for path in side_files(folder)]
        ['config.json', 'vocab.txt']
    """
    root = Path(folder)
    try:
        found = [path for path in _walk(root) if _is_side_file(path.name)]
    except OSError as exc:
        raise CheckpointError(f"{folder}: cannot be read: {exc.strerror or exc}", fix="give a model folder") from exc
    stray = [f"{path.relative_to(root)} -> {path.readlink()}" for path in found if not _is_inside(path, root)]
    if stray:
        raise CheckpointError(
            f"{folder}: symbolic links lead out of the folder", problems=stray, fix="replace them by the files (cp -L)"
        )
    return tuple(sorted(path.relative_to(root) for path in found))


def copy_side_files(
    source_folder: str | Path, target_folder: str | Path, *, names: Collection[str] | None = None
) -> tuple[Path, ...]:
    """Copies the side files' contents; links become files.

    Args:
        source_folder: a model folder.
        target_folder: exists.
        names: relative paths of the side files to copy; None: all of them.

    Returns:
        The relative paths copied.

    Raises:
        CheckpointError: as `side_files`.
        OutputError: a file cannot be copied (disk full, permissions).
    """
    import shutil

    paths = tuple(path for path in side_files(source_folder) if names is None or path.as_posix() in names)
    for path in paths:
        target = Path(target_folder) / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(source_folder) / path, target)
        except OSError as exc:
            raise OutputError(f"{target}: cannot be written: {exc.strerror or exc}", fix="make room there") from exc
    return paths


def compare_side_files(folders: Sequence[str | Path], *, labels: Sequence[str] | None = None) -> list[str]:
    """Where the first folder's side files, which are kept, differ from the others', one line each.

    JSON is compared by what it says (key order, `_name_or_path` and `transformers_version` do not count), all else
    by bytes; of one file, the first few differences are named.

    Args:
        folders: model folders, the donor first.
        labels: what the lines call them; the folders' names by default.

    Returns:
        Human-readable lines, folders that differ in the same way in one; empty if all agree.

    Raises:
        CheckpointError: as `side_files`.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name, dropout in (("a", 0.1), ("b", 0.2)):
        ...     (root / name).mkdir()
        ...     _ = (root / name / "config.json").write_text(json.dumps({"dropout": dropout}))
        >>> compare_side_files([root / "a", root / "b"])
        ["config.json: 'dropout' is 0.1 in 'a' (kept) but 0.2 in 'b'"]
    """
    roots = [Path(folder) for folder in folders]
    names = list(labels) if labels is not None else [root.resolve().name for root in roots]
    others: dict[str, list[str]] = {}
    for root, name in zip(roots[1:], names[1:], strict=True):
        for line in _differences(roots[0], root, names[0], _OTHER):
            others.setdefault(line, []).append(repr(name))
    return [line.replace(repr(_OTHER), _several(found)) for line, found in others.items()]


def _several(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"


def _differences(kept: Path, other: Path, kept_label: str, other_label: str) -> Iterator[str]:
    kept_files, other_files = set(side_files(kept)), set(side_files(other))
    for path in sorted(kept_files | other_files):
        name = path.as_posix()
        if path not in other_files:
            yield f"{name}: in {kept_label!r} (kept) but not in {other_label!r}"
        elif path not in kept_files:
            yield f"{name}: in {other_label!r} but not in {kept_label!r}, so it is left out"
        elif not filecmp.cmp(kept / path, other / path, shallow=False):
            for what in _content_differences(kept / path, other / path, kept_label, other_label):
                yield f"{name}: {what}"


def _content_differences(kept: Path, other: Path, kept_label: str, other_label: str) -> list[str]:
    """Differences of two files whose bytes differ."""
    try:
        left, right = (_flattened(json.loads(path.read_bytes())) for path in (kept, other))
    except (ValueError, RecursionError):  # no JSON: the bytes count
        return [f"differs between {kept_label!r} (kept) and {other_label!r}"]
    lines = (
        f"{key!r} is {_shown(left.get(key, _ABSENT))} in {kept_label!r} (kept) "
        f"but {_shown(right.get(key, _ABSENT))} in {other_label!r}"
        for key in sorted(left.keys() | right.keys())
        if _is_different(left.get(key, _ABSENT), right.get(key, _ABSENT))
    )
    first = list(islice(lines, _MAX_DIFFERENCES))
    n_more = sum(1 for _ in lines)
    return (
        [
            *first,
            f"{n_more} more difference{'s' if n_more > 1 else ''} between {kept_label!r} (kept) and {other_label!r}",
        ]
        if n_more
        else first
    )


def _is_different(left: Any, right: Any) -> bool:
    # True == 1 to Python, not to a configuration.
    return type(left) is not type(right) or bool(left != right)


def _flattened(value: Any, path: str = "") -> dict[str, Any]:
    """Values by dotted path; lists are values."""
    if not isinstance(value, Mapping) or (path and not value):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        if key not in _IGNORED_KEYS:
            flat |= _flattened(entry, f"{path}.{key}" if path else key)
    return flat


def _shown(value: Any, limit: int = 60) -> str:
    text = "absent" if value is _ABSENT else repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def _walk(root: Path) -> Iterator[Path]:
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and _is_side_folder(entry):
            yield from (path for path in sorted(entry.iterdir()) if not path.is_dir())
        elif not entry.is_dir():
            yield entry


def _is_side_folder(folder: Path) -> bool:
    if folder.name.startswith(".") or _matches(folder.name, _LEFT_FOLDERS):
        return False
    return not any(_matches(path.name, _WEIGHTS) for path in folder.iterdir())


def _is_side_file(name: str) -> bool:
    if name.startswith(".") or is_training_state(Path(name)) or _matches(name, _LEFT):
        return False
    return _matches(name, _TAKEN)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a link's content may come along: a downloaded folder must not smuggle a private file into a soup."""
    if not path.is_symlink():
        return True
    target = path.resolve()
    # A hub cache keeps snapshots/<revision>/config.json -> ../../blobs/<digest>.
    blobs = root.resolve().parent.parent / "blobs"
    return target.is_file() and (target.is_relative_to(root.resolve()) or target.parent == blobs)
