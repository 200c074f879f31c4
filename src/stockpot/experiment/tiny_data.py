"""Made-up data in the layout that a task names: tables, class folders, IDX files, ObjectNet's own files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
import random
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from stockpot.config import ImageTaskConfig, TaskConfig

__all__ = ["make_images", "make_tables"]

_N_ROWS, _N_EACH, _N_DRAWN, _SIDE = 24, 4, 8, 32
_NOUNS = ("stone", "river", "engine", "letter", "garden", "window", "signal", "harbour")
_VERBS = ("moves", "falls", "answers", "waits", "opens", "holds")
#: As many synsets as a tiny ImageNet has.
_SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")


# ---------------------------------------------------------------------------------------------------------- tables


def make_tables(task: TaskConfig, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Every file that the task names, with 24 rows for each split that reads it; and the words in them.

    Args:
        task: of texts.
        folder: where the files go.

    Returns:
        The task's `data` for these files, and every word in use.
    """
    data: Any = task.data.model_dump(mode="json")
    generator = random.Random(0)
    labels = _labels(task)
    readers: dict[str, set[str]] = {}
    n_readers: dict[str, int] = {}
    for split in _table_splits(data):
        file = split.get("file") or data["file"]
        columns = {*(split.get("text") or data["text"]), split.get("label") or data["label"]}
        readers.setdefault(file, set()).update(columns)
        n_readers[file] = n_readers.get(file, 0) + 1
    for shift in data["shifts"].values():
        if shift.get("of") and shift.get("text"):
            readers[(data["test"] or {}).get("file") or data["file"]].update(shift["text"])
    names = {file: f"{number}-{_file_name(file)}" for number, file in enumerate(readers)}
    label_columns = {data["label"], *(split.get("label") for split in _table_splits(data) if split.get("label"))}
    for number, (file, columns) in enumerate(readers.items()):
        header = data["columns"] or sorted(columns)
        rows = [
            {c: _cell(generator, c in label_columns, labels, at, f"{number}{at}") for c in header}
            for at in range(_N_ROWS * n_readers[file])
        ]
        _write_table(folder / names[file], header, rows, with_header=data["columns"] is None)
    for split in _table_splits(data):
        split["file"] = str((folder / names[split.get("file") or data["file"]]).resolve())
        if split.get("rows") or split.get("fraction"):
            split |= {"rows": _N_ROWS, "fraction": None}
    for shift in data["shifts"].values():
        shift["first"] = 8 if shift.get("first") else None
    data["file"] = None
    answers = [word for said in (getattr(task, "label_words", None) or {}).values() for word in str(said).split()]
    words = sorted({*_NOUNS, *_VERBS, *labels, *answers, *map(str, range(10)), *"abcdefghijklmnopqrstuvwxyz"})
    return data, words


def _table_splits(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (data[name] for name in ("train", "held_out", "test") if data[name] is not None)
    yield from (shift for shift in data["shifts"].values() if shift.get("of") is None)


def _labels(task: TaskConfig) -> tuple[str, ...]:
    if task.is_regression:
        return ()
    return tuple(task.labels or ("0", "1"))


def _cell(generator: random.Random, is_label: bool, labels: Sequence[str], at: int, mark: str) -> str:
    if is_label:
        return labels[at % len(labels)] if labels else f"{generator.uniform(0, 5):.2f}"
    leaning = _NOUNS[at % len(labels) if labels else 0]
    return (
        f"{leaning} {generator.choice(_VERBS)} {generator.choice(_NOUNS)} {' '.join(mark)} {generator.choice(_VERBS)}"
    )


def _file_name(given: str) -> str:
    """The name of one file for a name that may mean several: of a pattern one that fits, in a folder a JSONL file.

    Example:
        >>> [_file_name(given) for given in ("data/train-*.parquet", "hf://datasets/a/b@1/mrpc", "a.tsv.gz")]
        ['train-0.parquet', 'mrpc.jsonl', 'a.tsv.gz']
    """
    name = re.sub(r"[*?]|\[.*?\]", "0", Path(given).name)
    return name if _kinds(name)[0] in _WRITERS else f"{name}.jsonl"


def _kinds(name: str) -> tuple[str, str]:
    """What a table is, and how it is compressed; "" for not."""
    path = Path(name.lower())
    return (Path(path.stem).suffix, path.suffix) if path.suffix in _COMPRESS else (path.suffix, "")


_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    "": bytes,
}


