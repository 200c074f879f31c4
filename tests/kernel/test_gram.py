"""Inner products of deltas, and of checkpoints with a vector: against numpy on whole arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeCheckpoint, float_checkpoint
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


def test_a_start_in_another_dtype_is_compared_in_float64() -> None:
    arrays, checkpoints = made(7, {"a": (3000,), "b": (3, 5)}, 3)
    narrow = [
        FakeCheckpoint({name: ("F16", values.astype(np.float16), values.shape) for name, values in own.items()})
        for own in arrays
    ]
    for start, runs in ((checkpoints[0], narrow[1:]), (narrow[0], checkpoints[1:])):
        found = inner_products(start, runs, any_start_dtype=True, chunk_elements=2048)
        whole = [np.concatenate([_doubles(one, n) for n in ("a", "b")]) for one in (start, *runs)]
        if start is checkpoints[0]:  # rounded as the runs are
            whole[0] = whole[0].astype(np.float16).astype(float)
        deltas = np.array([one - whole[0] for one in whole[1:]])
        np.testing.assert_allclose(found.gram.sum(axis=0), deltas @ deltas.T, rtol=1e-12)
        with pytest.raises(IncompatibleError):
            inner_products(start, runs)


def test_runs_in_different_dtypes_are_refused_whatever_the_start_has() -> None:
    arrays, (start, first, _) = made(8, {"a": (30,)}, 3)
    narrow = FakeCheckpoint({"a": ("F16", arrays[2]["a"].astype(np.float16), (30,))})
    with pytest.raises(IncompatibleError):
        inner_products(start, [first, narrow], any_start_dtype=True)


def _doubles(checkpoint, name: str) -> np.ndarray:
    spec = checkpoint.specs[name]
    raw = bytearray(spec.nbytes)
    checkpoint.read_into(name, memoryview(raw), 0)
    return np.frombuffer(raw, {"F32": np.float32, "F16": np.float16}[spec.dtype]).astype(float)


@pytest.mark.parametrize("n", [0, 1, 999, 5000])
def test_products_with_a_vector_are_those_of_the_whole_tensor(n: int) -> None:
    arrays, checkpoints = made(5, {"a": (n,)}, 3)
    vector = np.random.default_rng(6).normal(size=n).astype(np.float32)
    expected = [own["a"].astype(float) @ vector.astype(float) for own in arrays]
    np.testing.assert_allclose(dot_products(checkpoints, "a", vector, Buffers(256)), expected, rtol=1e-10, atol=1e-10)
