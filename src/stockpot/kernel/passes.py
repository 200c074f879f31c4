"""The arithmetic of a blend on raw bytes: what its compiled and its numpy form have in common.

::

    total = before + sum over i of factors[i] * x_i      float64, in order, from the first term with a factor on
    out   = round(total / divisor * multiplier)          once, to nearest, ties to even
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["MOST_TERMS", "OVERFLOWS_AT", "Combine", "Rounding"]

#: Terms of one call: more come in several calls that hand on the total.
MOST_TERMS = 16
#: The smallest magnitude that rounds beyond the largest finite value: half a step above that value. There a tie goes up
#: (to even) in all formats but F8_E4M3, whose largest value, 448, is even: 464 itself still rounds down.
OVERFLOWS_AT: dict[str, float] = {
    "F64": math.inf,
    "F32": 2.0**128 - 2.0**103,
    "BF16": 2.0**128 - 2.0**119,
    "F16": 65520.0,
    "F8_E5M2": 61440.0,
    "F8_E4M3": math.nextafter(464.0, math.inf),
}


@dataclass(frozen=True, slots=True)
class Rounding:
    """Where and how a total is stored: divided, multiplied, rounded once.

    Args:
        divisor, multiplier: as of a `MixingRule`.
        dtype: one of `stockpot.types.FLOAT_DTYPES`.
        out: filled with little-endian codes.
    """

    divisor: float
    multiplier: float
    dtype: str
    out: memoryview


class Combine(Protocol):
    """Adds some terms to a total and, with the last of them, rounds it."""

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
        """Combines n elements.

        Args:
            terms: at most `MOST_TERMS`, each of n little-endian values of `dtype`.
            factors: one per term; a term with factor 0 is only checked to be finite.
            dtype: of the terms.
            n: elements.
            before: [n] float64, the total of earlier terms; None: these are the first (a sum does not start from 0,
                so that -0.0 stays).
            after: [n] float64, filled with the total; may be `before`.
            rounding: stores the total; None: more terms follow.

        Returns:
            Whether all unadded terms are finite and all stored values fit their dtype. If not, what was stored is void.
        """
