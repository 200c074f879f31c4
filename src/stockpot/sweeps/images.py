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
from stockpot.sweeps.augmentation import augmenter, batch_mixer, seed_draws, soft_cross_entropy
from stockpot.sweeps.pretrained import check_blocks, check_own_head_is_there, pretrained_classifier
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
    check_blocks(folder, weights.keys() - own.keys(), fix="name the folder of weights of this architecture")
    if changes.get("ignore_mismatched_sizes") is False:
        check_own_head_is_there(folder, odd)
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

    return trainable_on_images(load_image_model(initialisation, **changes), task, settings, save)


def trainable_on_images(
    model: torch.nn.Module, task: ImageClassification, settings: RunSettings, save: Callable[[Any, Path], None]
) -> Trainable:
    """What the Trainer is given for a network that takes pixels and gives logits."""
    examples = ImageExamples(task, settings)
    return Trainable(
        model=model,
        examples=examples,
        collator=image_collator(task, settings),
        save=save,
        arguments={"label_smoothing_factor": 0.0, "remove_unused_columns": False},
        loss=soft_cross_entropy,
        callbacks=[_passes(examples)],
        loads_slowly=True,
    )


def _passes(examples: ImageExamples) -> Any:
    """A callback of the Trainer that tells the examples of each pass before its first row is asked for."""
    from transformers import TrainerCallback

    class Passes(TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, _arguments: Any, _state: Any, _control: Any, **_: Any) -> None:
            examples.begin_pass()

    return Passes()


class ImageExamples:
    """Row -> pixels as the network takes them, and the label; what is drawn is drawn at each look.

    The draws depend on the run's seed, the pass and the row alone, not on the process that looks, nor on what it has
    looked at before.
    """

    def __init__(self, task: ImageClassification, settings: RunSettings) -> None:
        self._model, self._labels = task.family, task.labels("train")
        self._pixels = _training_pixels(task, settings)
        self._seed, self._flips = settings.seed, settings.flip
        self._n_passes = 0

    def __len__(self) -> int:
        return len(self._labels)

    def begin_pass(self) -> None:
        """Each pass over the examples has draws of its own."""
        self._n_passes += 1

    def __getitem__(self, row: int) -> dict[str, Any]:
        draw = (self._seed, self._n_passes, row)
        seed_draws(*draw)
        values = network_inputs(self._model, np.asarray(self._pixels(row))[None])[0]
        if self._flips and np.random.random() < 0.5:
            values = values[:, :, ::-1].copy()
        return {self._model.input_name: values, "labels": int(self._labels[row]), "draw": draw}


def _training_pixels(task: ImageClassification, settings: RunSettings) -> Callable[[int], np.ndarray[Any, Any]]:
    """Row -> decoded pixels: as evaluation has them, or of the image as it is augmented anew at each look."""
    augment, model = augmenter(settings, task.family), task.family
    if augment is None:
        source = task.source("train")
        return lambda row: source([row])[0]
    preprocessed = model.exact if settings.random_resized_crop > 0 else model.pixels
    return lambda row: preprocessed(augment(task.image("train", row)))


def image_collator(task: ImageClassification, settings: RunSettings) -> Callable[[list[Any]], dict[str, torch.Tensor]]:
    """Rows -> a batch, mixed as the settings say."""
    name, mix = task.family.input_name, batch_mixer(settings, n_classes=len(task.label_names))

    def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
        import torch

        pixels = torch.from_numpy(np.stack([row[name] for row in rows]))
        labels = torch.tensor([row["labels"] for row in rows])
        seed_draws(*rows[0]["draw"], 1)  # apart from those of the row itself
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
