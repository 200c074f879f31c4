"""Image towers of CLIP, ALIGN and open_clip's models with a head, for the Trainer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot.config import RunSettings
from stockpot.errors import ConfigError
from stockpot.sweeps.images import trainable_on_images
from stockpot.sweeps.trainable import Trainable, dropout_changes, stored_tensors
from stockpot.tasks.clip import ClipClassification
from stockpot.tasks.dual_encoders import (
    LABELS_KEY,
    OPEN_CLIP_CONFIG,
    dual_encoder,
    empty_tower,
    is_open_clip,
    read_config,
    tower_config,
)
from stockpot.tasks.image_models import image_processor

if TYPE_CHECKING:
    import torch

__all__ = ["load_clip_tower", "require_head", "save_clip_tower", "trainable_clip", "zero_shot_head"]


def load_clip_tower(
    folder: Path,
    *,
    num_labels: int | None = None,
    id2label: dict[int, str] | None = None,
    dropout: float | None = None,
    **_: Any,
) -> torch.nn.Module:
    """An image tower with a head, fp32: of a whole dual encoder with a random head, or of its like with its own.

    Args:
        folder: a whole dual encoder, or what `save_clip_tower` has written.
        num_labels: classes; None: those of the folder's head.
        id2label: their names.
        dropout: probability of every dropout of the tower; None: as configured.

    Raises:
        ConfigError: the folder has no head where one is needed; weights that do not fit; nothing to drop out.
    """
    import torch

    from stockpot.tasks.clip_networks import TowerWithHead

    if tower_config(folder) is None:
        if num_labels is None:
            raise ConfigError(f"{folder}: a whole dual encoder has no classifier head", fix="use `head: zero-shot`")
        encoder = dual_encoder(folder, with_weights=True)
        with torch.inference_mode():
            width, scale = encoder.texts(encoder.tokens(["a"])).shape[1], float(encoder.scale())
        model = TowerWithHead(encoder.tower(), num_labels, width, probe_scale=scale)
    else:
        weights = stored_tensors(folder)
        n_own, width = weights["head.weight"].shape
        model = TowerWithHead(_with_dropout(folder, dropout), num_labels or n_own, width)
        own = {name: value for name, value in weights.items() if not name.startswith("head.")}
        model.tower.load_state_dict(own)
        if n_own == model.head.out_features:
            model.head.load_state_dict({name: weights[f"head.{name}"] for name in ("weight", "bias")})
    model.label_names = list(id2label.values()) if id2label else _labels(folder)  # type: ignore[assignment]
    return model.float()


def require_head(folder: Path) -> None:
    """Fails for a whole dual encoder.

    Raises:
        ConfigError: it has no classifier head.
    """
    if tower_config(folder) is None:
        raise ConfigError(
            f"head: own: {folder} is a whole dual encoder, which has no classifier head",
            fix="use `head: zero-shot` or `head: linear-probe`",
        )


def _labels(folder: Path) -> list[str]:
    config = tower_config(folder) or {}
    return list(config.get(LABELS_KEY) or (config.get("id2label") or {}).values())


def _with_dropout(folder: Path, dropout: float | None) -> torch.nn.Module:
    if dropout is None:
        return empty_tower(folder)
    if is_open_clip(folder):
        raise ConfigError("dropout: acts on networks of transformers alone", fix="leave `dropout` out of the space")
    from transformers import AutoConfig

    return empty_tower(folder, dropout_changes(AutoConfig.from_pretrained(folder), dropout))


def save_clip_tower(model: Any, target: Path, *, source: Path) -> None:
    """Writes tower and head as one model.safetensors, and the configuration and preprocessing of the source."""
    from safetensors.torch import save_file
    from transformers import AutoConfig

    target.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, target / "model.safetensors", {"format": "pt"})
    names: Sequence[str] = model.label_names
    if is_open_clip(source):
        config = {**read_config(source), LABELS_KEY: list(names)}
        (target / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return
    # The run's dropout is a setting of the run (run.json), not of the model: ingredients share one config.json.
    is_tower = tower_config(source) is not None
    config = AutoConfig.from_pretrained(source) if is_tower else model.tower.config
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    config.save_pretrained(target)
    image_processor(source).save_pretrained(target)


def zero_shot_head(task: ClipClassification, folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weight [classes, width] and bias [classes] float32 from the text tower of a whole dual encoder.

    Raises:
        ConfigError: the folder holds no text tower.
    """
    import torch

    from stockpot.tasks.clip_networks import class_weights

    if tower_config(folder) is not None:
        raise ConfigError(f"head: zero-shot: {folder} holds an image tower alone", fix="name the whole model")
    encoder, device = dual_encoder(folder, with_weights=True), task.hardware.device
    texts, n_templates = task.prompts
    encoder.module.to(device)  # 80 sentences a class are many for a processor
    with torch.inference_mode():
        tokens = {name: values.to(device) for name, values in encoder.tokens(texts).items()}
        weight = class_weights(encoder, tokens, n_templates).cpu()
    return weight.numpy(), np.full(len(weight), encoder.bias(), dtype=np.float32)


def trainable_clip(settings: RunSettings, task: ClipClassification, initialisation: Path) -> Trainable:
    """An image tower with its head at the shared start, and the training images as the run's settings draw them."""
    model = load_clip_tower(initialisation, dropout=settings.dropout)
    return trainable_on_images(model, task, settings, partial(save_clip_tower, source=initialisation))
