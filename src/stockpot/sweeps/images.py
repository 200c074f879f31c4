"""Image classifiers for the Trainer: pixels from the cache, or drawn anew from the images where a run augments them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot.config import RunSettings
from stockpot.errors import ConfigError, MissingExtraError
from stockpot.sweeps.augmentation import augmenter, batch_mixer, soft_cross_entropy
from stockpot.sweeps.pretrained import pretrained_classifier
from stockpot.sweeps.trainable import Trainable, dropout_changes, stored_tensors
from stockpot.tasks.batches import Batch
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.image import ImageClassification
from stockpot.tasks.image_models import import_timm, network_inputs, timm_network
from stockpot.tasks.timm_config import is_timm

if TYPE_CHECKING:
    import torch

__all__ = [
    "ImageExamples",
    "image_collator",
    "image_probe_batches",
    "load_image_model",
    "require_timm_for",
    "save_image_model",
    "trainable_images",
]


def load_image_model(folder: Path, **changes: Any) -> torch.nn.Module:
    """An image classifier of transformers or timm with its weights in fp32.

    Args:
        folder: holds config.json and the weights.
        changes: as `from_pretrained` takes them; of these timm knows `num_labels`.

    Raises:
        ConfigError: the folder holds no such network, or weights of another.
        MissingExtraError: timm is not installed.
    """
    if _is_timm(folder):
        return _load_timm(folder, **changes)
    _, transformers = import_hf()
    fix = "name the folder of an image classifier, or of a network that AutoModelForImageClassification takes"
    return pretrained_classifier(transformers.AutoModelForImageClassification, folder, fix=fix, **changes)


def _is_timm(folder: Path) -> bool:
    return is_timm(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _load_timm(folder: Path, **changes: Any) -> torch.nn.Module:
    model = timm_network(folder, changes.get("num_labels"))
    weights = stored_tensors(folder)
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    odd = [name for name in own if name not in fitting]
    named = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    heads = (named,) if isinstance(named, str) else tuple(named)  # distilled networks have two
    if lacking := [name for name in odd if not name.startswith(heads)]:
        raise ConfigError(
            f"{folder}: the weights lack {', '.join(lacking[:4])}, which the architecture in config.json has",
            fix="name the folder of weights of this architecture",
        )
    model.load_state_dict({**own, **fitting})
    return model.float()


def save_image_model(model: torch.nn.Module, target: Path, *, source: Path) -> None:
    """Writes the model, and the preprocessing of the folder that it comes from."""
    if _is_timm(source):
        from safetensors.torch import save_file

        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(state, target / "model.safetensors", {"format": "pt"})
        config["num_classes"] = int(getattr(model, "num_classes", config.get("num_classes", 0)))
        if (names := getattr(model, "label_names", None)) is not None:
            config["label_names"] = list(names)
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return
    writer: Any = model
    writer.save_pretrained(target)
    for name in ("preprocessor_config.json", "processor_config.json"):  # the second is where some versions keep it
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def image_probe_batches(task: ImageClassification, folder: Path, batch_size: int) -> list[Batch]:
    """The training split as the network takes it; `folder` has the preprocessing that the task has read already."""
    del folder
    return task.input_batches("train", batch_size)


def trainable_images(settings: RunSettings, task: ImageClassification, initialisation: Path) -> Trainable:
    """An image classifier at the shared start, and the training images as the run's settings draw them."""
    changes: dict[str, Any] = {}
    config: Any = None
    if _is_timm(initialisation):
        if settings.dropout is not None:
            raise ConfigError("dropout: acts on networks of transformers alone", fix="leave `dropout` out of the space")
    else:
        _, transformers = import_hf()
        config = transformers.AutoConfig.from_pretrained(initialisation)
        changes = dropout_changes(config, settings.dropout)

    def save(model: Any, target: Path) -> None:
        if config is not None:
            model.config = config
        save_image_model(model, target, source=initialisation)

    return Trainable(
        model=load_image_model(initialisation, **changes),
        examples=ImageExamples(task, settings),
        collator=image_collator(task, settings),
        save=save,
        arguments={"label_smoothing_factor": 0.0, "remove_unused_columns": False},
        loss=soft_cross_entropy,
    )


class ImageExamples:
    """Row -> pixels as the network takes them, and the label; what is drawn is drawn at each look."""

    def __init__(self, task: ImageClassification, settings: RunSettings) -> None:
        self._task, self._labels = task, task.labels("train")
        self._augment = augmenter(settings, task.family)
        self._is_exact = settings.random_resized_crop > 0
        self._flips = settings.flip

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        model = self._task.family
        if self._augment is None:
            pixels = self._task.pixels("train")[row]
        else:
            image = self._augment(self._task.image("train", row))
            pixels = (model.exact if self._is_exact else model.pixels)(image)
        values = network_inputs(model, np.asarray(pixels)[None])[0]
        if self._flips and np.random.random() < 0.5:
            values = values[:, :, ::-1].copy()
        return {model.input_name: values, "labels": int(self._labels[row])}


def image_collator(task: ImageClassification, settings: RunSettings) -> Callable[[list[Any]], dict[str, torch.Tensor]]:
    """Rows -> a batch, mixed as the settings say."""
    name, mix = task.family.input_name, batch_mixer(settings, n_classes=len(task.label_names))

    def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
        import torch

        pixels = torch.from_numpy(np.stack([row[name] for row in rows]))
        labels = torch.tensor([row["labels"] for row in rows])
        pixels, targets = mix(pixels, labels)
        return {name: pixels, "labels": targets}

    return collate


def require_timm_for(settings: RunSettings) -> None:
    """Fails where a run's settings need timm and it is missing.

    Raises:
        MissingExtraError: which setting needs it.
    """
    needs = [
        name for name in ("random_resized_crop", "rand_augment_magnitude", "mixup", "cutmix") if getattr(settings, name)
    ]
    if not needs:
        return
    try:
        import_timm()
    except MissingExtraError as error:
        raise MissingExtraError("timm", extra="vision", needed_for=" and ".join(needs)) from error
