"""What lies in some folders and beside them: model folders, a stockpot output, tables and image folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from stockpot.checkpoints import holds_weights
from stockpot.config import IMAGE_SUFFIXES
from stockpot.errors import ConfigError
from stockpot.outputs.whole import EXPERIMENT_NAME
from stockpot.scouting.recorded import recorded_task

__all__ = ["Scene", "scout"]

_CONFIGS = ("config.json", "open_clip_config.json")
_EPOCH = re.compile(r"(?:checkpoint|epoch|step)[-_](\d+)")
_DEEPEST = 3
_MOST_INNER = 100  # folders of one level that are looked into
#: Names of splits in file and folder names, in the order in which they are tried.
_SPLITS = {
    "train": re.compile(r"(^|[-_.])(train|training)([-_.]|$)"),
    "held_out": re.compile(r"(^|[-_.])(held[-_]?out|valid|validation|val|dev|eval)([-_.]|$)"),
    "test": re.compile(r"(^|[-_.])(test)([-_.]|$)"),
}
_TABLES = (".tsv", ".tab", ".csv", ".jsonl", ".ndjson", ".parquet", ".pq", ".arrow", ".feather")
_PACKED = (".gz", ".xz", ".bz2")
_SHARD = re.compile(r"-\d{5}-of-(\d{5})")  # as the hub names them


@dataclass(frozen=True, slots=True)
class Scene:
    """What was found.

    Args:
        models: folders with configuration and weights, one a run; of several checkpoints of a run the last.
        tables: split ("train", "held_out", "test" or "" where the name says none) -> files.
        images: split -> folders of class folders.
        task: output folder of stockpot whose record names a task.
        foreign: what was recognised and cannot be read as it is, with what to do.
        places: where data were looked for.
    """

    models: tuple[Path, ...]
    tables: dict[str, list[Path]] = field(default_factory=dict)
    images: dict[str, list[Path]] = field(default_factory=dict)
    task: Path | None = None
    foreign: tuple[str, ...] = ()
    places: tuple[Path, ...] = ()

    @property
    def runs(self) -> tuple[Path, ...]:
        """The models to compare: those of the output of stockpot where there is one (beside data a start may lie)."""
        output = self.task.resolve() if self.task is not None else Path("/")
        return tuple(model for model in self.models if model.resolve().is_relative_to(output)) or self.models


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
        foreign += [line for line in (*_foreign(folder), *_halves(folder, _DEEPEST)) if line not in foreign]
    tables: dict[str, list[Path]] = {}
    images: dict[str, list[Path]] = {}
    places = _data_places(folders, models)
    for place in places:
        _note_data(place, models, tables, images)
    if not tables and not images:
        here = Path.cwd()  # further up lie the folders of others
        inner = _inner_places([place for place in places if place.resolve().is_relative_to(here)], models)
        if len(inner) == 1:
            _note_data(inner[0], models, tables, images)
            places.append(inner[0])
        elif inner:
            foreign.append(f"data lie in {', '.join(map(str, inner))}; name one of these folders beside the runs")
    return Scene(tuple(models), tables, images, _own_task(folders), tuple(foreign), tuple(places))


def _why(folder: Path) -> str:
    return "is a file" if folder.exists() else "no such folder"


def _models(folder: Path, depth: int) -> Iterator[Path]:
    if _is_configured(folder) and holds_weights(folder):
        yield folder
        return
    if depth == 0 or _is_image_folder(folder):
        return
    if (folder / "ingredients").is_dir():  # an output of stockpot: its soups are no runs
        yield from _models(folder / "ingredients", 1)
        return
    inside = [path for path in sorted(folder.iterdir()) if _is_open(path)]
    epochs = [(int(found[1]), path) for path in inside if (found := _EPOCH.fullmatch(path.name))]
    if epochs:  # of one run; the others are the same run at earlier times
        yield from _models(max(epochs)[1], 0)
        return
    for path in inside:
        yield from _models(path, depth - 1)


def _halves(folder: Path, depth: int) -> Iterator[str]:
    """Folders that would be models, had they both configuration and weights."""
    if (folder / EXPERIMENT_NAME).is_file():  # an output of stockpot: what it keeps there is no model
        return
    if (folder / "adapter_config.json").is_file():
        yield (
            f"{folder}: a LoRA adapter, no model; merge it into its base first "
            "(peft: model.merge_and_unload().save_pretrained(...))"
        )
        return
    configured, weighted = _is_configured(folder), holds_weights(folder)
    if (configured and weighted) or (not weighted and _is_image_folder(folder)):
        return
    inside = [] if depth == 0 else [path for path in sorted(folder.iterdir()) if _is_open(path)]
    if weighted:
        yield (
            f"{folder}: weights without config.json; copy the configuration that they were trained with beside them, "
            "or write a task of family `custom` for a network of your own (docs/guide/my-own-model.md)"
        )
    elif configured and not any(True for path in inside for _ in _models(path, depth - 1)):
        yield f"{folder}: config.json without weights (model.safetensors); did the run end?"
    for path in inside:
        yield from _halves(path, depth - 1)


def _is_configured(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGS)


def _is_open(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _foreign(folder: Path) -> Iterator[str]:
    """timm's own training output, one line a run: pickled together with its arguments."""
    runs: dict[Path, list[Path]] = {}
    deep = ("*/" * depth + "*.pth.tar" for depth in range(_DEEPEST))  # output/train/DATE-MODEL/last.pth.tar
    for path in sorted({path for pattern in deep for path in folder.glob(pattern)}):
        runs.setdefault(path.parent, []).append(path)
    for run, files in runs.items():
        best = next((file for name in ("model_best", "last") for file in files if file.name == f"{name}.pth.tar"), None)
        name, classes = _timm_arguments(run)
        made = f"timm.create_model({name}, num_classes={classes}, checkpoint_path={str(best or files[-1])!r})"
        yield (
            f"{run}: timm's training checkpoint, a pickle that is not opened here; write it once as a model folder: "
            f"`timm.models.save_for_hf({made}, FOLDER, safe_serialization=True)`"
        )


