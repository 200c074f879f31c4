"""Corruptions of images that make shifted test sets: five severities, each item with a random stream of its own.

The kinds and the idea of five severities follow Hendrycks and Dietterich 2019 (ImageNet-C); the strengths are our own.
Lengths in pixels are those of an image whose shorter side is 224, and grow with the image.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["IMAGE_CORRUPTIONS", "corrupt_image", "item_generator"]

Generator: TypeAlias = np.random.Generator


def corrupt_image(image: Image, kind: str, severity: int, generator: Generator) -> Image:
    """The image, corrupted; mode and size stay.

    Args:
        image: mode "L" or "RGB".
        kind: a name in `IMAGE_CORRUPTIONS`.
        severity: 1 (weak) to 5 (strong).
        generator: where the draws come from; see `item_generator`.

    Raises:
        KeyError: unknown kind; configurations are checked before.

    Source: Hendrycks and Dietterich, Benchmarking Neural Network Robustness, 2019.

    Example:
        >>> from PIL import Image
        >>> grey = Image.new("L", (8, 8), 100)
        >>> corrupt_image(grey, "brightness", 1, item_generator("brightness", 0, "a.png")).getpixel((0, 0))
        126
    """
    function, strengths = IMAGE_CORRUPTIONS[kind]
    return function(image, strengths[severity - 1], generator)


def item_generator(kind: str, seed: int, item_id: str) -> Generator:
    """The stream of one item: (kind, seed, item) decide, whatever the other items are."""
    words = hashlib.sha256(f"{kind}/{seed}/{item_id}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(words, "little")))


def _noise(image: Image, strength: float, generator: Generator) -> Image:
    values = _values(image)
    return _image(values + 255 * strength * generator.standard_normal(values.shape))


def _blur(image: Image, strength: float, _: Generator) -> Image:
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(strength * _scale(image)))


def _contrast(image: Image, strength: float, _: Generator) -> Image:
    values = _values(image)
    mean = values.mean(axis=(0, 1), keepdims=True)
    return _image((values - mean) * strength + mean)


def _brightness(image: Image, strength: float, _: Generator) -> Image:
    return _image(_values(image) + 255 * strength)


def _jpeg(image: Image, strength: float, _: Generator) -> Image:
    import PIL.Image

    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(strength))
    with PIL.Image.open(buffer) as decoded:
        return decoded.convert(image.mode)


def _pixelate(image: Image, strength: float, _: Generator) -> Image:
    from PIL.Image import Resampling

    small = tuple(max(1, round(side * strength)) for side in image.size)
    return image.resize((small[0], small[1]), Resampling.BOX).resize(image.size, Resampling.NEAREST)


def _rotation(image: Image, strength: float, generator: Generator) -> Image:
    from PIL.Image import Resampling

    return image.rotate(strength * _sign(generator), Resampling.BILINEAR)


def _translation(image: Image, strength: float, generator: Generator) -> Image:
    from PIL.Image import Resampling

    across, down = (strength * _sign(generator) * side for side in image.size)
    return image.rotate(0, Resampling.BILINEAR, translate=(round(across), round(down)))


def _sign(generator: Generator) -> float:
    return 1.0 if generator.random() < 0.5 else -1.0


def _scale(image: Image) -> float:
    return min(image.size) / 224


def _values(image: Image) -> np.ndarray[Any, Any]:
    return np.asarray(image, dtype=np.float64)


def _image(values: np.ndarray[Any, Any]) -> Image:
    import PIL.Image

    return PIL.Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


#: Name -> (corruption by a strength and a stream, the strengths of severities 1 to 5).
IMAGE_CORRUPTIONS: Mapping[str, tuple[Callable[[Image, float, Generator], Image], tuple[float, ...]]] = {
    "noise": (_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),  # standard deviation, share of the range
    "blur": (_blur, (1.0, 2.0, 3.0, 4.0, 6.0)),  # standard deviation, pixels at 224
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),  # share of the contrast that is left
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),  # added, share of the range
    "jpeg": (_jpeg, (25, 18, 15, 10, 7)),  # quality
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),  # side of the small image, share
    "rotation": (_rotation, (8, 15, 22, 30, 45)),  # degrees, either way
    "translation": (_translation, (0.05, 0.1, 0.15, 0.2, 0.3)),  # share of each side, either way
}
