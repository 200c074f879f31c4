"""The compiled pass (`_fused.c`) behind the signature that all passes share."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stockpot.kernel.passes import MOST_TERMS, OVERFLOWS_AT, Rounding
from stockpot.types import ITEM_BYTES, FileRange

__all__ = ["LIBRARY", "FileSum", "Native", "load", "scratch_bytes"]

#: Built beside this file when the package is; see hatch_build.py.
LIBRARY = Path(__file__).with_name("_fused.so")
_INTERFACE_VERSION = 3
_CODES = {"F64": 0, "F32": 1, "F16": 2, "BF16": 3}
_READ_FAILED = -2
#: As in `_fused.c`.
_MOST_FILES = 64
#: Elements of one read, at least and at most, and of all files' reads together: these stay in a core's share of the
#: cache (with twice as many, two cores take as long as one).
_LEAST_STEP, _LARGEST_STEP, _NEAR_ELEMENTS = 2**12, 2**17, 2**19
_NO_ROUNDING = (1.0, 1.0, 0, 0.0, None)


class Native:
    """Calls the compiled pass; it runs without the interpreter's lock, so threads run side by side.

    Args:
        library: the loaded `_fused.so`.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._function: Any = library.stockpot_combine
        number, pointer, real = ctypes.c_int, ctypes.c_void_p, ctypes.c_double
        self._function.argtypes = [
            number, pointer, pointer, number, ctypes.c_size_t, pointer, pointer, real, real, number, real, pointer,
        ]  # fmt: skip
        self._function.restype = number
        self.read_and_combine: Any = library.stockpot_read_and_combine
        self.read_and_combine.argtypes = [
            number, pointer, pointer, ctypes.c_int64, ctypes.c_size_t, pointer, pointer, number, ctypes.c_size_t,
            real, real, number, real, pointer,
        ]  # fmt: skip
        self.read_and_combine.restype = number
        self._use_form: Any = library.stockpot_fused_form

    def allow_form(self, widest: int) -> int:
        """Lets it use vectors up to a width, in this process, from now on; all forms give the same bits.

        Args:
            widest: 0 plain C, 1 AVX2, 2 AVX-512.

        Returns:
            The form that this processor uses then.
        """
        return int(self._use_form(widest))

    def takes(self, dtypes: Iterable[str]) -> bool:
        """Whether it knows all these dtypes."""
        return all(dtype in _CODES for dtype in dtypes)

    def __call__(
        self,
        terms: Sequence[memoryview],
        factors: Sequence[float],
        dtype: str,
        n: int,
        *,
        before: memoryview | None = None,
        after: memoryview | None = None,
        rounding: Rounding | None = None,
    ) -> bool:
        """See `stockpot.kernel.passes.Combine`."""
        k = len(terms)
        pointers = (ctypes.c_void_p * k)(*map(_address, terms))
        weights = (ctypes.c_double * k)(*factors)
        stored: tuple[Any, ...] = _NO_ROUNDING
        if rounding is not None:
            limit, out = OVERFLOWS_AT[rounding.dtype], _address(rounding.out)
            stored = (rounding.divisor, rounding.multiplier, _CODES[rounding.dtype], limit, out)
        result = self._function(k, pointers, weights, _CODES[dtype], n, _address(before), _address(after), *stored)
        if result < 0:
            raise AssertionError(f"{k} terms of {dtype}: at most {MOST_TERMS} of {', '.join(_CODES)} are combined")
        return not result


class FileSum:
    """The blend of one tensor straight from files, read and summed by the compiled pass alone.

    Args:
        native: the pass.
        ranges: of the tensor in every checkpoint; their files stay open as long as this is held.
        factors: one per range.
        dtypes: stored and output dtype.
        scaling: divisor and multiplier.
    """

    def __init__(
        self,
        native: Native,
        ranges: Sequence[FileRange],
        factors: Sequence[float],
        dtypes: tuple[str, str],
        scaling: tuple[float, float],
    ) -> None:
        self._function, self._ranges = native.read_and_combine, ranges
        self._k = len(ranges)
        self._files = (ctypes.c_int * self._k)(*(place.fileno() for place in ranges))
        self._offsets = (ctypes.c_int64 * self._k)(*(place.offset for place in ranges))
        self._factors = (ctypes.c_double * self._k)(*factors)
        (self._stored, self._output), self._scaling = dtypes, scaling

    def into(self, out: memoryview, start: int, n: int, scratch: memoryview) -> bool | None:
        """Blends n elements from element `start` on.

        Args:
            out: [n] of the output dtype.
            start: within the tensor.
            n: elements.
            scratch: at least `scratch_bytes(k)`.

        Returns:
            As `Combine` does; None where a file did not give all its bytes.
        """
        item_bytes = ITEM_BYTES[self._stored]
        step = _step(self._k)
        result = self._function(
            self._k, self._files, self._offsets, start * item_bytes, step, _address(scratch), self._factors,
            _CODES[self._stored], n, *self._scaling, _CODES[self._output], OVERFLOWS_AT[self._output], _address(out),
        )  # fmt: skip
        return None if result == _READ_FAILED else not result


def scratch_bytes(k: int) -> int:
    """What a `FileSum` of k files needs, whatever its dtype."""
    return _step(k) * 8 * (min(k, _MOST_FILES) + 1)


def _step(k: int) -> int:
    """Elements read at once from each file: so many that a call costs nothing, so few that k of them stay small."""
    return max(_LEAST_STEP, min(_LARGEST_STEP, _NEAR_ELEMENTS // k) // _LEAST_STEP * _LEAST_STEP)


def _address(buffer: memoryview | None) -> int | None:
    """Where writable memory lies; None for none, and for none of it."""
    if buffer is None or not buffer.nbytes:
        return None
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def load(path: Path = LIBRARY) -> Native | None:
    """The compiled pass; None where it was not built, or cannot be used here.

    Args:
        path: the shared library.
    """
    if sys.byteorder != "little":
        return None
    try:
        library = ctypes.CDLL(str(path))
        if library.stockpot_fused_version() != _INTERFACE_VERSION:
            return None
        return Native(library)
    except (OSError, AttributeError):  # not built, of another machine, or of another interface
        return None
