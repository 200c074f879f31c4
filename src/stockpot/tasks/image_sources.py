"""Where images stand: class folders, tar shards, Parquet and Arrow tables, IDX files. Items in a fixed order."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import struct
import tarfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np

from stockpot._shards import check_no_sets, is_pattern, shards
from stockpot.config import IMAGE_SUFFIXES
from stockpot.errors import DataError, MissingExtraError
from stockpot.tasks.tables import read_arrow, schema_class_names

__all__ = ["ImageItem", "Labelled", "read_items"]

Raw: TypeAlias = "bytes | np.ndarray[Any, Any]"
_Members: TypeAlias = dict[str, tuple[int, int]]  # ending to offset and size in the shard
_PARQUET, _ARROW = (".parquet", ".pq"), (".arrow", ".feather")


@dataclass(frozen=True, slots=True, eq=False)
class ImageItem:
    """One labelled image.

    Args:
        name: where it stands, relative to the source's own folder.
        label: as written: a name or an integer.
        load: its encoded bytes, or its pixels [height, width] or [height, width, 3] uint8.
        stamp: changes when the file it stands in does.
        class_names: of all classes in the order of their numbers, where the file knows them.
    """

    name: str
    label: str | int
    load: Callable[[], Raw]
    stamp: str
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a source is told about its labels.

    Args:
        image: column of images in tables, ending of images in shards that hold several an item.
        label: column of labels in tables, key in `.json` members of shards.
        idx_labels: IDX file of labels, if it is named.
    """

    image: str = "image"
    label: str = "label"
    idx_labels: Path | None = None


def read_items(path: Path, labelled: Labelled, *, name: str) -> list[ImageItem]:
    """The items at a path, in an order that depends on names and contents alone.

    Class folders are sorted by name, files in them by path; shards and tables by file name, then as they stand.

    Args:
        path: folder, file, or pattern of files.
        labelled: columns, keys, files of labels.
        name: what to call the path in errors.

    Raises:
        DataError: nothing there, nothing in it, damaged files, items without labels.
        MissingExtraError: tables without pyarrow.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "cat").mkdir()
        ...     _ = Path(folder, "cat", "1.png").write_bytes(b"...")
        ...     [(item.name, item.label) for item in read_items(Path(folder), Labelled(), name="photos")]
        [('cat/1.png', 'cat')]
    """
    if not path.exists() and not is_pattern(path):
        braces = "; braces are not expanded, write *" if "{" in path.name else ""
        fix = f"check `path`; relative ones start at the task's folder{braces}"
        raise DataError(f"{name}: no such file or folder", fix=fix)
    try:
        items = _read(path, labelled, name)
    except (OSError, EOFError, tarfile.TarError, struct.error, zlib.error) as exc:
        raise DataError(f"{name}: cannot be read: {exc}", fix="mend or replace it") from exc
    if not items:
        raise DataError(f"{name} holds no images", fix="give class folders with images in them, shards or tables")
    return items


def _read(path: Path, labelled: Labelled, name: str) -> list[ImageItem]:
    files = shards(path, lambda file: _reader(file) is not None, name=name)
    if not files:
        return _folder_items(path, name)
    items: list[ImageItem] = []
    for file in files:
        reader = _reader(file.name)
        if reader is None:
            known = f"folders, .tar, {', '.join((*_PARQUET, *_ARROW))}, *idx3-ubyte[.gz]"
            raise DataError(f"{name}: unknown kind of file; known: {known}", fix=_fix_of_unknown(file.name))
        items += reader(file, labelled)
    return items


def _reader(name: str) -> Callable[[Path, Labelled], list[ImageItem]] | None:
    suffix = Path(name).suffix.lower()
    if suffix == ".tar":
        return _tar_items
    if suffix in (*_PARQUET, *_ARROW):
        return _table_items
    return _idx_items if re.search(r"idx[34]", name) else None


def _fix_of_unknown(name: str) -> str:
    if name.endswith((".gz", ".tgz", ".zst", ".bz2", ".xz", ".zip")):
        return "unpack it: images are read from their places in a shard, which a compressed one does not have"
    return "convert it, or name the file of images"


def _stamp(path: Path) -> str:
    """Of one content: equal names, sizes and times occur in other folders, too (archives with time stamps of 0)."""
    stat = path.stat()
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


# ---------------------------------------------------------------------------------------------------------- folders


def _folder_items(path: Path, name: str) -> list[ImageItem]:
    stray = sorted(file.name for file in path.iterdir() if _is_image(file))
    if stray:
        raise DataError(
            f"{name}: {len(stray)} images stand beside the class folders, {stray[0]!r} first",
            fix="move every image into the folder of its class",
        )
    classes = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    check_no_sets(classes, name)
    above = frozenset({os.path.realpath(path)})
    inside = {folder.name: sorted(_files(folder, above)) for folder in classes}
    files = [(label, file) for label, found in inside.items() for file in found if _is_image(file)]
    _refuse(
        [
            f"{label}: {len(found)} files, {found[0].name!r} first"
            for label, found in inside.items()
            if files and found and not any(map(_is_image, found))
        ],
        f"{name}: there are classes without an image of a known ending",
        f"convert their files, or move the folders away; known: {', '.join(sorted(IMAGE_SUFFIXES))}",
    )
    _refuse(
        [file.relative_to(path).as_posix() for _, file in files if not file.is_file()],
        f"{name}: links that lead nowhere",
        "put the images where the links lead, or remove the links",
    )
    return [ImageItem(file.relative_to(path).as_posix(), label, file.read_bytes, _stamp(file)) for label, file in files]


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES


