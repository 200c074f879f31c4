"""Splits of an image task: which items, disjoint, their labels, and which of the model's classes those are about."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from stockpot.config import (
    ImageDataConfig,
    ImageShiftConfig,
    ImageSplitConfig,
    SplitConfig,
)
from stockpot.errors import DataError
from stockpot.tasks.data import Split, with_uniform_labels
from stockpot.tasks.data_files import data_path
from stockpot.tasks.image_cache import ImageCache
from stockpot.tasks.image_corruptions import corrupt_image, item_generator
from stockpot.tasks.image_sources import ImageItem, Labelled, read_items
from stockpot.tasks.labels import encode_labels
from stockpot.tasks.rows import cut_rows
from stockpot.tasks.tables import together

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Corruption",
    "EncodedImages",
    "ImageSplit",
    "decoded",
    "encode_image_labels",
    "load_image_splits",
    "project",
    "split_digest",
    "stratified_order",
]

Groups: TypeAlias = tuple[tuple[int, ...], ...]


class Corruption(NamedTuple):
    """What is done to every image of a shift."""

    kind: str
    severity: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class ImageSplit:
    """The images of one split.

    Args:
        rows: names, labels and item ids; the one "text" of an item is the SHA-256 of its content.
        items: what is loaded, in the same order.
        settings: path and projection.
        corruption: None for images as they are.
    """

    rows: Split
    items: tuple[ImageItem, ...]
    settings: ImageSplitConfig | ImageShiftConfig
    corruption: Corruption | None = None


class EncodedImages(NamedTuple):
    """Class names in order; by split the label [n] int64 of every item, and the model's classes of each label."""

    names: tuple[str, ...]
    ids: dict[str, np.ndarray[Any, np.dtype[np.int64]]]
    groups: dict[str, Groups | None]


def load_image_splits(config: ImageDataConfig, *, folder: Path, cache: ImageCache) -> dict[str, ImageSplit]:
    """Finds every split of an image task; nothing is decoded yet.

    `rows` and `fraction` are drawn as for texts: one permutation of a path's items by `seed`, cut into train, held_out
    and test.

    Args:
        config: paths, sizes, shifts.
        folder: what relative paths are relative to.
        cache: remembers the digests of the images.

    Raises:
        DataError: paths that hold no images, more items asked for than there are.
        MissingExtraError: tables without pyarrow.
    """
    read: dict[tuple[Path, Labelled], list[ImageItem]] = {}
    place: dict[str, tuple[Path, Labelled]] = {}
    wanted: dict[str, ImageSplitConfig | ImageShiftConfig] = {
        **config.splits,
        **{f"shift:{name}": shift for name, shift in config.shifts.items() if shift.of is None},
    }
    errors: list[DataError] = []
    for name, split in wanted.items():
        try:
            path = data_path(split.path or config.path or "", folder)
            labels = data_path(split.labels, folder) if split.labels else None
            place[name] = (path, Labelled(config.image, config.label, labels))
            if place[name] not in read:
                read[place[name]] = []
                read[place[name]] = read_items(*place[name], name=_source_name(split, config))
        except DataError as exc:
            errors.append(exc)
    if errors:
        raise together(errors, f"{len(errors)} paths cannot be used")
    chosen = _chosen(config, place, read, folder)
    found = {
        name: _split(name, chosen[name], split, _source_name(split, config), cache) for name, split in wanted.items()
    }
    for name, shift in config.shifts.items():
        if shift.of is not None:
            found[f"shift:{name}"] = _derived(f"shift:{name}", found[shift.of], shift)
        if shift.corrupt is not None and shift.severity is not None:
            corruption = Corruption(shift.corrupt, shift.severity, config.seed)
            found[f"shift:{name}"] = replace(found[f"shift:{name}"], corruption=corruption)
    ordered = [*config.splits, *(f"shift:{name}" for name in config.shifts)]
    return {name: found[name] for name in ordered}


