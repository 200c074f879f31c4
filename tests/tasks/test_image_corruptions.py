"""Corruptions keep size and mode, depend on the item alone, and grow with the severity."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stockpot.config import IMAGE_CORRUPTION_NAMES
from stockpot.tasks.image_corruptions import IMAGE_CORRUPTIONS, corrupt_image, item_generator


def picture(mode: str = "RGB", side: int = 64) -> Image.Image:
    """Smooth, with edges: what every corruption shows on."""
    down, across = np.mgrid[0:side, 0:side] / side
    channels = [90 + 60 * np.sin(9 * down + at) * np.cos(7 * across) + 40 * (across > 0.5) for at in range(3)]
    return Image.fromarray(np.clip(np.stack(channels, axis=2), 0, 255).astype(np.uint8)).convert(mode)


def corrupted(kind: str, severity: int, image: Image.Image, item: str = "a") -> np.ndarray:
    return np.asarray(corrupt_image(image, kind, severity, item_generator(kind, 0, item)), dtype=np.float64)


def test_the_schema_knows_them_all() -> None:
    assert tuple(IMAGE_CORRUPTIONS) == IMAGE_CORRUPTION_NAMES
    assert {len(strengths) for _, strengths in IMAGE_CORRUPTIONS.values()} == {5}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", IMAGE_CORRUPTION_NAMES)
def test_size_and_mode_stay_and_severity_tells(kind, mode) -> None:
    image = picture(mode)
    made = corrupt_image(image, kind, 3, item_generator(kind, 0, "a"))
    assert (made.mode, made.size) == (image.mode, image.size)
    plain = np.asarray(image, dtype=np.float64)
    weak, strong = (np.abs(corrupted(kind, severity, image) - plain).mean() for severity in (1, 5))
    assert 0 < weak < strong


@pytest.mark.parametrize("kind", IMAGE_CORRUPTION_NAMES)
def test_the_item_decides(kind) -> None:
    image = picture()
    assert np.array_equal(corrupted(kind, 2, image), corrupted(kind, 2, image))
    differ = any(not np.array_equal(corrupted(kind, 2, image), corrupted(kind, 2, image, item)) for item in "bcdef")
    assert differ == (kind in {"noise", "rotation", "translation"})


def test_strengths_are_what_they_say() -> None:
    grey = Image.new("L", (64, 64), 100)
    assert corrupted("brightness", 2, grey).mean() == 151
    assert corrupted("noise", 1, grey).std() == pytest.approx(0.08 * 255, rel=0.05)
    image = picture()
    assert corrupted("contrast", 3, image).std() == pytest.approx(0.2 * np.asarray(image).std(), rel=0.1)
