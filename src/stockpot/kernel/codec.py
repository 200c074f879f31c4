"""Little-endian bytes <-> float64: every floating dtype is read exactly and rounded once, to the nearest even.

decode: code -> x                   exact, because float64 holds every value of every format here
encode: x -> the code nearest to x  one rounding; of two equally near codes the even one
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.kernel.passes import OVERFLOWS_AT

__all__ = ["Bytes", "Doubles", "decode", "encode", "fits"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Doubles: TypeAlias = npt.NDArray[np.float64]

#: Formats that numpy knows; its float64 -> float16 works on the bits of the float64: one rounding.
_NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
#: Stored mantissa bits and exponent bias of the 8-bit formats (Micikevicius et al., 2022).
_MANTISSA_BITS = {"F8_E4M3": 3, "F8_E5M2": 2}
_EXPONENT_BIAS = {"F8_E4M3": 7, "F8_E5M2": 15}
#: Stored mantissa bits kept of a float64 before an 8-bit code is looked up: see `_encode_f8`.
_KEPT_BITS = 5
_DROPPED_BITS = 52 - _KEPT_BITS


def decode(raw: Bytes, dtype: str, out: Doubles) -> None:
    """Reads little-endian codes as float64, exactly; NaN and infinity stay what they are.

    Args:
        raw: [n * bytes per element] the stored bytes.
        dtype: one of `stockpot.types.FLOAT_DTYPES`. F8_E4M3 is the variant without infinities ("fn").
        out: [n] filled with the values.

    Example:
        >>> values = np.empty(2)
        >>> decode(np.array([0x80, 0x3F, 0x00, 0x80], np.uint8), "BF16", values)
        >>> values
        array([ 1., -0.])
    """
    if dtype in _MANTISSA_BITS:
        # "clip" only spares the bounds check: a byte always lies within 256 values.
        np.take(_f8_values(dtype), raw, out=out, mode="clip")
        return
    with np.errstate(invalid="ignore"):  # a signalling NaN
        np.copyto(out, _upper_halves(raw) if dtype == "BF16" else raw.view(_NUMPY_DTYPES[dtype]))


def encode(values: Doubles, dtype: str, out: Bytes) -> None:
    """Rounds float64 values once, to the nearest code of `dtype`, ties to even; zeros keep their sign.

    Args:
        values: [n] values that all `fits`; anything else has no code here.
        dtype: one of `stockpot.types.FLOAT_DTYPES`.
        out: [n * bytes per element] filled with little-endian codes.

    Example:
        >>> out = np.empty(4, np.uint8)
        >>> encode(np.array([1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-40]), "BF16", out)
        >>> out.view("<u2").tolist() == [0x3F80, 0x3F81]
        True
    """
    _ENCODERS[dtype](values, dtype, out)


def fits(values: Doubles, dtype: str) -> bool:
    """Whether every value is finite and rounds to a finite value of `dtype`.

    Example:
        >>> fits(np.array([0.0, -65519.9]), "F16"), fits(np.array([65520.0]), "F16"), fits(np.array([np.nan]), "F64")
        (True, False, False)
    """
    # A NaN carries through min and max and fails both comparisons.
    limit = OVERFLOWS_AT[dtype]
    return bool(values.max(initial=0.0) < limit and values.min(initial=0.0) > -limit)


def _upper_halves(raw: Bytes) -> npt.NDArray[np.float32]:
    """The float32 values whose leading 16 bits are given."""
    bits = raw.view("<u2").astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def _encode_by_numpy(values: Doubles, dtype: str, out: Bytes) -> None:
    with np.errstate(under="ignore"):
        np.copyto(out.view(_NUMPY_DTYPES[dtype]), values, casting="same_kind")


def _encode_bf16(values: Doubles, _dtype: str, out: Bytes) -> None:
    """Goes through float32: rounding twice is wrong only where the first result lies on a tie, and these are redone."""
    with np.errstate(under="ignore"):
        bits = values.astype(np.float32).view(np.uint32)
    ties = (bits & 0xFFFF) == 0x8000
    if ties.any():
        bits[ties] = _rounded_to_odd(values[ties])
    bits += 0x7FFF + ((bits >> 16) & 1)
    bits >>= 16
    np.copyto(out.view("<u2"), bits, casting="same_kind")


def _rounded_to_odd(values: Doubles) -> npt.NDArray[np.uint32]:
    """Float32 bits of values cut towards zero, the last bit set where something was cut (Boldo and Melquiond, 2008).

    No such number lies on a tie of a format two bits shorter unless the value itself does: it may be rounded again.
    """
    with np.errstate(under="ignore"):
        nearest = values.astype(np.float32)
    back = nearest.astype(np.float64)
    bits = nearest.view(np.uint32)
    bits -= np.abs(back) > np.abs(values)
    bits |= back != values
    return bits


def _encode_f8(values: Doubles, dtype: str, out: Bytes) -> None:
    """Rounds to odd at 6 significant bits, then looks the code up.

    The midpoints between 8-bit codes have at most 5 significant bits: a value keeps its side of every midpoint.
    """
    bits = values.view(np.uint64)
    was_cut = (bits & np.uint64(2**_DROPPED_BITS - 1)) != 0
    index = (bits >> np.uint64(_DROPPED_BITS)).astype(np.uint32)
    index |= was_cut
    np.take(_f8_codes(dtype), index, out=out, mode="clip")


@cache
def _f8_values(dtype: str) -> Doubles:
    """The values of the 256 codes of an 8-bit format."""
    return np.array([_f8_value(code, dtype) for code in range(256)])


def _f8_value(code: int, dtype: str) -> float:
    mantissa_bits, bias = _MANTISSA_BITS[dtype], _EXPONENT_BIAS[dtype]
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = divmod(code & 0x7F, 1 << mantissa_bits)
    if dtype == "F8_E4M3" and code & 0x7F == 0x7F:
        return math.nan
    if dtype == "F8_E5M2" and exponent == 31:
        return math.nan if mantissa else sign * math.inf
    significand = mantissa + ((1 << mantissa_bits) if exponent else 0)
    return sign * math.ldexp(significand, max(exponent, 1) - bias - mantissa_bits)


@cache
def _f8_codes(dtype: str) -> Bytes:
    """The code nearest to each float64 of `_KEPT_BITS` mantissa bits, by the float64's leading bits."""
    leading = np.arange(2 ** (12 + _KEPT_BITS), dtype=np.uint64)
    numbers = (leading << np.uint64(_DROPPED_BITS)).view(np.float64)
    magnitudes = np.searchsorted(_f8_boundaries(dtype), np.abs(numbers), side="left")
    return (magnitudes | (np.signbit(numbers) << 7)).astype(np.uint8)


def _f8_boundaries(dtype: str) -> Doubles:
    """The largest values that still round to codes 0, 1, 2, ...: a tie goes to the even code."""
    values = _f8_values(dtype)[:128]
    finite = values[np.isfinite(values)]
    middles = (finite[:-1] + finite[1:]) / 2
    return np.where(np.arange(len(middles)) % 2, np.nextafter(middles, 0.0), middles)


_ENCODERS: dict[str, Callable[[Doubles, str, Bytes], Any]] = {
    "F64": _encode_by_numpy,
    "F32": _encode_by_numpy,
    "F16": _encode_by_numpy,
    "BF16": _encode_bf16,
    "F8_E4M3": _encode_f8,
    "F8_E5M2": _encode_f8,
}