def _source_name(split: ImageSplitConfig | ImageShiftConfig, config: ImageDataConfig) -> str:
    return split.path or config.path or ""


def _chosen(
    config: ImageDataConfig,
    place: Mapping[str, tuple[Path, Labelled]],
    read: Mapping[tuple[Path, Labelled], list[ImageItem]],
    folder: Path,
) -> dict[str, list[ImageItem]]:
    chosen: dict[str, list[ImageItem]] = {}
    for source, items in read.items():
        sharing = {name: split for name, split in config.splits.items() if place[name] == source}
        listed = {name: _listed(split, source[0], items, folder) for name, split in sharing.items() if split.list}
        chosen |= listed
        taken = {item.name for found in listed.values() for item in found}
        left = [item for item in items if item.name not in taken] if taken else items
        sizes = {
            name: SplitConfig(rows=split.rows, fraction=split.fraction)
            for name, split in sharing.items()
            if name not in listed
        }
        if sizes:
            order = stratified_order([item.label for item in left], config.seed) if config.stratify else None
            name = _source_name(next(iter(sharing.values())), config)
            rows = cut_rows(sizes, len(left), name, config.seed, order=order)
            chosen |= {name: [left[row] for row in rows[name]] for name in sizes}
    for name, shift in config.shifts.items():
        if shift.of is None:
            kept = _of_classes(f"shift:{name}", read[place[f"shift:{name}"]], shift)
            chosen[f"shift:{name}"] = _first(kept, shift.first, f"shift:{name}")
    return {
        name: _of_classes(name, items, config.splits[name]) if name in config.splits else items
        for name, items in chosen.items()
    }


def _of_classes(
    name: str, items: Sequence[ImageItem], settings: ImageSplitConfig | ImageShiftConfig
) -> list[ImageItem]:
    """The items that the split is about, where others are to be left out.

    Raises:
        DataError: there are none.
    """
    if not settings.skip_other_classes:
        return list(items)
    kept = set(settings.class_map if isinstance(settings.class_map, dict) else settings.class_subset or ())
    if found := [item for item in items if str(item.label) in kept]:
        return found
    have = ", ".join(sorted({str(item.label) for item in items})[:8])
    raise DataError(
        f"{name}: none of its images is of a class that it is about ({', '.join(sorted(kept)[:8])}); there is {have}",
        fix="correct class_subset or class_map, or the path",
    )


def _listed(split: ImageSplitConfig, path: Path, items: Sequence[ImageItem], folder: Path) -> list[ImageItem]:
    """The items that a file names, in its order.

    Raises:
        DataError: the file cannot be read, or names what is not there.
    """
    source = data_path(split.list or "", folder)
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{split.list} cannot be read: {exc}", fix="give a text file with one path a line") from exc
    by_name = {item.name: item for item in items}
    missing = [line for line in lines if line not in by_name]
    if missing or not lines:
        shown = ", ".join(missing[:5]) or "it is empty"
        raise DataError(
            f"{split.list}: {len(missing)} of {len(lines)} lines name no image under {path.name}: {shown}",
            fix=f"give paths relative to it, such as {items[0].name}",
        )
    return [by_name[line] for line in dict.fromkeys(lines)]


def stratified_order(labels: Sequence[str | int], seed: int) -> list[int]:
    """A random order in which every stretch holds the classes in the shares of the whole, to about one item each.

    The j-th of a class's m shuffled items is put at (j + u) / m, with one u a class, uniform on [0, 1).

    Example:
        >>> order = stratified_order(["a"] * 8 + ["b"] * 4, seed=0)
        >>> sorted(sum(row >= 8 for row in order[start : start + 6]) for start in (0, 6))
        [2, 2]
    """
    generator = np.random.default_rng([seed, 1])
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(str(label), []).append(row)
    placed = []
    for label in sorted(rows_of):
        rows = generator.permutation(rows_of[label]).tolist()
        start = generator.random()
        placed += [((at + start) / len(rows), row) for at, row in enumerate(rows)]
    return [row for _, row in sorted(placed)]


