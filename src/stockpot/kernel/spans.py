"""How a pass walks through tensors: spans of elements, the chunks that come out, memory that is fast to read into."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from stockpot.types import Checkpoint, TensorSpec

__all__ = ["CHUNK_ELEMENTS", "Chunk", "Span", "aligned", "read_bytes", "spans"]

#: Elements handled at once: large enough that calls cost nothing, small enough to stay in a processor's cache.
CHUNK_ELEMENTS = 2**18


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


def spans(n_elements: int, chunk_elements: int) -> Iterator[Span]:
    """Cuts a tensor into spans; an empty tensor has one empty span, so that it is not forgotten.

    Example:
        >>> [span.size for span in spans(5, 2)], [span.size for span in spans(0, 2)]
        ([2, 2, 1], [0])
    """
    for start in range(0, max(n_elements, 1), chunk_elements):
        yield Span(start, min(start + chunk_elements, n_elements))


def aligned(n_bytes: int) -> memoryview:
    """Fresh memory that begins on a page.

    The operating system copies a file into memory at a cache line's start several times faster than to 16 bytes after
    it, which is what an ordinary allocation gives (measured: docs/design/speed.md). Pages never touched cost nothing.
    """
    # Private where the system has that: shared pages belong to a file in memory and take longer to find.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    return memoryview(mmap.mmap(-1, max(n_bytes, 1), **private))[:n_bytes]


def read_bytes(checkpoint: Checkpoint, name: str, span: Span, item_bytes: int, out: memoryview) -> memoryview:
    """Reads a span's stored bytes into the beginning of `out` and returns that part."""
    part = out[: span.size * item_bytes]
    if span.size:
        # Another checkpoint may store the same shared tensor under another of its names.
        stored = name if name in checkpoint.specs else checkpoint.tied[name]
        checkpoint.read_into(stored, part, span.start * item_bytes)
    return part
