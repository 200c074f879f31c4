from __future__ import annotations

import numpy as np
import pytest

from fakes import FakeCheckpoint, float_checkpoint
from stockpot.errors import BlendError
from stockpot.kernel import CHUNK_ELEMENTS, blend
from stockpot.types import Coefficients

NAN, INF = float("nan"), float("inf")


def error_of(*args: object, **options: object) -> BlendError:
    with pytest.raises(BlendError) as caught:
        list(blend(*args, **options))  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("row", [[1 / 3] * 3, [1.0, 0.0, 0.0], [0.5, 0.3, 0.2], [0.0, 0.0, 0.0]])
def test_not_finite_is_refused_at_any_coefficient_naming_all_of_them(row: list[float]) -> None:
    good = float_checkpoint("good", w=np.zeros((2, 3)))
    bad = float_checkpoint("lr1e-2", w=[[0, 0, 0], [0, 0, NAN]])
    worse = float_checkpoint("lr1e-1", w=[[0, -INF, 0], [INF, 0, 0]])
    error = error_of([good, bad, worse], Coefficients.of(row), chunk_elements=2)
    assert error.problems == (
        "w in 'lr1e-2': 1 value is not finite, the first is nan at [1, 2] (flat index 5)",
        "w in 'lr1e-1': 2 values are not finite, the first is -inf at [0, 1] (flat index 1)",
    )


def test_infinities_that_cancel_are_found() -> None:
    pair = [float_checkpoint("a", w=[INF]), float_checkpoint("b", w=[-INF])]
    assert len(error_of(pair, Coefficients.equal(2)).problems) == 2


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("F64", np.array([NAN], "<f8")),
        ("F32", np.array([0x7F800001], "<u4")),  # a signalling NaN
        ("F16", np.array([INF], "<f2")),
        ("BF16", np.array([0x7FC0], "<u2")),
        ("F8_E4M3", np.array([0xFF], "u1")),
        ("F8_E5M2", np.array([0x7C], "u1")),
    ],
)
def test_not_finite_is_found_in_every_dtype(dtype: str, data: np.ndarray) -> None:
    checkpoint = FakeCheckpoint({"w": (dtype, data, (1,))}, source="a")
    assert "w in 'a': 1 value is not finite" in str(error_of([checkpoint], Coefficients.equal(1)))


def test_the_index_is_right_beyond_the_first_chunk() -> None:
    values = np.zeros(2 * CHUNK_ELEMENTS, "<f4")
    values[CHUNK_ELEMENTS + 7] = NAN
    error = error_of([float_checkpoint("a", w=values)], Coefficients.equal(1))
    assert f"nan at index {CHUNK_ELEMENTS + 7}" in str(error)


def test_labels_are_used() -> None:
    error = error_of([float_checkpoint("path/a", w=[NAN])], Coefficients.equal(1), labels=["lr1"])
    assert "in 'lr1'" in str(error)


@pytest.mark.parametrize(("dtype", "fix"), [("fp16", "--dtype fp32"), ("fp8_e4m3", "--dtype fp16"), ("F32", "fp64")])
def test_what_the_output_cannot_hold_is_refused_with_the_way_out(dtype: str, fix: str) -> None:
    checkpoint = FakeCheckpoint({"w": ("F64", np.array([[0.0, 1.0], [-1e39, 2.0]], "<f8"), (2, 2))})
    error = error_of([checkpoint], Coefficients.equal(1), dtype=dtype, chunk_elements=2)
    assert "w at [1, 0] (flat index 2): -1e+39 is beyond the largest" in error.message
    assert fix in str(error.fix)


def test_a_sum_beyond_float64_is_refused() -> None:
    checkpoint = FakeCheckpoint({"w": ("F64", np.array([1.0, 1.7e308], "<f8"), (2,))})
    error = error_of([checkpoint] * 2, Coefficients.equal(2))
    assert error.message == "w at index 1: the sum of the ingredients overflows float64"


def test_chunks_before_the_fault_are_given() -> None:
    checkpoint = float_checkpoint(a=[1.0], b=[NAN])
    chunks = blend([checkpoint], Coefficients.equal(1))
    assert next(chunks).name == "a"
    with pytest.raises(BlendError):
        next(chunks)
