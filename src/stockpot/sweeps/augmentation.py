"""Augmentation of training images: timm's RandAugment, random resized crops, mixup and CutMix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot.config import RunSettings
from stockpot.tasks.image_models import ImageModel, import_timm

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["augmenter", "batch_mixer", "seed_draws", "soft_cross_entropy"]

_ASPECTS = (3 / 4, 4 / 3)
#: Cubuk's own scale; timm's operations stop at 10 unless they are told.
_LARGEST_MAGNITUDE = 30.0


def augmenter(settings: RunSettings, model: ImageModel | None = None) -> Callable[[Image], Image] | None:
    """What is done to each image before the model's own preprocessing; None where nothing is.

    A random crop is squeezed to the network's size, so that all of it reaches the network, and RandAugment acts on what
    comes out; without crops, RandAugment acts on the image as it is.

    Args:
        settings: of the run.
        model: whose size crops are squeezed to; None leaves them as they are.

    Raises:
        MissingExtraError: timm is needed and not installed.

    Source: Cubuk et al. 2020 (RandAugment); Szegedy et al. 2015 (random resized crops).
    """
    crops, magnitude = settings.random_resized_crop, settings.rand_augment_magnitude
    layers = settings.rand_augment_layers if magnitude else 0
    if not crops and not layers:
        return None
    timm = import_timm()
    steps: list[Callable[[Any], Any]] = []
    if crops:
        box = timm.data.transforms.RandomResizedCropAndInterpolation.get_params
        squeezed = _squeezer(model) if model else lambda crop, _: crop
        steps.append(lambda image: squeezed(_cropped(image, *box(image, (crops, 1.0), _ASPECTS)), image.size))
    if layers:
        auto = timm.data.auto_augment
        # Its own `rand_augment_transform` reads the magnitude from a string, and whole numbers alone.
        # What moves in from outside is filled with grey: one number for grey images, its default for colours.
        by_mode = {
            mode: auto.RandAugment(
                auto.rand_augment_ops(
                    magnitude=magnitude,
                    prob=1.0,  # each of the N operations is applied, as published
                    hparams={"magnitude_max": _LARGEST_MAGNITUDE, **more},
                ),
                num_layers=layers,
            )
            for mode, more in (("L", {"img_mean": 128}), ("RGB", {}))
        }
        steps.append(lambda image: by_mode[image.mode](image))

    def augment(image: Image) -> Image:
        for step in steps:
            image = step(image)
        return image

    return augment


def seed_draws(*key: int) -> None:
    """Seeds the two generators that augmentation draws from, which are global: Python's and numpy's.

    Args:
        key: what the draws may depend on; numbers >= 0.

    Example:
        >>> import numpy
        >>> seed_draws(7, 0, 3)
        >>> first = numpy.random.random()
        >>> seed_draws(7, 0, 3)
        >>> first == numpy.random.random()
        True
    """
    import random

    for_python, for_numpy = np.random.SeedSequence(key).generate_state(2).tolist()
    random.seed(for_python)
    np.random.seed(for_numpy)  # timm asks for no generator


def _cropped(image: Image, top: int, left: int, height: int, width: int) -> Image:
    return image.crop((left, top, left + width, top + height))


def _squeezer(model: ImageModel) -> Callable[[Image, tuple[int, int]], Image]:
    """(crop, size of the image that it is from) -> the crop in the size that the network gets for that image."""
    from PIL.Image import Resampling

    size_for, resample = model.size_for(), Resampling(model.resample)
    return lambda crop, original: crop.resize(size_for(original), resample)


def batch_mixer(
    settings: RunSettings, *, n_classes: int
) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """What is done to each batch: labels [n] become targets [n, classes], smoothed, and mixed where the run says so.

    Rows are mixed in pairs: of an odd number, the last is left as it is.

    Args:
        settings: of the run.
        n_classes: of the task.

    Raises:
        MissingExtraError: timm is needed and not installed.

    Source: Zhang et al. 2018 (mixup); Yun et al. 2019 (CutMix); Szegedy et al. 2016 (label smoothing).
    """
    smoothing = settings.label_smoothing
    mixing: Any = None
    if settings.mixup or settings.cutmix:
        mixing = import_timm().data.Mixup(
            mixup_alpha=settings.mixup,
            cutmix_alpha=settings.cutmix,
            label_smoothing=smoothing,
            num_classes=n_classes,
        )

    def mix(pixels: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        hard = torch.nn.functional.one_hot(labels, n_classes).float()
        targets = hard * (1 - smoothing) + smoothing / n_classes
        n_paired = len(pixels) // 2 * 2
        if mixing is None or not n_paired:
            return pixels, targets
        mixed, mixed_targets = mixing(pixels[:n_paired].clone(), labels[:n_paired])
        return torch.cat([mixed, pixels[n_paired:]]), torch.cat([mixed_targets, targets[n_paired:]])

    return mix


def soft_cross_entropy(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """``-1/n sum_i sum_c q_ic log p_ic`` of targets q [rows, classes]; transformers' outputs, or timm's bare logits.

    Args:
        outputs: of the network.
        targets: of the rows of this part of a step.
        num_items_in_batch: numbers in the targets of the whole step, by GPU where there are several, as the Trainer
            counts them; None: this part is all of it, n = rows.
    """
    import torch

    logits = getattr(outputs, "logits", outputs).float()
    n = len(targets) if num_items_in_batch is None else torch.as_tensor(num_items_in_batch).sum() / targets.shape[1]
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / n
