"""Bytes and a table together are a preprocessing's own values, for all of its pipelines or for none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("PIL")

from stockpot.tasks.byte_tables import looked_up, random_image
from stockpot.tasks.image_models import pixels_of_pipelines


def pipeline(divisor: float = 255.0, *, noisy: bool = False):
    """An image squeezed to 8 x 8, made an array [3, 8, 8] and scaled."""

    def scaled(values):
        return (values + (len(values.ravel()) if noisy else 0.0)) / np.float32(divisor)

    steps = [lambda i: i.resize((8, 8)), lambda i: np.asarray(i, np.float32).transpose(2, 0, 1), scaled]

    def whole(image):
        for step in steps:
            image = step(image)
        return image

    whole.transforms = steps
    return whole


def test_bytes_and_the_table_are_the_pipelines_own_values() -> None:
    first, image = pipeline(), random_image("RGB").rotate(90, expand=True)
    (pixels,), table = pixels_of_pipelines("RGB", first)
    assert pixels(image).dtype == np.uint8
    assert np.array_equal(looked_up(table, pixels(image)[None])[0], first(image))


@pytest.mark.parametrize("odd", [pipeline(100.0), pipeline(noisy=True), SimpleNamespace()])
@pytest.mark.parametrize("is_first", [True, False])
def test_where_one_of_several_has_no_such_table_none_gives_bytes(odd, is_first: bool) -> None:
    usual = pipeline()
    made, table = pixels_of_pipelines("RGB", *((odd, usual) if is_first else (usual, odd)))
    assert table is None
    assert np.array_equal(made[1 if is_first else 0](random_image("RGB")), usual(random_image("RGB")))
