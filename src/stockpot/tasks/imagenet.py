"""ImageNet's classes and those of its shifted test sets, from timm's tables and from the files that ObjectNet ships."""

from __future__ import annotations

import json
import pkgutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.config import ImageDataConfig, ImageTaskConfig
from stockpot.errors import DataError
from stockpot.tasks.data_files import data_path
from stockpot.tasks.image_models import import_timm

__all__ = ["imagenet_labels", "imagenet_subset", "objectnet_map", "with_known_classes"]

_TABLES = {"imagenet-a": "imagenet_a_synsets.txt", "imagenet-r": "imagenet_r_synsets.txt"}
_MAPPINGS = (
    "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json", "pytorch_to_imagenet_2012_id.json",
    "imagenet_to_label_2012_v2",
)  # fmt: skip

_AS_PUBLISHED = "give the file as it was published"


def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 synsets of ILSVRC 2012 in the order of the outputs of every model trained on them: n01440764, ...

    Raises:
        MissingExtraError: timm, whose table it is, is not installed.
    """
    timm = import_timm()
    return tuple(timm.data.ImageNetInfo("imagenet-1k").label_names())


def imagenet_subset(name: str) -> tuple[str, ...]:
    """The 200 synsets of ImageNet-A (Hendrycks et al. 2021a) or ImageNet-R (Hendrycks et al. 2021b).

    Args:
        name: "imagenet-a" or "imagenet-r".

    Raises:
        MissingExtraError: timm is not installed.
        DataError: this timm has no such table.
    """
    import_timm()
    content = pkgutil.get_data("timm.data", f"_info/{_TABLES[name]}")
    if not content:
        raise DataError(f"{name}: the installed timm has no list of its classes", fix="give them as `class_subset`")
    return tuple(content.decode("utf-8").split())


def objectnet_map(mappings: Path, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """ObjectNet's folders that are about ImageNet classes, each with all the classes that it means.

    Args:
        mappings: the folder of that name that the data set ships.
        labels: ImageNet's classes in order.

    Returns:
        Folder -> labels, 113 of them for the real data set.

    Raises:
        DataError: files that are missing, or name what another does not know; all are listed.

    Source: Barbu et al. 2019, and the layout of the published archive.
    """
    missing = [name for name in _MAPPINGS if not (mappings / name).is_file()]
    if missing:
        raise DataError(
            f"{mappings}: {', '.join(missing)} missing",
            fix="give ObjectNet's own `mappings` folder as `mappings:` of the split",
        )
    folders, to_imagenet, ids = (_json(mappings / name) for name in _MAPPINGS[:3])
    label_of = _labels_by_name(mappings, ids, labels)
    folder_of = {str(title): folder for folder, title in folders.items()}
    meant = {title: [name.strip() for name in str(names).split(";")] for title, names in to_imagenet.items()}
    unknown = [title for title in meant if title not in folder_of]
    unknown += [name for names in meant.values() for name in names if name not in label_of]
    if unknown:
        raise DataError(f"{mappings}: names that no other file has: {', '.join(unknown[:10])}", fix="use one release")
    return {folder_of[title]: tuple(label_of[name] for name in names) for title, names in meant.items()}


def _labels_by_name(mappings: Path, ids: Mapping[str, Any], labels: Sequence[str]) -> dict[str, str]:
    """ImageNet's classes by the names that ObjectNet has for them; a name of two classes (crane) means neither.

    Raises:
        DataError: files that cannot be read, or that number other classes than the task has.
    """
    names = mappings / _MAPPINGS[3]
    try:
        lines = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{names}: cannot be read: {exc}", fix=_AS_PUBLISHED) from exc
    try:
        output_of = {int(identity): int(output) for output, identity in ids.items()}
    except (ValueError, TypeError) as exc:
        raise DataError(f"{mappings / _MAPPINGS[2]}: not numbers: {exc}", fix=_AS_PUBLISHED) from exc
    if (last := max(output_of.values(), default=-1)) >= len(labels):
        raise DataError(
            f"{mappings / _MAPPINGS[2]}: numbers classes to {last}, the task has {len(labels)} labels",
            fix="`class_map: objectnet` is for models of all classes of ImageNet: use `labels: imagenet`",
        )
    found = [(line, output_of[at]) for at, line in enumerate(lines) if at in output_of]
    count = Counter(line for line, _ in found)
    return {line: labels[output] for line, output in found if count[line] == 1}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: not readable as JSON: {exc}", fix=_AS_PUBLISHED) from exc
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a JSON object", fix=_AS_PUBLISHED)
    return content


def with_known_classes(config: ImageTaskConfig, folder: Path) -> ImageTaskConfig:
    """The task with lists in place of the names `imagenet`, `imagenet-a`, `imagenet-r` and `objectnet`.

    Args:
        config: the task.
        folder: what relative paths are relative to.

    Raises:
        MissingExtraError, DataError: as the functions above.
    """
    labels = imagenet_labels() if config.labels == "imagenet" else config.labels
    data: ImageDataConfig = config.data
    splits = {name: _with_lists(split, data, folder, labels) for name, split in data.splits.items()}
    shifts = {name: _with_lists(shift, data, folder, labels) for name, shift in data.shifts.items()}
    changed = data.model_copy(update={**splits, "shifts": shifts})
    return config.model_copy(update={"labels": labels, "data": changed})


def _with_lists(split: Any, data: ImageDataConfig, folder: Path, labels: tuple[str, ...] | None) -> Any:
    changes: dict[str, Any] = {}
    if split.class_subset in _TABLES:
        changes["class_subset"] = imagenet_subset(split.class_subset)
    if split.class_map == "objectnet":
        place = data_path(split.path or data.path or "", folder)
        mappings = data_path(split.mappings, folder) if split.mappings else place.parent / "mappings"
        changes["class_map"] = objectnet_map(mappings, labels or imagenet_labels())
        changes["skip_other_classes"] = True
    return split.model_copy(update=changes)
