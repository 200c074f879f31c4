"""From what the user named to the files that hold weights. Looks at names only; the LFS check reads a few bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stockpot.errors import CheckpointError

__all__ = ["Located", "holds_weights", "is_training_state", "is_weight_file", "locate"]

Format = Literal["safetensors", "torch"]

_FORMAT_BY_SUFFIX: dict[str, Format] = {
    ".safetensors": "safetensors", ".pt": "torch", ".pth": "torch", ".bin": "torch", ".ckpt": "torch",
}  # fmt: skip
_MAIN_BY_FORMAT: dict[Format, str] = {"safetensors": "model.safetensors", "torch": "pytorch_model.bin"}
_INDEX_SUFFIXES = (".safetensors.index.json", ".bin.index.json")
#: Written beside the weights by trainers; tensors, but no model.
_TRAINING_STATE = re.compile(r"(optimizer|scheduler|scaler|rng_state|training_args|random_states)[^/]*")
_SHARD = re.compile(r".+-\d+-of-\d+\.\w+")
_ADAPTER = re.compile(r"adapter_model\.\w+")
_LFS_START = b"version https://git-lfs"
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Located:
    """The weight files behind a source.

    Args:
        source: as the user gave it.
        format: of the weight files.
        main: the single weight file, or the index of the shards.
        folder: the source if it is a folder.
        notes: what was passed over.
    """

    source: str
    format: Format
    main: Path
    folder: Path | None
    notes: tuple[str, ...] = ()

    @property
    def is_sharded(self) -> bool:
        """Whether `main` is an index."""
        return _is_index(self.main)


def is_weight_file(path: Path) -> bool:
    """Whether the name is that of a model's weights (not an optimiser's state).

    Example:
        >>> is_weight_file(Path("model.safetensors")), is_weight_file(Path("optimizer.pt"))
        (True, False)
    """
    return path.suffix.lower() in _FORMAT_BY_SUFFIX and not is_training_state(path)


def is_training_state(path: Path) -> bool:
    """Whether the name is that of an optimiser's, scheduler's or generator's state, or of training arguments.

    Example:
        >>> is_training_state(Path("rng_state_0.pth"))
        True
    """
    return bool(_TRAINING_STATE.fullmatch(path.name))


def holds_weights(path: Path) -> bool:
    """Whether `path` is a weight file, an index, or a folder that directly holds one."""
    if not path.is_dir():
        return is_weight_file(path) or _is_index(path)
    return any(holds_weights(entry) for entry in path.iterdir() if entry.is_file())


def locate(source: str | Path) -> Located:
    """Finds the weight file or shard index that a source means.

    In a folder, `model.safetensors` comes before its index, that before the only other safetensors file or index, and
    all of them before `pytorch_model.bin`, its index, and the only other PyTorch file.

    Args:
        source: a weight file, an index, or a folder.

    Returns:
        The files to open; what was passed over is in `notes`.

    Raises:
        CheckpointError: nothing there, no weights, several to choose from, an adapter, or a Git LFS pointer.

    Example:
        >>> locate("no/such/file")
        Traceback (most recent call last):
        ...
        stockpot.errors.CheckpointError: no/such/file: no such file or folder
        fix: check the path, and the folder it starts from
    """
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - Path's own raises where there is no such user
    try:
        if not path.exists():
            raise CheckpointError(f"{source}: no such file or folder", fix=_nearest(path))
        located = _in_folder(str(source), path) if path.is_dir() else _file(str(source), path)
        _refuse_lfs_pointer(located.main)
    except OSError as exc:
        raise CheckpointError(f"{source}: cannot be read: {exc.strerror or exc}", fix="check its permissions") from exc
    return located


def _nearest(path: Path) -> str:
    """Suggests an existing sibling at the first level that does not exist."""
    import difflib

    while not path.parent.is_dir():
        path = path.parent
    siblings = sorted(entry.name for entry in path.parent.iterdir())

    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else "check the path, and the folder it starts from"


def _file(source: str, path: Path) -> Located:
    if not path.is_file():
        raise CheckpointError(f"{source}: is neither a file nor a folder", fix="give a checkpoint file or folder")
    if _is_index(path):
        return Located(source, _format_of(path), path, None)
    if _ADAPTER.fullmatch(path.name):
        raise _adapter_error(source)
    # The last is what PyTorch's own example and timm call their checkpoints, no archive; taken where it is named.
    if path.suffix.lower() not in _FORMAT_BY_SUFFIX and not path.name.lower().endswith(".pth.tar"):
        _refuse_lfs_pointer(path)
        known = ", ".join(_FORMAT_BY_SUFFIX)
        raise CheckpointError(
            f"{source}: not a known kind of checkpoint file", fix=f"give a folder, or a file that ends in {known}"
        )
    _refuse_one_of_many(source, path)
    return Located(source, _format_of(path), path, None)


def _refuse_one_of_many(source: str, path: Path) -> None:
    """A glob like run/*.safetensors would otherwise take every shard of one model for an ingredient of its own."""
    indices = [entry.name for entry in _files(path.parent) if _is_index(entry)]
    if indices and _SHARD.fullmatch(path.name):
        raise CheckpointError(
            f"{source}: is one shard of the model that {indices[0]} describes", fix=f"give the folder: {path.parent}"
        )


def _in_folder(source: str, folder: Path) -> Located:
    files = _files(folder)
    is_adapter = any(entry.name == "adapter_config.json" for entry in files)
    weights = [entry for entry in files if (is_weight_file(entry) or _is_index(entry))]
    weights = [entry for entry in weights if not _ADAPTER.fullmatch(entry.name)]
    if not weights:
        raise _adapter_error(source) if is_adapter else _empty_folder_error(source, folder, files)
    # The two formats are tried in order: safetensors win over pickles.
    for weights_format in _MAIN_BY_FORMAT:
        candidates = [entry for entry in weights if _format_of(entry) == weights_format]
        if candidates:
            main = _choose(source, candidates, _MAIN_BY_FORMAT[weights_format])
            return Located(source, weights_format, main, folder, _passed_over(main, weights))
    raise AssertionError("unreachable: every weight file has one of the formats")


def _choose(source: str, candidates: list[Path], main_name: str) -> Path:
    by_name = {entry.name: entry for entry in candidates}
    for name in (main_name, f"{main_name}.index.json"):
        if name in by_name:
            return by_name[name]
    indices = [entry for entry in candidates if _is_index(entry)]
    singles = [entry for entry in candidates if not _is_index(entry) and not _SHARD.fullmatch(entry.name)]
    shards = [entry.name for entry in candidates if entry not in indices and entry not in singles]
    if len(indices) + len(singles) == 1 and (indices or not shards):
        return (indices + singles)[0]
    if shards and not indices and not singles:
        raise CheckpointError(
            f"{source}: holds {len(shards)} shards but no index",
            problems=_shown(shards),
            fix=f"fetch or save the model again, with its {main_name}.index.json",
        )
    raise CheckpointError(
        f"{source}: holds several checkpoints and none is called {main_name}",
        problems=_shown(by_name),
        fix="name the file you mean",
    )


def _passed_over(main: Path, weights: list[Path]) -> tuple[str, ...]:
    """Shards that belong to an index are no alternative to it; what else lies there is said."""
    others = [entry.name for entry in weights if entry != main and not _SHARD.fullmatch(entry.name)]
    return (f"took {main.name}; also there, not read: {', '.join(_shown(others))}",) if others else ()


def _empty_folder_error(source: str, folder: Path, files: list[Path]) -> CheckpointError:
    import shlex

    subfolders = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    with_weights = [shlex.quote(str(entry)) for entry in subfolders if holds_weights(entry)]
    held = [entry.name for entry in files] + [f"{entry.name}/" for entry in subfolders]
    fix = "give a folder that holds model.safetensors, its index, or pytorch_model.bin"
    if with_weights:
        fix = f"its subfolders hold weights; give them: {' '.join(_shown(with_weights))}"
    what = "which is empty" if not held else f"only {', '.join(_shown(held))}"
    return CheckpointError(f"{source}: no weights in this folder, {what}", fix=fix)


def _adapter_error(source: str) -> CheckpointError:
    return CheckpointError(
        f"{source}: is a LoRA adapter, not a model: the mean of the factors A and B is not the mean of the updates BA",
        fix="merge each adapter into its base first (peft: model.merge_and_unload().save_pretrained(...))",
    )


def _refuse_lfs_pointer(path: Path) -> None:
    with path.open("rb") as file:
        is_pointer = file.read(len(_LFS_START)) == _LFS_START
    if is_pointer:
        raise CheckpointError(
            f"{path}: is a Git LFS pointer of {path.stat().st_size} bytes, the weights were not downloaded",
            fix="run `git lfs pull` in that repository",
        )


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))


def _is_index(path: Path) -> bool:
    return path.name.endswith(_INDEX_SUFFIXES)


def _format_of(path: Path) -> Format:
    return "safetensors" if ".safetensors" in path.name.lower() else "torch"


def _shown(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return listed[:_SHOWN] + ([f"... ({len(listed)} in all)"] if len(listed) > _SHOWN else [])
