"""Checkpoints that live in memory: the kernel's seam without files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from stockpot.types import ITEM_BYTES, TensorSpec

__all__ = ["FakeCheckpoint", "PatternCheckpoint", "float_checkpoint"]


class FakeCheckpoint:
    """A `stockpot.types.Checkpoint` made of bytes.

    Args:
        tensors: name -> (dtype, little-endian bytes or an array of them, shape).
        tied: name -> the stored name it shares memory with.
        source: where it says it comes from.

    `bytes_read` counts per tensor.
    """

    def __init__(
        self,
        tensors: Mapping[str, tuple[str, bytes | np.ndarray[Any, Any], tuple[int, ...]]],
        *,
        tied: Mapping[str, str] | None = None,
        source: str = "fake",
    ) -> None:
        self.source = source
        self.specs: dict[str, TensorSpec] = {}
        self.tied = dict(tied or {})
        self.bytes_read: Counter[str] = Counter()
        self.is_closed = False
        self._bytes: dict[str, bytes] = {}
        for name, (dtype, data, shape) in tensors.items():
            self.specs[name] = TensorSpec(dtype, tuple(shape))
            self._bytes[name] = data if isinstance(data, bytes) else data.tobytes()
            if len(self._bytes[name]) != math.prod(shape) * ITEM_BYTES[dtype]:
                raise ValueError(f"{name}: {len(self._bytes[name])} bytes are no {self.specs[name]}")

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        if self.is_closed:
            raise ValueError("read after close")
        data = self._bytes[name][start : start + len(buffer)]
        if len(data) != len(buffer):
            raise ValueError(f"{name}: [{start}, {start + len(buffer)}) is not within {len(self._bytes[name])} bytes")
        buffer[:] = data
        self.bytes_read[name] += len(buffer)

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> FakeCheckpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PatternCheckpoint:
    """A checkpoint of any size that takes no memory: every tensor repeats the same few bytes."""

    def __init__(self, specs: Mapping[str, TensorSpec], pattern: bytes, *, source: str = "pattern") -> None:
        self.source = source
        self.specs = dict(specs)
        self.tied: dict[str, str] = {}
        self._pattern = pattern

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        if start % len(self._pattern) or len(buffer) % len(self._pattern):
            raise ValueError("ask for whole repetitions of the pattern")
        for position in range(0, len(buffer), len(self._pattern)):
            buffer[position : position + len(self._pattern)] = self._pattern

    def close(self) -> None:
        """Nothing to release."""


def float_checkpoint(source: str = "fake", **arrays: Any) -> FakeCheckpoint:
    """A checkpoint of float32 tensors from anything that numpy takes."""
    tensors = {name: np.asarray(array, "<f4") for name, array in arrays.items()}
    return FakeCheckpoint({name: ("F32", array, array.shape) for name, array in tensors.items()}, source=source)