def _write_table(path: Path, header: Sequence[str], rows: list[dict[str, str]], *, with_header: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, compression = _kinds(path.name)
    path.write_bytes(_COMPRESS[compression](_WRITERS[kind](header, rows, with_header)))


def _separated(separator: str) -> _Writer:
    def written(header: Sequence[str], rows: list[dict[str, str]], with_header: bool) -> bytes:
        lines = [separator.join(header)] * with_header + [separator.join(row[c] for c in header) for row in rows]
        return ("\n".join(lines) + "\n").encode()

    return written


def _json_lines(_header: Sequence[str], rows: list[dict[str, str]], _with_header: bool) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _parquet(_header: Sequence[str], rows: list[dict[str, str]], _with_header: bool) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _arrow(_header: Sequence[str], rows: list[dict[str, str]], _with_header: bool) -> bytes:
    import pyarrow

    table, sink = pyarrow.Table.from_pylist(rows), pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


_Writer: TypeAlias = Callable[[Sequence[str], list[dict[str, str]], bool], bytes]
_WRITERS: Mapping[str, _Writer] = {
    ".tsv": _separated("\t"), ".tab": _separated("\t"), ".csv": _separated(","), ".jsonl": _json_lines,
    ".ndjson": _json_lines, ".parquet": _parquet, ".pq": _parquet, ".arrow": _arrow, ".feather": _arrow,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- images


def make_images(task: TaskConfig, folder: Path) -> tuple[dict[str, Any], list[str], int]:
    """Every path that the task names, with a few pictures of each class in the layout that the path has.

    Args:
        task: of images.
        folder: where they go.

    Returns:
        The task's `data` for these paths, the names of the classes, and the side of the pictures in pixels.
    """
    assert isinstance(task, ImageTaskConfig)
    data: Any = task.data.model_dump(mode="json")
    labels = list(_SYNSETS if task.labels in (None, "imagenet") else task.labels)[:4]
    places: dict[str, str] = {}
    splits = [data[name] for name in ("train", "held_out", "test") if data[name] is not None]
    splits += [shift for shift in data["shifts"].values() if shift.get("of") is None]
    paths = [split.get("path") or data["path"] for split in splits]
    is_idx = any("idx3" in given for given in paths)
    for split, given in zip(splits, paths, strict=True):
        split |= {name: None for name in ("list", "mappings") if name in split}
        split |= _few_classes(split, labels)
        if given not in places:
            n_each = max(_N_EACH, math.ceil(_N_DRAWN * paths.count(given) / len(labels)))
            place = _make_place(folder / str(len(places)), given, split, labels, n_each=n_each, seed=len(places))
            places[given] = str(place.resolve())
        split["path"] = places[given]
    for name in ("train", "held_out", "test"):
        split = data[name]
        if split is not None and _is_shared(split["path"], splits):
            split |= {"rows": _N_DRAWN, "fraction": None}
            data["stratify"] = True  # of so few, one class may be missing by chance
    for shift in data["shifts"].values():
        shift["first"] = 4 if shift.get("first") else None
    data |= {"path": None, "cache": str((folder / "cache").resolve())}
    return data, (labels if not is_idx else [str(n) for n in range(len(labels))]), 28 if is_idx else _SIDE


def _is_shared(path: str, splits: Sequence[dict[str, Any]]) -> bool:
    return [split["path"] for split in splits].count(path) > 1


def _few_classes(split: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """A split's projection, on the few classes that there are."""
    subset, groups = split.get("class_subset"), split.get("class_map")
    if isinstance(groups, Mapping):
        return {"class_map": {name: [label] for name, label in zip(groups, labels, strict=False)}}
    return {"class_subset": list(labels[:2])} if subset not in (None, "present") else {}


def _make_place(
    folder: Path, given: str, split: Mapping[str, Any], labels: Sequence[str], *, n_each: int, seed: int
) -> Path:
    if "idx3" in given:
        return _make_idx(folder, Path(given).name, len(labels), seed=seed)
    names: Sequence[str] = split["class_subset"] if isinstance(split.get("class_subset"), list) else labels
    target = folder
    if split.get("class_map") == "objectnet":
        _make_mappings(folder / "mappings", labels)
        names, target = ("alarm_clock", "banana", "t_shirt"), folder / "images"
    elif isinstance(split.get("class_map"), Mapping):
        names = list(split["class_map"])
    elif "imagenetv2" in given or "imagenet-v2" in given:
        names = [str(number) for number in range(len(labels))]
    return _make_folders(target, names, n_each=n_each, side=_SIDE + 6 + 2 * split.get("crop_border", 0), seed=seed)


def _pictures(n: int, side: int, channels: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, 7]).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def _make_folders(folder: Path, names: Sequence[str], *, n_each: int, side: int, seed: int) -> Path:
    from PIL import Image

    pictures = iter(_pictures(len(names) * n_each, side, 3, seed))
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(n_each):
            Image.fromarray(next(pictures)).save(folder / name / f"{number}.JPEG")
    return folder


def _make_idx(folder: Path, name: str, n_classes: int, *, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    n = 24
    images = _pictures(n, 28, 1, seed)[..., 0]
    labels = np.arange(n, dtype=np.uint8) % n_classes
    pack = gzip.compress if name.endswith(".gz") else bytes
    (folder / name).write_bytes(pack(struct.pack(">4I", 0x803, n, 28, 28) + images.tobytes()))
    labels_name = name.replace("images-idx3", "labels-idx1")
    (folder / labels_name).write_bytes(pack(struct.pack(">2I", 0x801, n) + labels.tobytes()))
    return folder / name


def _make_mappings(folder: Path, labels: Sequence[str]) -> None:
    """ObjectNet's four files for the tiny classes: one folder means two of them, one means none."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {
        "folder_to_objectnet_label.json": {"alarm_clock": "Alarm clock", "t_shirt": "T-shirt", "banana": "Banana"},
        "objectnet_to_imagenet_1k.json": {"Alarm clock": "name 0; name 1", "T-shirt": "name 2"},
        "pytorch_to_imagenet_2012_id.json": {str(number): number for number in range(len(labels))},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    lines = "\n".join(f"name {number}" for number in range(len(labels)))
    (folder / "imagenet_to_label_2012_v2").write_text(lines + "\n", encoding="utf-8")