def _files(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """The files below a folder that are not hidden; links to folders are followed, but not back to those above."""
    above |= {os.path.realpath(folder)}
    with os.scandir(folder) as entries:  # which knows folders from files without asking for each
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield Path(entry.path)
            elif os.path.realpath(entry.path) not in above:
                yield from _files(Path(entry.path), above)


# ---------------------------------------------------------------------------------------------------------- shards


def _tar_items(path: Path, labelled: Labelled) -> list[ImageItem]:
    """The webdataset layout: members that share a name up to its first dot are one item."""
    groups: dict[str, _Members] = {}
    items: list[ImageItem] = []
    problems: list[str] = []
    for name, place in _tar_members(path, problems):
        folder, _, file = name.rpartition("/")
        key, dot, extension = file.partition(".")
        if not key or not dot:  # README, LICENSE
            continue
        members = groups.setdefault(f"{folder}/{key}" if folder else key, {})
        if extension.lower() in members:
            problems.append(f"{name}: stands in it twice")
        members[extension.lower()] = place
    stamp = _stamp(path)
    for key, members in groups.items():
        images, label = _tar_images(members, labelled.image), _tar_label(path, members, labelled.label)
        if len(images) != 1 or label is None:
            what = "no image" if not images else "no label" if len(images) == 1 else "more than one image"
            problems.append(f"{key}: {what} among {', '.join(sorted(members))}")
            continue
        items.append(ImageItem(f"{path.name}/{key}", label, partial(_slice, path, *members[images[0]]), stamp))
    _refuse(
        problems,
        f"{path.name}: items that are not one image and one label",
        f"an item is one image and its .cls, or {labelled.label!r} in its .json; of several images "
        f"`image` under `data` names the ending",
    )
    return items


def _tar_members(path: Path, problems: list[str]) -> list[tuple[str, tuple[int, int]]]:
    """Names, offsets and sizes of the files in a shard, to its very end; links that cannot be followed are problems.

    Raises:
        DataError: the shard is cut off or damaged on the way, which `tarfile` takes for its end.
    """
    found: dict[str, tuple[int, int]] = {}
    members = []
    with tarfile.open(path, "r:") as shard:
        for member in shard:
            # A file that tar met before under another name (a hard link) is kept as that name alone.
            place = found.get(member.linkname) if member.islnk() else (member.offset_data, member.size)
            if place is None or member.issym():
                problems.append(f"{member.name}: a link to {member.linkname}, which is no file before it")
            elif member.isfile() or member.islnk():
                found[member.name] = place
                members.append((member.name, place))
        end = shard.offset
    if members and not _only_zeros(path, end):
        raise DataError(
            f"{path.name}: cut off or damaged after {members[-1][0]}, or several shards in one file",
            fix="fetch or write it again; give shards that were put together one by one",
        )
    return members


def _only_zeros(path: Path, start: int) -> bool:
    """Whether a file has bytes from there on, and zeros alone."""
    with path.open("rb") as file:
        file.seek(start)
        blocks = iter(partial(file.read, 2**20), b"")
        return not next(blocks, b"-").strip(b"\0") and not any(block.strip(b"\0") for block in blocks)


def _tar_images(members: _Members, image: str) -> list[str]:
    """The endings of an item's image: the one named, else the plain ones (`jpg`), else the compound (`photo.jpg`)."""
    images = [ending for ending in members if f".{ending.rpartition('.')[2]}" in IMAGE_SUFFIXES]
    named = [ending for ending in images if image in (ending, ending.partition(".")[0])]
    return named or [ending for ending in images if "." not in ending] or images


def _tar_label(path: Path, members: _Members, key: str) -> str | int | None:
    for ending in ("cls", f"{key}.cls"):
        if ending in members:
            return _slice(path, *members[ending]).decode("utf-8", errors="replace").strip() or None
    if "json" not in members:
        return None
    try:
        content = json.loads(_slice(path, *members["json"]))
    except ValueError:
        return None
    label = content.get(key) if isinstance(content, dict) else None
    return label if isinstance(label, str | int) and not isinstance(label, bool) else None


def _slice(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


# ---------------------------------------------------------------------------------------------------------- tables


def _table_items(path: Path, labelled: Labelled) -> list[ImageItem]:
    stamp, items, problems = _stamp(path), [], []
    table, load = _arrow_table(path, (labelled.image, labelled.label), stamp)
    labels = table.column(labelled.label).to_pylist()
    names = schema_class_names(table.schema, labelled.label)
    outside = _outside_stamps(path, table, labelled.image)
    for row, label in enumerate(labels):
        if label is None or isinstance(label, bool) or not isinstance(label, str | int):
            problems.append(f"row {row + 1}: label {label!r}")
            continue
        named = names[label] if isinstance(label, int) and 0 <= label < len(names) else label
        items.append(
            ImageItem(f"{path.name}:{row + 1}", named, partial(load, row), stamp + outside.get(row, ""), names)
        )
    _refuse(problems, f"{path.name}: labels that are neither names nor integers", "mend or remove these rows")
    return items


def _arrow_table(path: Path, columns: tuple[str, str], stamp: str) -> tuple[Any, Callable[[int], bytes]]:
    """The table, of Parquet the labels and the images' paths alone, and what gives the image of a row."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as exc:
        raise MissingExtraError("pyarrow", extra="hf", needed_for=f"reading {path.name}") from exc
    image, label = columns
    try:
        if path.suffix.lower() in _PARQUET:
            with pq.ParquetFile(path) as file:
                _check_columns(path, columns, file.schema_arrow.names)
                groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                table = file.read(columns=[label, f"{image}.path"])
            ends = list(accumulate(groups))
            return table, partial(_parquet_cell, path, stamp, image, ends)
        table = read_arrow(path)
        _check_columns(path, columns, table.column_names)
    except pa.ArrowException as exc:
        raise DataError(f"{path.name}: cannot be read: {exc}", fix="mend or replace it") from exc
    return table, partial(_cell, path, table.column(image), 0)


def _outside_stamps(path: Path, table: Any, image: str) -> dict[int, str]:
    """By row, the stamps of files that `datasets`' images name; those of images in the table need not exist."""
    import pyarrow.compute as pc

    column = table.column(image) if image in table.column_names else None
    if column is None or not hasattr(column.type, "get_field_index") or column.type.get_field_index("path") < 0:
        return {}
    places = {row: path.parent / name for row, name in enumerate(pc.struct_field(column, "path").to_pylist()) if name}
    return {row: f":{_stamp(place)}" for row, place in places.items() if place.is_file()}


def _check_columns(path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    if missing := [column for column in wanted if column not in there]:
        raise DataError(
            f"{path.name}: no column {', '.join(missing)}; there is {', '.join(there)}",
            fix="name the columns with `image` and `label` under `data`",
        )


def _parquet_cell(path: Path, stamp: str, column: str, ends: Sequence[int], row: int) -> bytes:
    group = bisect_right(ends, row)
    with _ONE_READER:  # others wait for the group that is being read, and do not read it, too
        images = _row_group(path, stamp, column, group)
    return _cell(path, images, ends[group] - len(images), row)


_ONE_READER = Lock()


@lru_cache(maxsize=8)
def _row_group(path: Path, _stamp: str, column: str, group: int) -> Any:
    """The images of one row group: those of all files may be more than the memory holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group, columns=[column]).column(column)
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{path.name}: cannot be read: {exc}", fix="mend or replace it") from exc


def _cell(path: Path, images: Any, start: int, row: int) -> bytes:
    value = images[row - start].as_py()
    content, named = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if content is None and named and (outside := path.parent / str(named)).is_file():
        return outside.read_bytes()
    if not isinstance(content, bytes):
        lacking = f", and there is no file {named}" if named else ""
        raise DataError(
            f"{path.name}, row {row + 1}: the image is no bytes{lacking}",
            fix="embed the images in the file, as `save_to_disk` and `push_to_hub` of `datasets` do",
        )
    return content


# ---------------------------------------------------------------------------------------------------------- IDX


def _idx_items(path: Path, labelled: Labelled) -> list[ImageItem]:
    labels_path = labelled.idx_labels or path.with_name(re.sub(r"images([-.])idx[34]", r"labels\1idx1", path.name))
    if labels_path == path or not labels_path.is_file():
        raise DataError(f"{path.name}: no file of labels {labels_path.name}", fix="name it with `labels` at the split")
    pixels, labels = _idx(path), _idx(labels_path)
    if pixels.ndim not in (3, 4) or labels.ndim != 1 or len(pixels) != len(labels):
        raise DataError(
            f"{path.name} has the shape {pixels.shape}, {labels_path.name} {labels.shape}",
            fix="give one label per image",
        )
    stamp = f"{_stamp(path)}:{_stamp(labels_path)}"
    return [
        ImageItem(f"{path.name}:{row + 1}", int(label), partial(pixels.__getitem__, row), stamp)
        for row, label in enumerate(labels)
    ]


def _idx(path: Path) -> np.ndarray[Any, Any]:
    """The unsigned bytes of an IDX file (magic 0, 0, 8, number of dimensions; sizes big-endian), gzipped or not."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(
            f"{path.name}: no IDX file of unsigned bytes: it starts with {content[:4]!r}",
            fix="name a file of images in the IDX format (magic 0, 0, 8, 3)",
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path.name}: {len(content) - start} bytes of values, but its header says {shape}",
            fix="fetch it again: it was cut off",
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _refuse(problems: Sequence[str], message: str, fix: str) -> None:
    if problems:
        shown = [*problems[:10], *([f"... {len(problems) - 10} more"] if len(problems) > 10 else [])]
        raise DataError(f"{message} ({len(problems)})", problems=shown, fix=fix)
