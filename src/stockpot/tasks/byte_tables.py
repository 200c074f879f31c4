"""Pixels kept as bytes: what a preprocessing makes of each byte, found by trying, so that it can be done later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ByteSteps", "byte_ramp", "byte_steps", "looked_up", "random_image"]

Array = np.ndarray[Any, Any]


class ByteSteps(NamedTuple):
    """A preprocessing in two parts.

    Args:
        pixels: image -> [channels, height, width] uint8.
        table: [channels, 256] float32, what the network gets for each byte.
    """

    pixels: Callable[[Image], Array]
    table: Array


def looked_up(table: Array, pixels: Array) -> Array:
    """[n, channels, height, width] bytes -> float32 by a table [channels, 256].

    Example:
        >>> halves = np.arange(256, dtype=np.float32)[None] / 2
        >>> looked_up(halves, np.array([[[[0, 3], [255, 1]]]], dtype=np.uint8)).tolist()
        [[[[0.0, 1.5], [127.5, 0.5]]]]
    """
    return np.stack([table[channel][pixels[:, channel]] for channel in range(len(table))], axis=1)


def byte_ramp(mode: str) -> Image:
    """A 16 x 16 image with every byte once, in each channel."""
    import PIL.Image

    return PIL.Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert(mode)


def random_image(mode: str) -> Image:
    """Noise of 40 x 50 pixels."""
    import PIL.Image

    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise).convert(mode)


def byte_steps(steps: Sequence[Callable[[Any], Any]], mode: str) -> ByteSteps | None:
    """Parts a pipeline of torchvision before its last two steps, which make a tensor of an image and scale it.

    Args:
        steps: image -> what the network gets.
        mode: of the images, "RGB" or "L".

    Returns:
        None where the pipeline is none of that kind: the two parts together must give its own values, to the bit.
    """
    geometric, scaling = steps[:-2], steps[-2:]

    def through(parts: Sequence[Callable[[Any], Any]], image: Any) -> Any:
        for step in parts:
            image = step(image)
        return image

    def pixels(image: Image) -> Array:
        found = np.asarray(through(geometric, image))
        return np.ascontiguousarray(np.atleast_3d(found).transpose(2, 0, 1))

    trial = random_image(mode)
    try:
        table = np.asarray(through(scaling, byte_ramp(mode)), dtype=np.float32).reshape(-1, 256)
        whole, as_bytes = np.asarray(through(steps, trial), dtype=np.float32), pixels(trial)
    except (TypeError, ValueError, AttributeError):
        return None
    if as_bytes.dtype != np.uint8 or len(table) != len(as_bytes) or as_bytes.shape != whole.shape:
        return None
    return ByteSteps(pixels, table) if np.array_equal(looked_up(table, as_bytes[None])[0], whole) else None
