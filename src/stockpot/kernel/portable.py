"""The pass in numpy: what the compiled one must equal to the bit, and what runs where that is absent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stockpot.kernel.codec import Doubles, decode, encode, fits
from stockpot.kernel.passes import Rounding

__all__ = ["combine"]


def combine(
    terms: Sequence[memoryview],
    factors: Sequence[float],
    dtype: str,
    n: int,
    *,
    before: memoryview | None = None,
    after: memoryview | None = None,
    rounding: Rounding | None = None,
) -> bool:
    """See `stockpot.kernel.passes.Combine`.

    Example:
        >>> term = memoryview(bytearray(np.float32([1, 3]).tobytes()))
        >>> out = memoryview(bytearray(4))
        >>> combine([term], [1.0], "F32", 2, rounding=Rounding(2.0, 1.0, "F16", out))
        True
        >>> np.frombuffer(out, np.float16).tolist()
        [0.5, 1.5]
    """
    total = np.empty(n) if after is None else np.frombuffer(after, np.float64, n)
    values = np.empty(n)
    is_started = before is not None
    is_finite = True
    if before is not None:
        np.copyto(total, np.frombuffer(before, np.float64, n))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for term, factor in zip(terms, factors, strict=True):
            target = values if is_started or not factor else total
            decode(np.frombuffer(term, np.uint8), dtype, target)
            if not factor:
                is_finite &= fits(target, "F64")
                continue
            if factor != 1.0:
                np.multiply(target, factor, out=target)
            if is_started:
                np.add(total, values, out=total)
            is_started = True
        if not is_started:
            total.fill(0.0)
        return is_finite & (rounding is None or _rounded(total, rounding))


def _rounded(total: Doubles, rounding: Rounding) -> bool:
    """Whether the scaled total fits, and then stores it."""
    scaled = total if rounding.divisor == 1.0 else total / rounding.divisor
    if rounding.multiplier != 1.0:
        scaled = scaled * rounding.multiplier
    if not fits(scaled, rounding.dtype):
        return False
    encode(scaled, rounding.dtype, np.frombuffer(rounding.out, np.uint8))
    return True
