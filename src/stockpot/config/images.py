"""The schema of a task.yaml of images: folders, shards, tables and IDX files; projections; corruptions; the cache."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, Strict, model_validator

from stockpot.config._problems import Problem, Settings, several
from stockpot.config.task import DRAWN_SPLITS, LabelNames, TaskConfig

__all__ = [
    "IMAGE_CORRUPTION_NAMES",
    "IMAGE_SUFFIXES",
    "ImageDataConfig",
    "ImageEvaluationConfig",
    "ImageShiftConfig",
    "ImageSplitConfig",
    "ImageTaskConfig",
]

#: What an image shift's `corrupt` may be; `stockpot.tasks.image_corruptions` does them.
IMAGE_CORRUPTION_NAMES = (
    "noise", "blur", "contrast", "brightness", "jpeg", "pixelate", "rotation", "translation",
)  # fmt: skip

#: Endings of the files that are taken as images in folders and shards.
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".jp2", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".avif", ".gif", ".tga", ".tif", ".tiff",
})  # fmt: skip

_Name = Annotated[str, Field(min_length=1)]


def _name_or_number(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _several_names(value: object) -> object:
    return tuple(map(_name_or_number, value)) if isinstance(value, list | tuple) else (_name_or_number(value),)


_Names = Annotated[tuple[_Name, ...], BeforeValidator(_several_names), Strict(False), Field(min_length=1)]
_Key = Annotated[_Name, BeforeValidator(_name_or_number)]


class _Projected(Settings):
    """Where images stand, and which of the model's classes their labels are about.

    Args:
        path: a folder of class folders, a `.tar` shard or a folder of them, a `.parquet` or `.arrow` file or a folder
            of them, or an IDX file of images; None takes the data's.
        labels: IDX file of labels; None takes the one named like the images' (`-images-idx3-` -> `-labels-idx1-`).
        class_subset: logits are restricted to these label names; "present" takes those that the split holds,
            "imagenet-a" and "imagenet-r" the 200 of these data sets (timm's tables).
        class_map: the split's own label -> the label names that it means; its logit is the largest of theirs.
            "objectnet" makes it of the files in `mappings`, and leaves out folders that mean no ImageNet class.
        mappings: ObjectNet's folder of that name; None takes the one beside `path`.
        skip_other_classes: whether items outside class_subset or class_map are left out instead of being an error.
        crop_border: pixels cut off on every side before anything else.
    """

    path: _Name | None = None
    labels: _Name | None = None
    class_subset: Literal["present", "imagenet-a", "imagenet-r"] | LabelNames | None = None
    class_map: Literal["objectnet"] | Annotated[dict[_Key, _Names], Field(min_length=2)] | None = None
    mappings: _Name | None = None
    skip_other_classes: bool = False
    crop_border: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_projection(self) -> Self:
        if self.class_subset is not None and self.class_map is not None:
            raise several([((), "got class_subset and class_map; allowed: one of them")])
        if self.mappings is not None and self.class_map != "objectnet":
            raise several([(("mappings",), "acts with class_map: objectnet alone; remove one of the two")])
        if self.skip_other_classes and self.class_map is None and self.class_subset is None:
            raise several([(("skip_other_classes",), "needs class_subset or class_map")])
        if self.skip_other_classes and self.class_subset == "present":
            raise several([(("skip_other_classes",), "leaves out nothing: every class there is present; remove it")])
        own = self.class_map if isinstance(self.class_map, dict) else {}
        names = [name for meant in own.values() for name in meant]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise several([(("class_map",), f"{', '.join(twice)} more than once; allowed: every class in one group")])
        return self


class ImageSplitConfig(_Projected):
    """Where the images of one split come from: everything at a path, or items drawn from it.

    Args:
        rows: number of items to draw; None with fraction None takes everything in order.
        fraction: share of the items to draw, (0, 1].
        list: a file that names the items, one path a line, relative to `path`; the splits that share the path draw from
            the others, or take them all.
    """

    list: _Name | None = None
    rows: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.rows is not None and self.fraction is not None:
            raise several([((), f"got rows {self.rows} and fraction {self.fraction}; allowed: one of them")])
        if self.list is not None and (self.rows is not None or self.fraction is not None):
            raise several([(("list",), "names every item; remove rows and fraction")])
        return self


class ImageShiftConfig(_Projected):
    """A distribution-shifted test set: corrupted test images, or images of its own.

    Args:
        of: "test" for a shift that corrupts test images, and shares their ids.
        first: take this many items from the start; None takes all.
        corrupt: name of a corruption.
        severity: how strongly, 1 to 5.
    """

    of: Literal["test"] | None = None
    first: int | None = Field(default=None, ge=1)
    corrupt: (
        Literal["noise", "blur", "contrast", "brightness", "jpeg", "pixelate", "rotation", "translation"] | None
    ) = None
    severity: int | None = Field(default=None, ge=1, le=5)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if (self.of is None) == (self.path is None):
            problems.append(f"got of {self.of!r} and path {self.path!r}; allowed: exactly one of them")
        if (self.corrupt is None) != (self.severity is None):
            problems.append(f"got corrupt {self.corrupt!r} and severity {self.severity!r}; allowed: both or neither")
        if self.of is not None and self.corrupt is None:
            problems.append("changes nothing about test; allowed: corrupt and severity")
        if self.of is not None and (self.class_subset or self.class_map or self.labels or self.crop_border):
            problems.append("a shift of test keeps test's labels, projection and border; remove them")
        if problems:
            raise several([((), problem) for problem in problems])
        return self


class ImageDataConfig(Settings):
    """Paths, splits and the cache of decoded images.

    Args:
        path: default path of every split.
        image: column of the images (Parquet, Arrow).
        label: column of the labels (Parquet, Arrow), or key of the shards' `.json` members.
        seed: of drawing items and of corruptions, [0, 2**32).
        stratify: whether drawn splits hold all classes in the shares that the path has.
        train, held_out, test, shifts: as for texts.
        cache: folder of the decoded images; default: `.stockpot-images` beside the task.
        cache_gib: what they may take together, GiB; the least recently used go first.
        allow_overlap: whether training and evaluation splits may share images.
    """

    held_out: ImageSplitConfig
    path: _Name | None = None
    image: _Name = "image"
    label: _Name = "label"
    seed: int = Field(default=0, ge=0, lt=2**32)
    stratify: bool = False
    train: ImageSplitConfig | None = None
    test: ImageSplitConfig | None = None
    shifts: dict[_Name, ImageShiftConfig] = Field(default_factory=dict)
    cache: _Name = ".stockpot-images"
    cache_gib: float = Field(default=20.0, gt=0)
    allow_overlap: bool = False

    @property
    def splits(self) -> dict[str, ImageSplitConfig]:
        """The splits given, in the order in which they are drawn.

        Example:
            >>> list(ImageDataConfig(path="photos", held_out=ImageSplitConfig(fraction=0.02)).splits)
            ['held_out']
        """
        found = {name: getattr(self, name) for name in DRAWN_SPLITS}
        return {name: split for name, split in found.items() if split is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[Problem] = []
        if self.path is None:
            problems += [
                ((name,), "has no path; give `path` here or in `data`")
                for name, split in self.splits.items()
                if split.path is None
            ]
        if self.test is None:
            problems += [
                (("shifts", name, "of"), "got 'test', but there is no test split; add `test`")
                for name, shift in self.shifts.items()
                if shift.of is not None
            ]
        if problems:
            raise several(problems)
        return self


class ImageEvaluationConfig(Settings):
    """How the network is run; part of the task's identity.

    Args:
        batch_size: rows of every batch, >= 1.
        precision: "auto" takes bf16 where it helps.
        device: "auto" takes an accelerator where there is one.
        recalibrate: training batches that running statistics (BatchNorm) are made anew over, for every model; 0: none.
    """

    batch_size: int = Field(default=64, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    recalibrate: int = Field(default=0, ge=0)


class ImageTaskConfig(TaskConfig):
    """What a soup of image classifiers is judged by; the keys that are not here are those of every task.

    Args:
        data: paths, splits, shifts, cache.
        labels: as for texts; "imagenet" is the 1,000 synsets in their usual order (timm's table).
        evaluation: how the network is run.
    """

    family: Literal["image-classification", "clip"]
    labels: Literal["imagenet"] | LabelNames | None = None  # type: ignore[assignment]
    data: ImageDataConfig  # type: ignore[assignment]
    evaluation: ImageEvaluationConfig = ImageEvaluationConfig()  # type: ignore[assignment]

    @model_validator(mode="after")
    def _classes_alone(self) -> Self:
        if self.is_regression:
            raise several([(("metric",), f"got {self.metric!r}, a metric of numbers; images are classified")])
        return self
