"""Image classification with transformers and timm: decoded once, one resident model, predictions by soup and split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot._cores import available_cores
from stockpot.config import ImageTaskConfig
from stockpot.errors import ConfigError, DataError
from stockpot.tasks.batches import Batch
from stockpot.tasks.classifier import ResidentClassifier
from stockpot.tasks.data import check_overlap
from stockpot.tasks.gradients import MICRO_ROWS
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.image_cache import ImageCache, bytes_kept
from stockpot.tasks.image_models import ImageModel, image_model, network_inputs
from stockpot.tasks.imagenet import with_known_classes
from stockpot.tasks.images import decoded, encode_image_labels, load_image_splits, project, split_digest
from stockpot.tasks.model_files import VOLATILE_KEYS, check_outputs, model_config, model_labels, sha256_of
from stockpot.tasks.text import TextClassification, try_metric

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageClassification"]

#: Raised whenever the way from image to logits changes: older predictions and pixels are then not reused.
PREPROCESSING_VERSION = 3


class ImageClassification(TextClassification):
    """A family of image classifiers, data and a metric: predicts with any soup of them.

    Items are listed and digested when it is made; images are decoded and preprocessed at a split's first prediction,
    once, into the task's cache. All that follows the batches is as for texts.

    Args:
        config: the task.
        folder: relative paths in `config` start here.
        model_folder: has config.json, and preprocessor_config.json unless it is timm's.
        n_threads: batches in flight on a CPU; default: the cores. Does not change a single bit.
        own_labels: whether the label names in the model's config.json count.

    Raises:
        DataError: paths, labels or splits are wrong; held-out images are in test.
        ConfigError: no usable model configuration.
        MissingExtraError: the metric needs scikit-learn, or the model timm.
    """

    config: ImageTaskConfig

    def __init__(
        self,
        config: ImageTaskConfig,
        *,
        folder: Path,
        model_folder: Path,
        n_threads: int | None = None,
        own_labels: bool = True,
    ) -> None:
        self.config = config = with_known_classes(config, folder)
        self.metric = config.metric
        self._model_folder = model_folder
        self._n_threads = n_threads or available_cores()
        cache_folder = Path(config.data.cache).expanduser()
        self._cache = ImageCache(folder / cache_folder, limit_bytes=int(config.data.cache_gib * 2**30))
        self._images = load_image_splits(config.data, folder=folder, cache=self._cache)
        self._splits = {name: split.rows for name, split in self._images.items()}
        check_overlap(self._splits, config.data.allow_overlap)
        self.label_names, self._labels, self._groups = encode_image_labels(
            self._images, config.labels, model_labels=self._own_label_names() if own_labels else None
        )
        if own_labels and config.family == "image-classification":
            check_outputs(model_folder, self.label_names)
        try_metric(config.metric, len(self.label_names))
        self._pixels: dict[str, np.ndarray[Any, Any]] = {}
        self._batches = {}

    def data_digest(self, split: str) -> str:
        """SHA-256 of a split's images and labels, and of what they are projected to."""
        return sha256_of([split_digest(self._images[split]), self._groups[split]])

    def pixels(self, split: str) -> np.ndarray[Any, Any]:
        """[n, channels, height, width] of a split, preprocessed; bytes where the network's own scaling comes later."""
        if split not in self._pixels:
            images, model = self._images[split], self.family
            self._pixels[split] = self._cache.pixels(
                self._pixels_key(split),
                len(images.items),
                lambda row: model.pixels(decoded(images, row, mode=model.mode)),
                name_of=images.rows.item_ids.__getitem__,
            )
        return self._pixels[split]

    def _pixels_key(self, split: str) -> str:
        parts = [split_digest(self._images[split]), self.family.mode, self.family.identity, PREPROCESSING_VERSION]
        return json.dumps(parts, default=str)

    @property
    def unprepared(self) -> tuple[str, ...]:
        """The scored splits whose images are not decoded yet."""
        return tuple(
            split for split in self.splits if not self._cache.holds(self._pixels_key(split), self.n_examples(split))
        )

    @property
    def prepared_bytes(self) -> int:
        """What the decoded images of the splits that were looked at take on the disk."""
        return sum(pixels.nbytes for pixels in self._pixels.values())

    def prepare(self, split: str) -> None:
        """Decodes a split's images into the cache.

        Raises:
            DataError: images that cannot be decoded; names them.
            ConfigError: the scored splits together are more than the cache may hold.
        """
        if (needed := self._decoded_bytes(self.splits)) > self._cache.limit_bytes:
            raise ConfigError(
                f"the decoded images of {', '.join(self.splits)} take {needed / 2**30:.3g} GiB together, "
                f"but the cache may hold {self._cache.limit_bytes / 2**30:.3g}: they would be decoded again and again",
                fix="raise `cache_gib` under `data`, or take fewer images",
            )
        self.pixels(split)

    def _decoded_bytes(self, splits: Sequence[str]) -> int:
        """What these splits take in the cache, by the first image of each; none for a split whose first is damaged."""
        return sum(bytes_kept(self.n_examples(split), self._bytes_of_first(split)) for split in splits)

    def _bytes_of_first(self, split: str) -> int:
        try:
            return self.family.pixels(self.image(split, 0)).nbytes
        except DataError:
            return 0  # decoding names all that are damaged

    @cached_property
    def keeps_training_images(self) -> bool:
        """Whether the decoded training images fit into the cache beside all that is scored."""
        return self._decoded_bytes(("train", *self.splits)) <= self._cache.limit_bytes

    def source(self, split: str) -> Callable[[Sequence[int]], np.ndarray[Any, Any]]:
        """Rows -> [rows, channels, height, width] as `pixels`: from the cache, or decoded at each look.

        Training images alone are decoded at each look, where the cache has no room for them.
        """
        if split == "train" and not self.keeps_training_images:
            return self._decoded_now
        kept = self.pixels(split)
        return lambda rows: kept[list(rows)]

    def _decoded_now(self, rows: Sequence[int]) -> np.ndarray[Any, Any]:
        def one(row: int) -> np.ndarray[Any, Any]:
            return self.family.pixels(self.image("train", row))

        if len(rows) == 1:  # of a run: it has a process to itself, and no thread survives in a forked one
            return one(rows[0])[None]
        with ThreadPoolExecutor(available_cores()) as pool:
            return np.stack(list(pool.map(one, rows)))

    def _changes_any(self, split: str, of: str) -> bool:
        rows = range(self.n_examples(split))  # the first image tells, but where none is changed
        return any(self.image(split, row).tobytes() != self.image(of, row).tobytes() for row in rows)

    def image(self, split: str, row: int) -> Image:
        """One image of a split: decoded, border cropped, corrupted; not resized."""
        return decoded(self._images[split], row, mode=self.family.mode)

    def input_batches(self, split: str, size: int) -> list[Batch]:
        """A split as the network takes it, in order, `size` rows at a time; the last batch may be shorter."""
        n = self.n_examples(split)
        parts = [range(start, min(start + size, n)) for start in range(0, n, size)]
        return [self._batch(split, part, len(part), 0) for part in parts]

    def _own_label_names(self) -> tuple[str, ...] | None:
        """The classes of the model's own head, where it names them."""
        return model_labels(self._model_folder)

    def _model_identity(self) -> Any:
        """What of the model's folder shapes its logits, beside the weights."""
        return {k: v for k, v in model_config(self._model_folder).items() if k not in VOLATILE_KEYS}

    @cached_property
    def family(self) -> ImageModel:
        """How the models of this folder are made, and images made ready for them."""
        return image_model(self._model_folder, model_config(self._model_folder))

    @cached_property
    def _model(self) -> ResidentClassifier:
        return ResidentClassifier(
            self._model_folder,
            n_labels=len(self.label_names),
            hardware=self.hardware,
            n_threads=self._n_threads,
            new_module=self.family.new_module,
        )

    @cached_property
    def _settings_identity(self) -> Mapping[str, Any]:
        torch, transformers = import_hf()
        return {
            "family": self.config.family,
            "model": self._model_identity(),
            "preprocessing": [PREPROCESSING_VERSION, self.family.identity],
            "batch_size": self.config.evaluation.batch_size,
            "device": self.hardware.device,
            "precision": self.hardware.precision,
            "capability": self.hardware.capability,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def _projected(self, split: str, logits: Any) -> Any:
        return project(logits, self._groups[split])

    def _rows_by_bucket(self, split: str) -> dict[int, list[int]]:
        return {0: list(range(self.n_examples(split)))}  # after preprocessing all images have one shape

    def _batch(self, split: str, rows: Sequence[int], batch_size: int, bucket: int) -> Batch:
        del bucket  # there is one
        filled = [*rows, *[rows[0]] * (batch_size - len(rows))]
        return Batch(_Pixels(self.family, self.source(split), filled), np.asarray(rows, dtype=np.int64))

    def _loose_batches(self, split: str, rows: Sequence[int]) -> list[Batch]:
        parts = [rows[start : start + MICRO_ROWS] for start in range(0, len(rows), MICRO_ROWS)]
        return [self._batch(split, part, len(part), 0) for part in parts]


class _Pixels(Mapping[str, np.ndarray[Any, Any]]):
    """The inputs of a batch, read from the cache when they are asked for: all batches at once would fill the memory."""

    def __init__(
        self, model: ImageModel, source: Callable[[Sequence[int]], np.ndarray[Any, Any]], rows: list[int]
    ) -> None:
        self._model, self._source, self._rows = model, source, rows

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        if name != self._model.input_name:
            raise KeyError(name)
        return network_inputs(self._model, self._source(self._rows))

    def __iter__(self) -> Iterator[str]:
        return iter((self._model.input_name,))

    def __len__(self) -> int:
        return 1
