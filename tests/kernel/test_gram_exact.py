"""Inner products of deltas: against exact arithmetic, in constant memory, with the blend's own refusals."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeCheckpoint, PatternCheckpoint, float_checkpoint
from reference import FORMATS, from_codes, value_of
from stockpot.errors import BlendError, IncompatibleError
from stockpot.kernel import blend, inner_products
from stockpot.recipes import model_stock
from stockpot.types import Ingredient, TensorSpec


def exact_gram(start: list[float], others: list[list[float]]) -> list[list[float]]:
    deltas = [[Fraction(x) - Fraction(y) for x, y in zip(other, start, strict=True)] for other in others]
    return [[float(sum(x * y for x, y in zip(a, b, strict=True))) for b in deltas] for a in deltas]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(FORMATS)), st.integers(1, 4), st.integers(0, 40), st.integers(1, 50), st.integers(0, 2**16)
)
def test_is_exact_arithmetic_to_rounding(dtype: str, k: int, n: int, chunk_elements: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Codes of moderate values: up to the code of 1.0, so that squares neither vanish nor overflow.
    one = (
        next(code for code in range(FORMATS[dtype].largest_code) if value_of(code, dtype) == 1)
        if (FORMATS[dtype].n_bytes < 4)
        else {"F32": 0x3F80_0000, "F64": 0x3FF0_0000_0000_0000}[dtype]
    )
    codes = [[int(code) for code in generator.integers(one // 2, one, n)] for _ in range(k + 1)]
    checkpoints = [FakeCheckpoint({"w": (dtype, from_codes(row, dtype), (n,))}) for row in codes]
    values = [[value_of(code, dtype) for code in row] for row in codes]
    products = inner_products(checkpoints[0], checkpoints[1:], chunk_elements=chunk_elements)
    expected = np.array(exact_gram(values[0], values[1:])).reshape(1, k, k)
    assert products.groups == (("w",),)
    np.testing.assert_allclose(products.gram, expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(products.gram, products.gram.transpose(0, 2, 1))


def test_spans_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockpot.kernel.gram._LEAST_ELEMENTS", 1)
    values = np.random.default_rng(0).standard_normal((4, 1000)).astype("<f4")
    start, *others = (float_checkpoint(w=row) for row in values)
    whole = inner_products(start, others).gram
    for chunk_elements in (1, 7, 999, 1000, 3000):
        np.testing.assert_allclose(inner_products(start, others, chunk_elements=chunk_elements).gram, whole, rtol=1e-12)
    deltas = values[1:].astype(float) - values[0]
    np.testing.assert_allclose(whole, [deltas @ deltas.T], rtol=1e-12)


def mixed(offset: float, *, tied_to: str, stored: str) -> FakeCheckpoint:
    """Two floating tensors, one of them under two names, and an integer one."""
    floats = {stored: np.full(6, offset, "<f4"), "body": np.arange(4, dtype="<f4") * offset}
    tensors = {name: ("F32", array, array.shape) for name, array in floats.items()}
    return FakeCheckpoint({**tensors, "steps": ("I64", np.array([int(offset)]), (1,))}, tied={tied_to: stored})


def test_integers_are_left_out_and_tied_tensors_count_once() -> None:
    start = mixed(0.0, stored="embed", tied_to="head")
    # The other checkpoint stores the shared tensor under its other name.
    products = inner_products(start, [mixed(1.0, stored="head", tied_to="embed")])
    assert products.groups == (("embed",), ("body",))
    assert products.gram.tolist() == [[[6.0]], [[14.0]]]


def test_every_checkpoint_is_read_once() -> None:
    start, *others = [float_checkpoint(w=np.arange(5.0) * n) for n in range(4)]
    inner_products(start, others)
    assert [checkpoint.bytes_read["w"] for checkpoint in (start, *others)] == [20] * 4


def test_zero_sized_and_single_numbers() -> None:
    start = float_checkpoint(empty=np.zeros((0, 3)), scale=2.0)
    products = inner_products(start, [float_checkpoint(empty=np.zeros((0, 3)), scale=5.0)] * 2)
    assert dict(zip(products.groups, products.gram.tolist(), strict=True)) == {
        ("empty",): [[0.0, 0.0], [0.0, 0.0]],
        ("scale",): [[9.0, 9.0], [9.0, 9.0]],
    }


def test_its_groups_are_those_that_a_blend_asks_for() -> None:
    start = mixed(0.0, stored="embed", tied_to="head")
    others = [mixed(value, stored="embed", tied_to="head") for value in (1.0, 2.0)]
    runs = [Ingredient(name, name) for name in "ab"]
    soup = model_stock(runs, initialisation=Ingredient("start", "s"), inner_products=inner_products(start, others))
    blended = {chunk.name: bytes(chunk.data) for chunk in blend([*others, start], soup.coefficients)}
    # All go the same way: cosine 1, the plain mean.
    assert np.frombuffer(blended["embed"], "<f4").tolist() == [1.5] * 6
    assert blended["steps"] == b"\1" + bytes(7)  # the first fine-tune's


def test_what_does_not_fit_is_refused_as_by_a_blend() -> None:
    start = float_checkpoint("start", w=[1.0, 2.0])
    with pytest.raises(IncompatibleError, match="1 mismatch") as raised:
        inner_products(start, [float_checkpoint("a", w=[1.0])])
    assert raised.value.problems == ("w: [2] F32 in 'start' but [1] F32 in 'a'",)
    with pytest.raises(BlendError, match="nothing to blend"):
        inner_products(start, [])
    with pytest.raises(BlendError, match="1 labels for 2 checkpoints"):
        inner_products(start, [start], labels=["start"])


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_named(where: int, bad: float) -> None:
    arrays = [np.ones((2, 2)) for _ in range(3)]
    arrays[where][1, 0] = bad
    start, *others = (float_checkpoint(w=array) for array in arrays)
    with pytest.raises(BlendError, match="NaN or infinity") as raised:
        inner_products(start, others, labels=["start", "a", "b"])
    (problem,) = raised.value.problems
    assert problem.startswith(f"w in {['start', 'a', 'b'][where]!r}: 1 value is not finite")
    assert "[1, 0]" in problem


def test_squares_beyond_float64_are_refused() -> None:
    huge = FakeCheckpoint({"w": ("F64", np.array([1e200]), (1,))})
    with pytest.raises(BlendError, match="overflows float64"):
        inner_products(FakeCheckpoint({"w": ("F64", np.zeros(1), (1,))}), [huge])


def peak_bytes(k: int, n_elements: int) -> int:
    pattern = np.full(2**8, 1.5, "<f4").tobytes()
    start, *others = (PatternCheckpoint({"x": TensorSpec("F32", (n_elements,))}, pattern) for _ in range(k + 1))
    tracemalloc.start()
    try:
        inner_products(start, others, chunk_elements=2**16)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_peak_grows_with_neither_number_nor_size() -> None:
    peak_bytes(2, 2**12)  # what numpy and the interpreter set up once
    small = peak_bytes(2, 2**17)
    assert small > 8 * 2**16
    assert peak_bytes(2, 2**21) < small + 10_000
    assert peak_bytes(32, 2**17) < small + 100_000
