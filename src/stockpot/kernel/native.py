"""The compiled pass (`_fused.c`) behind the signature that all passes share."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stockpot.kernel.passes import MOST_TERMS, OVERFLOWS_AT, Rounding

__all__ = ["LIBRARY", "Native", "load"]

#: Built beside this file when the package is; see hatch_build.py.
LIBRARY = Path(__file__).with_name("_fused.so")
_INTERFACE_VERSION = 1
_CODES = {"F64": 0, "F32": 1, "F16": 2, "BF16": 3}
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
