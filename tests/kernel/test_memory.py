"""Memory is a constant of the chunk: it grows with neither the number of checkpoints nor the size of tensors."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fakes import PatternCheckpoint
from stockpot.kernel import blend
from stockpot.types import Coefficients, TensorSpec

CHUNK_ELEMENTS = 2**12


def peak_bytes(k: int, n_elements: int, dtype: str = "F32") -> int:
    pattern = np.full(2**10, 1.5, "<f4").astype("<f4" if dtype == "F32" else "<u2").tobytes()
    specs = {"x": TensorSpec(dtype, (n_elements,)), "steps": TensorSpec("I64", (n_elements // 4,))}
    checkpoints = [PatternCheckpoint(specs, pattern, source=str(i)) for i in range(k)]
    row = Coefficients.of([1.0 / (i + 1) for i in range(k)])
    tracemalloc.start()
    try:
        for _ in blend(checkpoints, row, chunk_elements=CHUNK_ELEMENTS, on_difference=lambda *_: None):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_peak_grows_with_neither_number_nor_size(dtype: str) -> None:
    peak_bytes(2, 2**13, dtype)  # what numpy and the interpreter set up once
    small = peak_bytes(2, 2**14, dtype)
    assert small > 32 * CHUNK_ELEMENTS
    assert peak_bytes(2, 2**19, dtype) < small + 10_000
    # A plan and a coefficient per checkpoint, but not their values.
    assert peak_bytes(32, 2**14, dtype) < small + 60_000
