"""The textbook blend, one number at a time, with its own rounding: what the kernel has to match bit for bit.

It shares no code with the kernel and uses no array library. Python's float is the IEEE 754 double of the design's
arithmetic rules: each + and * rounds once, to the nearest even. Rounding to a narrower format is exact, in fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

__all__ = ["FORMATS", "Format", "code_of", "from_codes", "midpoint", "reference_blend", "to_codes", "value_of"]


class Format(NamedTuple):
    """A binary floating-point format.

    Args:
        n_bytes: of a code.
        precision: significant bits, the hidden one included.
        minimum_exponent: of the last bit of a subnormal: the smallest positive value is 2**minimum_exponent.
        largest_code: of the largest finite value.
        first_nan: the smallest code, sign left out, that is a NaN.
    """

    n_bytes: int
    precision: int
    minimum_exponent: int
    largest_code: int
    first_nan: int

    @property
    def sign_bit(self) -> int:
        return 1 << (8 * self.n_bytes - 1)


FORMATS = {
    "F64": Format(8, 53, -1074, 0x7FEF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0001),
    "F32": Format(4, 24, -149, 0x7F7F_FFFF, 0x7F80_0001),
    "F16": Format(2, 11, -24, 0x7BFF, 0x7C01),
    "BF16": Format(2, 8, -133, 0x7F7F, 0x7F81),
    "F8_E4M3": Format(1, 4, -9, 0x7E, 0x7F),
    "F8_E5M2": Format(1, 3, -16, 0x7B, 0x7D),
}


def value_of(code: int, dtype: str) -> float:
    """The number that a code stands for."""
    form = FORMATS[dtype]
    sign = -1.0 if code & form.sign_bit else 1.0
    magnitude = code & (form.sign_bit - 1)
    if magnitude > form.largest_code:
        return math.nan if magnitude >= form.first_nan else sign * math.inf
    hidden = 1 << (form.precision - 1)
    exponent, mantissa = divmod(magnitude, hidden)
    significand = mantissa + hidden if exponent else mantissa
    return sign * math.ldexp(significand, max(exponent, 1) - 1 + form.minimum_exponent)


def code_of(value: float, dtype: str) -> int:
    """The code nearest to a finite value, ties to the even one.

    Raises:
        OverflowError: the value rounds beyond the largest finite one.
    """
    form = FORMATS[dtype]
    exponent = math.frexp(value)[1] if value else -5000
    last_bit = max(exponent - form.precision, form.minimum_exponent)
    significand = round(abs(Fraction(value)) / Fraction(2) ** last_bit)  # Python rounds fractions to the nearest even
    # Within a binade codes count up by one, and so does the last code of a binade to the first of the next.
    code = (last_bit - form.minimum_exponent) * (1 << (form.precision - 1)) + significand
    if code > form.largest_code:
        raise OverflowError(f"{value!r} does not fit {dtype}")
    return code | (form.sign_bit if math.copysign(1.0, value) < 0 else 0)


def midpoint(code: int, dtype: str) -> float:
    """The float64 halfway between a code and the next larger one (exact for formats of at most 32 bits)."""
    form = FORMATS[dtype]
    step = max(code // (1 << (form.precision - 1)), 1) - 1 + form.minimum_exponent
    return value_of(code, dtype) + math.ldexp(0.5, step)


def from_codes(codes: Sequence[int], dtype: str) -> bytes:
    """Little-endian bytes of codes."""
    return b"".join(code.to_bytes(FORMATS[dtype].n_bytes, "little") for code in codes)


def to_codes(data: bytes, dtype: str) -> list[int]:
    """The codes in little-endian bytes."""
    width = FORMATS[dtype].n_bytes
    return [int.from_bytes(data[i : i + width], "little") for i in range(0, len(data), width)]


def reference_blend(
    tensors: Sequence[bytes], dtype: str, coefficients: Sequence[float], output_dtype: str | None = None
) -> bytes:
    """The blend of one tensor: float64 sums in order, equal coefficients taken out, one rounding."""
    columns = zip(*(to_codes(tensor, dtype) for tensor in tensors), strict=True)
    values = [[value_of(code, dtype) for code in column] for column in columns]
    out = output_dtype or dtype
    return from_codes([code_of(_blend_values(column, coefficients), out) for column in values], out)


def _blend_values(values: Sequence[float], coefficients: Sequence[float]) -> float:
    pairs = [(c, x) for c, x in zip(coefficients, values, strict=True) if c != 0]
    if not pairs:
        return 0.0
    n, common = len(pairs), pairs[0][0]
    if all(c == common for c, _ in pairs):
        total = _sum([x for _, x in pairs])
        return total / n if common == 1.0 / n else total * common
    return _sum([c * x for c, x in pairs])


def _sum(terms: Sequence[float]) -> float:
    """From the first term on, not from +0.0: -0.0 survives. (The built-in sum compensates since Python 3.12.)"""
    total = terms[0]
    for term in terms[1:]:
        total += term
    return total
