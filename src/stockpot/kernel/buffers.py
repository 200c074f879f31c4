"""Spans as numpy's float64 values: for what needs numbers instead of a blend."""

from __future__ import annotations

import numpy as np

from stockpot.kernel.codec import Bytes, Doubles, decode
from stockpot.kernel.spans import CHUNK_ELEMENTS, Span, aligned, read_bytes
from stockpot.types import ITEM_BYTES, Checkpoint

__all__ = ["Buffers", "read_values"]

_WIDEST_ITEM_BYTES = max(ITEM_BYTES.values())


class Buffers:
    """All the memory that a pass over values uses: 32 bytes per element of a chunk.

    Args:
        chunk_elements: elements of the longest span, at least 1.
    """

    def __init__(self, chunk_elements: int = CHUNK_ELEMENTS) -> None:
        self.chunk_elements = chunk_elements
        self.raw: Bytes = np.frombuffer(aligned(chunk_elements * _WIDEST_ITEM_BYTES), np.uint8)
        self.values: Doubles = np.frombuffer(aligned(chunk_elements * 8), np.float64)
        self.total: Doubles = np.frombuffer(aligned(chunk_elements * 8), np.float64)
        self.output: Bytes = np.frombuffer(aligned(chunk_elements * _WIDEST_ITEM_BYTES), np.uint8)


def read_values(checkpoint: Checkpoint, name: str, span: Span, dtype: str, raw: Bytes, out: Doubles) -> Doubles:
    """Reads a span into the beginning of `out` as float64 and returns that part; `raw` is scratch."""
    values = out[: span.size]
    part = read_bytes(checkpoint, name, span, ITEM_BYTES[dtype], raw.data)
    decode(np.frombuffer(part, np.uint8), dtype, values)
    return values
