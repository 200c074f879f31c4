"""The memory of one pass and how bytes come into it: a few buffers of one chunk each, whatever is blended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stockpot.kernel.codec import Bytes, Doubles, decode
from stockpot.types import ITEM_BYTES, Checkpoint, TensorSpec

__all__ = ["CHUNK_ELEMENTS", "Buffers", "Chunk", "Span", "read_bytes", "read_values", "spans"]

#: Elements handled at once: large enough for sequential reads, small enough to stay in a processor's cache.
CHUNK_ELEMENTS = 2**18
_WIDEST_ITEM_BYTES = max(ITEM_BYTES.values())


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a blended tensor, in file order.

    Args:
        name: the tensor.
        spec: its dtype and whole shape in the output.
        start: where `data` begins within the tensor, in bytes.
        data: output bytes, little-endian; valid until the next chunk is asked for.
    """

    name: str
    spec: TensorSpec
    start: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Span:
    """The elements [start, stop) of a tensor, flat."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.stop - self.start


class Buffers:
    """All the memory that a pass uses: 32 bytes per element of a chunk.

    Args:
        chunk_elements: elements of the longest span, at least 1.
    """

    def __init__(self, chunk_elements: int = CHUNK_ELEMENTS) -> None:
        self.chunk_elements = chunk_elements
        self.raw: Bytes = np.empty(chunk_elements * _WIDEST_ITEM_BYTES, np.uint8)
        self.values: Doubles = np.empty(chunk_elements, np.float64)
        self.total: Doubles = np.empty(chunk_elements, np.float64)
        self.output: Bytes = np.empty(chunk_elements * _WIDEST_ITEM_BYTES, np.uint8)


def spans(n_elements: int, chunk_elements: int) -> Iterator[Span]:
    """Cuts a tensor into spans; an empty tensor has one empty span, so that it is not forgotten.

    Example:
        >>> [span.size for span in spans(5, 2)], [span.size for span in spans(0, 2)]
        ([2, 2, 1], [0])
    """
    for start in range(0, max(n_elements, 1), chunk_elements):
        yield Span(start, min(start + chunk_elements, n_elements))


def read_bytes(checkpoint: Checkpoint, name: str, span: Span, item_bytes: int, out: Bytes) -> Bytes:
    """Reads a span's stored bytes into the beginning of `out` and returns that part."""
    part = out[: span.size * item_bytes]
    if span.size:
        # Another checkpoint may store the same shared tensor under another of its names.
        stored = name if name in checkpoint.specs else checkpoint.tied[name]
        checkpoint.read_into(stored, part.data, span.start * item_bytes)
    return part


def read_values(checkpoint: Checkpoint, name: str, span: Span, dtype: str, raw: Bytes, out: Doubles) -> Doubles:
    """Reads a span into the beginning of `out` as float64 and returns that part; `raw` is scratch."""
    values = out[: span.size]
    decode(read_bytes(checkpoint, name, span, ITEM_BYTES[dtype], raw), dtype, values)
    return values