def _first(items: Sequence[ImageItem], first: int | None, name: str) -> list[ImageItem]:
    if first is not None and first > len(items):
        raise DataError(f"{name}: first {first} of {len(items)} images", fix="ask for fewer")
    return list(items[:first])


def _split(
    name: str,
    items: Sequence[ImageItem],
    settings: ImageSplitConfig | ImageShiftConfig,
    source: str,
    cache: ImageCache,
) -> ImageSplit:
    digests = cache.digests(items)
    rows = Split(
        name,
        tuple((digest,) for digest in digests),
        tuple(item.label for item in items),
        tuple(f"{source}:{item.name}" for item in items),
        class_names=next((item.class_names for item in items if item.class_names), ()),
    )
    return ImageSplit(rows, tuple(items), settings)


def _derived(name: str, of: ImageSplit, shift: ImageShiftConfig) -> ImageSplit:
    items = _first(of.items, shift.first, name)
    n = len(items)
    rows = replace(
        of.rows,
        name=name,
        texts=of.rows.texts[:n],
        labels=of.rows.labels[:n],
        item_ids=of.rows.item_ids[:n],
        of=of.rows.name,
    )
    return ImageSplit(rows, tuple(items), of.settings)


def decoded(split: ImageSplit, row: int, *, mode: str) -> Image:
    """One image of a split: decoded, border cropped, corrupted; never resized.

    Args:
        split: which.
        row: position in it.
        mode: "RGB" or "L".

    Raises:
        DataError: no image, or one that the border leaves nothing of; names the item.
    """
    import PIL.Image

    item = split.rows.item_ids[row]
    raw = split.items[row].load()
    try:
        with PIL.Image.fromarray(raw) if isinstance(raw, np.ndarray) else PIL.Image.open(io.BytesIO(raw)) as opened:
            image = _in_bytes(opened, item).convert(mode)
    except (OSError, ValueError, SyntaxError, TypeError, PIL.Image.DecompressionBombError) as exc:
        why = "its bytes are those of no kind of image" if isinstance(exc, PIL.UnidentifiedImageError) else exc
        raise DataError(f"{item}: cannot be decoded: {why}", fix="mend or remove this image") from exc
    if border := split.settings.crop_border:
        if min(image.size) <= 2 * border:
            small = f"{item}: {image.width} x {image.height} pixels leave nothing inside a border of {border}"
            raise DataError(small, fix="lower `crop_border`, or remove this image")
        image = image.crop((border, border, image.width - border, image.height - border))
    if split.corruption is None:
        return image
    kind, severity, seed = split.corruption
    # The content names the item: the same image is corrupted the same way wherever it is kept.
    return corrupt_image(image, kind, severity, item_generator(kind, seed, split.rows.texts[row][0]))


def _in_bytes(image: Image, item: str) -> Image:
    """An image of 16 bits a pixel in 8, rounded; Pillow's own conversion would cut everything above 255 to white."""
    import PIL.Image

    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return PIL.Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"{item}: pixels of 32 bits (mode {image.mode}), whose range nothing tells",
            fix="save it with 8 or 16 bits a pixel",
        )
    return image


