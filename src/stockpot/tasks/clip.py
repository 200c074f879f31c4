"""Image-text models: whole ones as zero-shot classifiers, and their image towers with a classifier head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.assembly import DELTAS_BUDGET_BYTES
from stockpot.config import ClipTaskConfig
from stockpot.errors import ConfigError
from stockpot.tasks.dual_encoders import (
    LABELS_KEY,
    OPEN_CLIP_CONFIG,
    dual_encoder,
    empty_tower,
    import_open_clip,
    is_open_clip,
    read_config,
    tower_config,
    without_warnings,
)
from stockpot.tasks.gradients import GradientOptions, ModuleGradient
from stockpot.tasks.image import ImageClassification
from stockpot.tasks.image_models import ImageModel, pixels_of_pipelines, processed_by_transformers, require_pillow
from stockpot.tasks.model_files import VOLATILE_KEYS, model_identity, model_labels
from stockpot.tasks.prompts import class_prompts
from stockpot.types import Ingredient

if TYPE_CHECKING:
    import torch

__all__ = ["ClipClassification"]


class ClipClassification(ImageClassification):
    """CLIP, ALIGN and open_clip's models, images and a metric: predicts with any soup of them.

    A model folder holds either a whole dual encoder, which classifies by its own text tower and the task's sentences
    about the classes, or an image tower with `head.weight` and `head.bias`, as experiments write them. All else is as
    for image classifiers.

    Args:
        config: the task.
        folder, model_folder, n_threads, own_labels: as for image classifiers.

    Raises:
        DataError, ConfigError, MissingExtraError: as for image classifiers; open_clip is not installed.

    Source: Radford et al. 2021; Wortsman et al. 2022.
    """

    config: ClipTaskConfig

    def _own_label_names(self) -> tuple[str, ...] | None:
        config = tower_config(self._model_folder)
        if config is None:
            return None
        if is_open_clip(self._model_folder):
            return tuple(map(str, config[LABELS_KEY]))
        return model_labels(self._model_folder)

    def _model_identity(self) -> Any:
        config = read_config(self._model_folder)
        shaping = {k: v for k, v in config.items() if k not in {*VOLATILE_KEYS, LABELS_KEY}}
        if not self.is_zero_shot:
            return shaping
        tokenizer = None if is_open_clip(self._model_folder) else model_identity(self._model_folder)
        return {"config": shaping, "tokenizer": tokenizer, "prompts": self.prompts}

    @cached_property
    def is_zero_shot(self) -> bool:
        """Whether the text tower makes the head, anew for every soup."""
        return tower_config(self._model_folder) is None

    @cached_property
    def prompts(self) -> tuple[list[str], int]:
        """All sentences about the classes, class by class, and how many a class has."""
        return class_prompts(self.config.zero_shot, self.label_names)

    @cached_property
    def family(self) -> ImageModel:
        """How images are made ready, and the network is made."""
        folder = self._model_folder
        found = _open_clip_pixels(folder) if is_open_clip(folder) else processed_by_transformers(folder, {})
        return replace(found, new_module=self._new_module, identity={**found.identity, "pillow": require_pillow()})

    def _new_module(self, folder: Path, n_labels: int) -> torch.nn.Module:
        from stockpot.tasks.clip_networks import TowerWithHead, ZeroShot

        if not self.is_zero_shot:
            return TowerWithHead(empty_tower(folder), n_labels, self._head_width())
        encoder = dual_encoder(folder, with_weights=False)
        texts, n_templates = self.prompts
        return ZeroShot(encoder, encoder.tokens(texts), n_templates)

    def _head_width(self) -> int:
        from stockpot.assembly import opened

        with opened([Ingredient("model", str(self._model_folder))]) as (checkpoint,):
            spec = checkpoint.specs.get("head.weight")
        if spec is None:
            raise ConfigError(
                f"{self._model_folder}: an image tower without a head",
                fix="name a whole model, or the folder of a run of an experiment",
            )
        return int(spec.shape[1])

    def check_learnable(self, *, fold: bool) -> None:
        """Refuses what has no gradient here.

        Args:
            fold: whether the scale is to go into the classifier head.

        Raises:
            ConfigError: the models have no head of their own.
        """
        del fold
        if self.is_zero_shot:
            raise ConfigError(
                "the head of a zero-shot model is made by its text tower, which learned soups do not follow",
                fix="take another recipe, or fine-tune image towers with a head (`head: zero-shot` of an experiment)",
            )

    def gradient(
        self,
        ingredients: Sequence[Ingredient],
        options: GradientOptions | None = None,
        *,
        budget_bytes: int = DELTAS_BUDGET_BYTES,
    ) -> ModuleGradient:
        """As for texts.

        Raises:
            ConfigError: the models have no head of their own.
        """
        self.check_learnable(fold=False)
        return super().gradient(ingredients, options, budget_bytes=budget_bytes)

    @cached_property
    def _settings_identity(self) -> Mapping[str, Any]:
        found = dict(super()._settings_identity)
        if is_open_clip(self._model_folder):
            found["open_clip"] = import_open_clip().__version__
        return found


def _open_clip_pixels(folder: Path) -> ImageModel:
    """Images as open_clip's own transform makes them from the folder's configuration."""
    import PIL.Image

    open_clip = import_open_clip()
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    config = read_config(folder)
    size = config["model_cfg"].get("vision_cfg", {}).get("image_size", 224)
    settings: dict[str, Any] = config.get("preprocess_cfg") or {}
    try:
        settings = merge_preprocess_dict(PreprocessCfg(size=size), settings)
        with without_warnings():
            transform = image_transform_v2(PreprocessCfg(**{**settings, "size": size}), is_train=False)
        transform(PIL.Image.new("RGB", (40, 50)))
    except (TypeError, ValueError, AssertionError, LookupError, RuntimeError) as exc:
        shown = ", ".join(f"{name} {value!r}" for name, value in settings.items())
        raise ConfigError(
            f"{folder / OPEN_CLIP_CONFIG}: open_clip makes no preprocessing from preprocess_cfg ({shown})"
            f"{f': {exc}' if str(exc) else ''}",
            fix="three numbers each for mean and std, mode RGB, interpolation bicubic, bilinear or random, "
            "resize_mode shortest, longest or squash",
        ) from exc

    (pixels,), table = pixels_of_pipelines("RGB", transform)
    identity = {"library": "open_clip", "open_clip": open_clip.__version__, "data": settings, "size": size}
    # Its sizes and resize modes all leave an image of the network's size alone.
    resample = {"bilinear": 2}.get(str(settings.get("interpolation")), 3)
    unused: Any = None  # the task makes the network
    return ImageModel("pixel_values", "RGB", pixels, table, unused, identity, pixels, resample)
