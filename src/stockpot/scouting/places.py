"""What lies in some folders and beside them: model folders, a stockpot output, tables and image folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stockpot.checkpoints import holds_weights
from stockpot.errors import ConfigError

__all__ = ["Scene", "scout"]

_CONFIGS = ("config.json", "open_clip_config.json")
_EPOCH = re.compile(r"(?:checkpoint|epoch|step)[-_](\d+)")
_DEEPEST = 3
#: Names of splits in file and folder names, in the order in which they are tried.
_SPLITS = {
    "train": re.compile(r"(^|[-_.])(train|training)([-_.]|$)"),
    "held_out": re.compile(r"(^|[-_.])(held[-_]?out|valid|validation|val|dev|eval)([-_.]|$)"),
    "test": re.compile(r"(^|[-_.])(test)([-_.]|$)"),
}
_TABLES = (".tsv", ".csv", ".jsonl", ".ndjson", ".parquet")
_PACKED = (".gz", ".xz", ".bz2")
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})


@dataclass(frozen=True, slots=True)
class Scene:
    """What was found.

    Args:
        models: folders with configuration and weights, one a run; of several checkpoints of a run the last.
        tables: split ("train", "held_out", "test" or "" where the name says none) -> files.
        images: split -> folders of class folders.
        task: of an experiment of stockpot that lies here.
        foreign: what was recognised and cannot be read as it is, with what to do.
    """

    models: tuple[Path, ...]
    tables: dict[str, list[Path]] = field(default_factory=dict)
    images: dict[str, list[Path]] = field(default_factory=dict)
    task: Path | None = None
    foreign: tuple[str, ...] = ()


def scout(folders: Sequence[Path]) -> Scene:
    """Looks into folders, three levels deep, and for data beside them too.

    Args:
        folders: of runs, of one run, of data.

    Raises:
        ConfigError: a folder that is none; all are listed.
    """
    if missing := [f"{folder}: {_why(folder)}" for folder in folders if not folder.is_dir()]:
        raise ConfigError("nothing to look at", problems=missing, fix="give folders of fine-tuned models")
    models: list[Path] = []
    foreign: list[str] = []
    for folder in folders:
        models += [model for model in _models(folder, _DEEPEST) if model not in models]
        foreign += _foreign(folder)
    tables: dict[str, list[Path]] = {}
    images: dict[str, list[Path]] = {}
    for place in _data_places(folders, models):
        for path in sorted(place.iterdir()):
            if path.is_file() and _is_table(path):
                _noted(tables, _split_of(_stem(path)), path)
            elif path.is_dir() and path not in models and _is_image_folder(path):
                _noted(images, _split_of(path.name), path)
    return Scene(tuple(models), tables, images, _own_task(folders), tuple(foreign))


def _why(folder: Path) -> str:
    return "is a file" if folder.exists() else "no such folder"


def _models(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).is_file() for name in _CONFIGS) and holds_weights(folder):
        yield folder
        return
    if depth == 0:
        return
    if (folder / "ingredients").is_dir():  # an output of stockpot: its soups are no runs
        yield from _models(folder / "ingredients", 1)
        return
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    epochs = [(int(found[1]), path) for path in inside if (found := _EPOCH.fullmatch(path.name))]
    if epochs:  # of one run; the others are the same run at earlier times
        yield from _models(max(epochs)[1], 0)
        return
    for path in inside:
        yield from _models(path, depth - 1)


def _foreign(folder: Path) -> Iterator[str]:
    """timm's own training output: pickled together with its arguments."""
    for path in sorted({*folder.glob("*.pth.tar"), *folder.glob("*/*.pth.tar")}):
        yield (
            f"{path}: timm's training checkpoint, a pickle that is not opened here; load it with timm and write "
            "`timm.models.save_for_hf(model, FOLDER, safe_serialization=True)`"
        )


def _own_task(folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        for place in (folder, folder.parent):
            if (place / "experiment.json").is_file() and (place / "results.json").is_file():
                return place
    return None


def _data_places(folders: Sequence[Path], models: Sequence[Path]) -> list[Path]:
    """The folders, their parents, and a `data` in either; each once."""
    found: list[Path] = []
    for folder in folders:
        for near in (folder, folder.resolve().parent):
            for place in (near, near / "data", near / "dataset"):
                is_new = place.is_dir() and place.resolve() not in [known.resolve() for known in found]
                if is_new and place not in models:
                    found.append(place)
    return found


def _noted(found: dict[str, list[Path]], split: str, path: Path) -> None:
    found.setdefault(split, []).append(path)


def _split_of(name: str) -> str:
    return next((split for split, pattern in _SPLITS.items() if pattern.search(name.lower())), "")


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() in _PACKED else path.stem


def _is_table(path: Path) -> bool:
    kind = Path(path.stem).suffix if path.suffix.lower() in _PACKED else path.suffix
    return kind.lower() in _TABLES and path.name not in {"results.csv", "progress.jsonl"}


def _is_image_folder(folder: Path) -> bool:
    """At least two class folders, each with an image among its first entries."""
    classes = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")][:3]
    return len(classes) >= 2 and all(
        any(file.suffix.lower() in _IMAGES for file in _first(path.iterdir(), 20)) for path in classes
    )


def _first(entries: Iterator[Path], n: int) -> list[Path]:
    return [entry for _, entry in zip(range(n), entries, strict=False)]