def _timm_arguments(run: Path) -> tuple[str, str]:
    """Architecture and number of classes as timm's args.yaml says them, ready for a line of Python."""
    try:
        said = yaml.safe_load((run / "args.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        said = None
    said = said if isinstance(said, dict) else {}
    name, classes = said.get("model"), said.get("num_classes")
    return repr(name) if isinstance(name, str) else "ARCHITECTURE", str(classes) if isinstance(classes, int) else "N"


def _own_task(folders: Sequence[Path]) -> Path | None:
    """The output folder of stockpot that is one of the folders, or holds one (`OUT/ingredients/run-00`)."""
    return next(
        (
            place
            for folder in folders
            for place in (folder, *folder.resolve().parents[:2])
            if recorded_task(place) is not None
        ),
        None,
    )


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


def _note_data(
    place: Path, models: Sequence[Path], tables: dict[str, list[Path]], images: dict[str, list[Path]]
) -> None:
    for path in sorted(place.iterdir()):
        if path.is_file() and _is_table(path):
            _noted(tables, _split_of(_stem(path)), _of_all_shards(path))
        elif _is_open(path) and path not in models and _is_saved_split(path):
            _noted(tables, _split_of(path.name), path)
        elif _is_open(path) and path not in models and _is_image_folder(path):
            _noted(images, _split_of(path.name), path)


def _inner_places(places: Sequence[Path], models: Sequence[Path]) -> list[Path]:
    """Folders up to two levels below some places with held-out data by name (`glue_data/MRPC`); not those of runs."""
    found: list[Path] = []
    known = {near.resolve() for model in models for near in (model, model.parent)}
    level = [place for place in places if place.resolve() not in known]
    for _ in range(_DEEPEST - 1):
        level = [path for place in level for path in _first(iter(sorted(place.iterdir())), _MOST_INNER)]
        level = [path for path in level if _is_open(path) and path.resolve() not in known][:_MOST_INNER]
        for path in level:
            tables: dict[str, list[Path]] = {}
            images: dict[str, list[Path]] = {}
            _note_data(path, models, tables, images)
            is_new = path.resolve() not in [other.resolve() for other in found]
            if is_new and ("held_out" in tables or "held_out" in images):
                found.append(path)
    return found


def _noted(found: dict[str, list[Path]], split: str, path: Path) -> None:
    if path not in (known := found.setdefault(split, [])):
        known.append(path)


def _of_all_shards(path: Path) -> Path:
    """`train-*-of-00002.parquet` for one of two shards; a file on its own as it is."""
    pattern = path.with_name(_SHARD.sub(r"-*-of-\1", path.name))
    return pattern if sum(1 for _ in path.parent.glob(pattern.name)) > 1 else path


def _split_of(name: str) -> str:
    return next((split for split, pattern in _SPLITS.items() if pattern.search(name.lower())), "")


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() in _PACKED else path.stem


def _is_table(path: Path) -> bool:
    kind = Path(path.stem).suffix if path.suffix.lower() in _PACKED else path.suffix
    return kind.lower() in _TABLES and path.name not in {"results.csv", "progress.jsonl", "summary.csv"}


def _is_saved_split(folder: Path) -> bool:
    """What `datasets` writes by `save_to_disk`."""
    return (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()


def _is_image_folder(folder: Path) -> bool:
    """At least two class folders, each with an image among its first entries."""
    classes = [path for path in sorted(folder.iterdir()) if _is_open(path)][:3]
    return len(classes) >= 2 and all(
        any(file.suffix.lower() in IMAGE_SUFFIXES for file in _first(path.iterdir(), 20)) and not _is_configured(path)
        for path in classes
    )


def _first(entries: Iterator[Path], n: int) -> list[Path]:
    return [entry for _, entry in zip(range(n), entries, strict=False)]
