"""Inner products of deltas, and of checkpoints with a vector: against numpy on whole arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import float_checkpoint
from stockpot.errors import BlendError, IncompatibleError
from stockpot.kernel import dot_products, inner_products
from stockpot.kernel.buffers import Buffers


def made(seed: int, shapes: dict[str, tuple[int, ...]], k: int):
    generator = np.random.default_rng(seed)
    arrays = [
        {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(k)
    ]
    return arrays, [float_checkpoint(f"c{number}", **own) for number, own in enumerate(arrays)]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 3000))
def test_the_gram_is_that_of_the_whole_deltas(seed: int, k: int, n: int) -> None:
    shapes = {"a": (n,), "b": (3, 5), "scalar": ()}
    arrays, checkpoints = made(seed, shapes, k + 1)
    found = inner_products(checkpoints[0], checkpoints[1:], chunk_elements=512)
    assert found.groups == (("a",), ("b",), ("scalar",))
    for gram, name in zip(found.gram, shapes, strict=True):
        deltas = np.array(
            [own[name].astype(float).ravel() - arrays[0][name].astype(float).ravel() for own in arrays[1:]]
        )
        np.testing.assert_allclose(gram, deltas @ deltas.T, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(gram, gram.T)


def test_chunks_of_any_size_give_one_answer_to_rounding() -> None:
    _, checkpoints = made(1, {"a": (10_000,)}, 3)
    small, large = (inner_products(checkpoints[0], checkpoints[1:], chunk_elements=n).gram for n in (2048, 10**6))
    np.testing.assert_allclose(small, large, rtol=1e-12)


def test_what_has_not_moved_has_no_length() -> None:
    _, (start, other) = made(2, {"a": (50,)}, 2)
    gram = inner_products(start, [start, other]).gram[0]
    assert gram[0].tolist() == [0.0, 0.0]
    assert gram[1, 1] > 0


def test_nan_is_named() -> None:
    _, (start, _) = made(3, {"a": (50,)}, 2)
    sick = float_checkpoint("sick", a=np.full(50, np.nan, np.float32))
    with pytest.raises(BlendError, match="a") as caught:
        inner_products(start, [sick])
    assert "sick" in str(caught.value)


def test_other_shapes_are_refused() -> None:
    _, (start, _) = made(4, {"a": (50,)}, 2)
    with pytest.raises(IncompatibleError):
        inner_products(start, [float_checkpoint("short", a=np.zeros(49, np.float32))])


@pytest.mark.parametrize("n", [0, 1, 999, 5000])
def test_products_with_a_vector_are_those_of_the_whole_tensor(n: int) -> None:
    arrays, checkpoints = made(5, {"a": (n,)}, 3)
    vector = np.random.default_rng(6).normal(size=n).astype(np.float32)
    expected = [own["a"].astype(float) @ vector.astype(float) for own in arrays]
    np.testing.assert_allclose(dot_products(checkpoints, "a", vector, Buffers(256)), expected, rtol=1e-10, atol=1e-10)
