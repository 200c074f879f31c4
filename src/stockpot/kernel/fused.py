"""The fastest way to combine: compiled where that is at hand, in numpy otherwise, to the same bits."""

from __future__ import annotations

import os
from functools import cache

from stockpot.kernel.native import Native, load
from stockpot.kernel.passes import Combine

__all__ = ["combine_for"]


def combine_for(*dtypes: str) -> Combine:
    """What combines values of these dtypes.

    Args:
        dtypes: stored and output dtypes.

    Example:
        >>> combine_for("F8_E4M3", "F32").__name__  # 8-bit formats are numpy's
        'combine'
    """
    native = _native()
    if native is not None and native.takes(dtypes):
        return native
    from stockpot.kernel.portable import combine  # numpy: 0.1 s of imports that the compiled pass does without

    return combine


@cache
def _native() -> Native | None:
    """The compiled pass; None where it was not built or the environment variable STOCKPOT_PORTABLE is set."""
    return None if os.environ.get("STOCKPOT_PORTABLE") else load()
