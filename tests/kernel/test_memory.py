"""Memory is a constant of the chunk: it grows with neither the number of checkpoints nor the size of tensors."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fakes import PatternCheckpoint
from stockpot.kernel import blend, combine
from stockpot.kernel.native import scratch_bytes
from stockpot.kernel.passes import MOST_TERMS
from stockpot.kernel.spans import aligned
from stockpot.types import Coefficients, TensorSpec

CHUNK_ELEMENTS = 2**12


def peak_bytes(monkeypatch: pytest.MonkeyPatch, k: int, n_elements: int, dtype: str, threads: int = 0) -> int:
    """Python's and numpy's own memory at its highest, and all that was mapped."""
    mapped: list[int] = []

    def counting(n_bytes: int) -> memoryview:
        mapped.append(n_bytes)
        return aligned(n_bytes)

    monkeypatch.setattr(combine, "aligned", counting)
    pattern = np.full(2**10, 1.5, "<f4").astype("<f4" if dtype == "F32" else "<u2").tobytes()
    specs = {"x": TensorSpec(dtype, (n_elements,)), "steps": TensorSpec("I64", (n_elements // 4,))}
    checkpoints = [PatternCheckpoint(specs, pattern, source=str(i)) for i in range(k)]
    row = Coefficients.of([1.0 / (i + 1) for i in range(k)])
    tracemalloc.start()
    try:
        chunks = blend(checkpoints, row, chunk_elements=CHUNK_ELEMENTS, threads=threads, on_difference=lambda *_: None)
        for _ in chunks:
            pass
        return tracemalloc.get_traced_memory()[1] + sum(mapped)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_peak_grows_with_neither_number_nor_size(
    monkeypatch: pytest.MonkeyPatch, dtype: str, is_compiled: bool
) -> None:
    if not is_compiled:
        monkeypatch.setattr("stockpot.kernel.fused._native", lambda: None)
    full = MOST_TERMS
    peak_bytes(monkeypatch, 2, 2**13, dtype)  # what numpy and the interpreter set up once
    small = peak_bytes(monkeypatch, full, 2**14, dtype)
    assert small > 8 * CHUNK_ELEMENTS * full  # so that the counting counts
    assert peak_bytes(monkeypatch, full, 2**19, dtype) < small + 60_000
    # A plan and a coefficient per checkpoint, but not their values.
    assert peak_bytes(monkeypatch, 4 * full, 2**14, dtype) < small + 60_000


def test_a_thread_more_costs_its_buffers_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    peak_bytes(monkeypatch, 3, 2**13, "F32", threads=1)
    one, two = (peak_bytes(monkeypatch, 3, 2**17, "F32", threads=threads) for threads in (1, 2))
    lane_bytes = CHUNK_ELEMENTS * 8 * (3 + 2) + scratch_bytes(3)
    assert two - one < lane_bytes + 60_000
