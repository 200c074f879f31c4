"""How each model family is fine-tuned: the one place that knows which are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.config import RunSettings
from stockpot.sweeps.clip import load_clip_tower, require_head, save_clip_tower, trainable_clip, zero_shot_head
from stockpot.sweeps.images import (
    image_probe_batches,
    load_image_model,
    require_timm_for,
    save_image_model,
    trainable_images,
)
from stockpot.sweeps.text_to_text import load_text_to_text_model, trainable_text_to_text
from stockpot.sweeps.texts import load_text_model, save_text_model, text_probe_batches, trainable_text
from stockpot.sweeps.trainable import Trainable
from stockpot.tasks.batches import Batch

if TYPE_CHECKING:
    import torch

__all__ = ["FineTuned", "fine_tuned"]


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A family in the sweep.

    Args:
        load: folder and changes of its configuration -> the network, fp32.
        save: network, target and `source` (whose side files go along) -> a model folder.
        probe_batches: task, folder, rows -> the training split in batches.
        trainable: settings, task, shared start -> what the Trainer is given.
        has_head: whether the labels have a classifier head, which a new task needs anew.
        check: fails where a run's settings need what is not installed.
        check_own_head: fails where a folder's network has no head.
        zero_shot: task and folder -> weight and bias of a head from the text tower; None where there is none.
    """

    load: Callable[..., torch.nn.Module]
    save: Callable[..., None]
    probe_batches: Callable[[Any, Path, int], list[Batch]]
    trainable: Callable[[RunSettings, Any, Path], Trainable]
    has_head: bool = True
    check: Callable[[RunSettings], None] = lambda _: None
    check_own_head: Callable[[Path], None] = lambda _: None
    zero_shot: Callable[[Any, Path], tuple[Any, Any]] | None = None


_FAMILIES: Mapping[str, FineTuned] = {
    "text-classification": FineTuned(load_text_model, save_text_model, text_probe_batches, trainable_text),
    "image-classification": FineTuned(
        load_image_model, save_image_model, image_probe_batches, trainable_images, check=require_timm_for
    ),
    "clip": FineTuned(
        load_clip_tower,
        save_clip_tower,
        image_probe_batches,
        trainable_clip,
        check=require_timm_for,
        check_own_head=require_head,
        zero_shot=zero_shot_head,
    ),
    "seq2seq-classification": FineTuned(
        load_text_to_text_model, save_text_model, text_probe_batches, trainable_text_to_text, has_head=False
    ),
}


def fine_tuned(family: str) -> FineTuned:
    """How a family of tasks is fine-tuned; the configuration lets no other through."""
    return _FAMILIES[family]