def encode_image_labels(
    splits: Mapping[str, ImageSplit], labels: Sequence[str] | None = None, *, model_labels: Sequence[str] | None = None
) -> EncodedImages:
    """Class numbers for every item, and what each split projects the model's logits to.

    Raises:
        DataError: labels that are none of the classes, or outside a split's subset or map; lists all of them.
    """
    own = {name: split.rows for name, split in splits.items() if not split.settings.class_map and not _of(split)}
    maps = {name: split.rows for name, split in splits.items() if split.settings.class_map and not _of(split)}
    # Split by split: one set may name its classes where another numbers them (ImageNet-V2's folders).
    uniform = {name: with_uniform_labels({name: rows})[name] for name, rows in own.items()}
    names, ids = encode_labels(uniform, labels, model_labels=model_labels)
    groups: dict[str, Groups | None] = dict.fromkeys(splits)
    for name in own:
        groups[name] = _subset(splits[name], ids[name], names)
        if (group := groups[name]) is not None:
            ids[name] = _renumbered(name, ids[name], group, names)
    for name, rows in maps.items():
        given = splits[name].settings.class_map
        mapping = given if isinstance(given, dict) else {}
        groups[name] = tuple(_numbers(meant, names, f"{name}: class_map") for meant in mapping.values())
        renamed = replace(rows, labels=tuple(str(label) for label in rows.labels), class_names=())
        ids[name] = encode_labels({name: renamed}, tuple(mapping)).ids[name]
    for name, split in splits.items():
        if (of := _of(split)) is not None:
            ids[name], groups[name] = ids[of][: len(split.items)], groups[of]
    return EncodedImages(names, ids, groups)


def _of(split: ImageSplit) -> str | None:
    return split.rows.of


def _subset(split: ImageSplit, ids: np.ndarray[Any, Any], names: Sequence[str]) -> Groups | None:
    subset = split.settings.class_subset
    if subset is None:
        return None
    if subset == "present":
        return tuple((int(number),) for number in np.unique(ids))
    return tuple((number,) for number in sorted(_numbers(tuple(subset), names, f"{split.rows.name}: class_subset")))


def _numbers(wanted: Sequence[str], names: Sequence[str], where: str) -> tuple[int, ...]:
    number_of = {name: number for number, name in enumerate(names)}
    if unknown := [name for name in wanted if name not in number_of]:
        raise DataError(
            f"{where} names classes that are none of the task's: {', '.join(unknown[:10])}",
            fix="name classes of the model, or give `labels` in the task",
        )
    return tuple(number_of[name] for name in wanted)


def _renumbered(name: str, ids: np.ndarray[Any, Any], groups: Groups, names: Sequence[str]) -> np.ndarray[Any, Any]:
    position = {group[0]: at for at, group in enumerate(groups)}
    if outside := sorted({int(number) for number in ids} - set(position)):
        shown = ", ".join(names[number] for number in outside[:10])
        raise DataError(f"{name}: {len(outside)} labels are outside its class_subset: {shown}", fix="add them to it")
    return np.fromiter((position[int(number)] for number in ids), dtype=np.int64, count=len(ids))


def project(logits: Any, groups: Groups | None) -> Any:
    """Logits of groups of classes: of each group the largest, ``z'[i, g] = max over c in g of z[i, c]``.

    So the answer is the group of the class that is predicted among those that are in any group.

    Args:
        logits: [n, classes], an array or a torch tensor (gradients flow).
        groups: the classes of each group; None changes nothing.

    Returns:
        [n, groups], of the same kind.

    Example:
        >>> project(np.array([[0.0, 3.0, 1.0, 9.0]]), ((0,), (1, 2))).tolist()
        [[0.0, 3.0]]
    """
    if groups is None:
        return logits
    if all(len(group) == 1 for group in groups):
        return logits[:, [group[0] for group in groups]]
    # Short groups repeat their first class, which does not change the largest.
    width = max(map(len, groups))
    padded = np.array([[*group, *[group[0]] * (width - len(group))] for group in groups])
    if isinstance(logits, np.ndarray):
        return logits[:, padded].max(axis=2)
    return logits[:, padded.tolist()].amax(dim=2)


def split_digest(split: ImageSplit) -> str:
    """SHA-256 of a split's images, labels, border and corruption in order; the same wherever they are kept."""
    content = hashlib.sha256(repr((split.settings.crop_border, split.corruption)).encode())
    for (digest,), label in zip(split.rows.texts, split.rows.labels, strict=True):
        content.update(f"{digest} {label!r}\n".encode())
    return content.hexdigest()
