"""How many examples an experiment's splits hold, by the code that draws them, where that takes no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot._shards import is_pattern
from stockpot.config import IMAGE_SUFFIXES, ExperimentConfig, ImageTaskConfig, SplitConfig, resolve_file
from stockpot.tasks.image_sources import Labelled, read_items
from stockpot.tasks.rows import cut_rows
from stockpot.tasks.tables import read_table

__all__ = ["count_examples"]

#: What is read within a second or so.
_LARGEST_TABLE, _MOST_FILES = 32 * 2**20, 20_000


def count_examples(config: ExperimentConfig) -> tuple[dict[str, int | None], list[str]]:
    """Examples by split, None where they are not known, and what is to be said about that.

    Args:
        config: the experiment.

    Raises:
        DataError: files that are here, are small enough to be read, and cannot be used; more rows asked for than they
            have.
    """
    data: Any = config.task.data
    own = {**data.splits, **{f"shift:{name}": shift for name, shift in data.shifts.items() if shift.of is None}}
    places = {name: _place(split, data) for name, split in own.items()}
    found: dict[str, int | None] = {}
    for place in dict.fromkeys(places.values()):
        sharing = {name: split for name, split in own.items() if places[name] == place}
        found |= _in_one_place(sharing, place, config)
    for name, shift in data.shifts.items():
        whole = found.get(shift.of or f"shift:{name}")
        found[f"shift:{name}"] = shift.first if shift.first is not None else whole
    ordered = {name: found[name] for name in (*data.splits, *(f"shift:{name}" for name in data.shifts))}
    missing = [place for place in dict.fromkeys(places.values()) if _is_missing(place, config)]
    return _with_expected(ordered, config, missing)


def _with_expected(
    found: dict[str, int | None], config: ExperimentConfig, missing: Sequence[str]
) -> tuple[dict[str, int | None], list[str]]:
    said = config.expected.examples if config.expected is not None else {}
    taken = [name for name, n in found.items() if n is None and name in said]
    found |= {name: said[name] for name in taken}
    unknown = [name for name, n in found.items() if n is None]
    notes = [f"data that are not on this disk: {', '.join(missing)}"] if missing else []
    notes += [f"examples of {', '.join(unknown)}: not stated as rows, and not counted from here"] if unknown else []
    notes += [f"examples of {', '.join(taken)}: not counted, but taken from `expected` in the file"] if taken else []
    return found, notes


def _place(split: Any, data: Any) -> str:
    """The file or path of a split, as it is written."""
    named = ("path",) if hasattr(data, "path") else ("file",)
    return next(str(given) for key in named for of in (split, data) if (given := getattr(of, key, None)))


def _in_one_place(sharing: Mapping[str, Any], place: str, config: ExperimentConfig) -> dict[str, int | None]:
    """Examples of the splits and shifts that share a file or path."""
    data: Any = config.task.data
    whole = None if place.startswith("hf://") else _counted(sharing, place, config)
    found: dict[str, int | None] = {
        name: None if getattr(split, "skip_other_classes", False) else whole for name, split in sharing.items()
    }
    lists = {name: _listed(split.list, config) for name, split in sharing.items() if getattr(split, "list", None)}
    sizes = {
        name: SplitConfig(rows=split.rows, fraction=split.fraction)
        for name, split in sharing.items()
        if name in data.splits and name not in lists
    }
    if whole is None or None in lists.values():
        found |= {name: split.rows for name, split in sizes.items()}
    elif sizes:
        left = whole - len(set().union(*(lines for lines in lists.values() if lines is not None)))
        found |= {name: len(rows) for name, rows in cut_rows(sizes, left, place, data.seed).items()}
    return found | {name: None if lines is None else len(lines) for name, lines in lists.items()}


def _listed(given: str, config: ExperimentConfig) -> set[str] | None:
    path = resolve_file(given, config.task.folder)
    if not path.is_file():
        return None
    return {line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()}


def _is_missing(place: str, config: ExperimentConfig) -> bool:
    path = resolve_file(place, config.task.folder)
    if place.startswith("hf://") or path.exists():
        return False
    return not is_pattern(path) or not any(path.parent.glob(path.name))


def _counted(sharing: Mapping[str, Any], place: str, config: ExperimentConfig) -> int | None:
    """Rows of small tables, images of IDX files and of small folders; None for all else."""
    path, data = resolve_file(place, config.task.folder), config.task.data
    if _is_missing(place, config):
        return None
    if isinstance(config.task, ImageTaskConfig):
        return _images(path, place)
    given: Any = data
    if _size(path) > _LARGEST_TABLE:
        return None
    columns = [
        column for split in sharing.values() for column in (*(split.text or given.text), split.label or given.label)
    ]
    return read_table(path, columns, name=place, header=given.columns).n_rows


def _size(path: Path) -> int:
    files = path.parent.glob(path.name) if is_pattern(path) else path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _images(path: Path, place: str) -> int | None:
    import gzip

    if path.is_file() and "idx3" in path.name:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
            return int.from_bytes(content.read(8)[4:], "big")
    if not path.is_dir():
        return None
    for number, file in enumerate(path.rglob("*")):
        if number >= _MOST_FILES or (file.is_file() and file.suffix.lower() not in IMAGE_SUFFIXES):
            return None  # too many, or shards and tables, which are not read for this
    return len(read_items(path, Labelled(), name=place))
