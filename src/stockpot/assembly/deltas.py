"""How fine-tunes have moved away from their initialisation: opens them for the kernel's inner products."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot import kernel
from stockpot.assembly.opening import opened
from stockpot.assembly.starting import SharedStart, Shifted
from stockpot.checkpoints import open_checkpoint
from stockpot.types import Ingredient, InnerProducts

__all__ = ["inner_products"]


def inner_products(
    ingredients: Sequence[Ingredient], initialisation: Ingredient, *, shared: SharedStart | None = None
) -> InnerProducts:
    """``<theta_i - theta_0, theta_j - theta_0>`` for every floating tensor: lengths and angles.

    Model Stock is made of them. Every checkpoint is read once, in constant memory.

    Args:
        ingredients: k of them, at least one.
        initialisation: theta_0, the checkpoint that all were fine-tuned from.
        shared: the tensors that count, where the initialisation does not have all, or has them under other names or in
            another dtype.

    Returns:
        One group per tensor; gram [tensors, k, k] float64.

    Raises:
        CheckpointError: one cannot be opened, or does not fit the others.
        BlendError: no ingredients; NaN or infinity in one.

    Source: Jang et al. 2024, "Model Stock".

    Example:
        >>> import tempfile, pathlib, numpy, safetensors.numpy
        >>> from stockpot import ingredients
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, values in {"a": [1, 3], "b": [2, 2], "start": [1, 1]}.items():
        ...     safetensors.numpy.save_file({"w": numpy.float32(values)}, folder / f"{name}.safetensors")
        >>> a, b, start = ingredients(folder / "*.safetensors")
        >>> products = inner_products([a, b], start)
        >>> products.groups, products.gram.tolist()
        ((('w',),), [[[4.0, 2.0], [2.0, 2.0]]])
    """
    everything = [initialisation, *ingredients]
    labels = [ingredient.name for ingredient in everything]
    if shared is None or shared.is_whole:
        with opened(everything) as (start, *checkpoints):
            return kernel.inner_products(start, checkpoints, labels=labels)
    with open_checkpoint(initialisation.source, key=initialisation.key) as other, opened(ingredients) as checkpoints:
        begun = Shifted(other, shared.prefix)
        return kernel.inner_products(begun, checkpoints, labels=labels, only=shared.names, any_start_dtype=True)
