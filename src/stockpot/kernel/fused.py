"""The fastest way to combine: compiled where that is at hand, in numpy otherwise, to the same bits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

from stockpot.errors import StockpotError
from stockpot.kernel.mixing import MixingRule
from stockpot.kernel.native import FileSum, Native, load
from stockpot.kernel.passes import Combine
from stockpot.types import Checkpoint, InFiles

__all__ = ["combine_for", "file_sum"]


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


def file_sum(
    checkpoints: Sequence[Checkpoint], name: str, rule: MixingRule, stored: str, output: str
) -> FileSum | None:
    """The blend of a tensor that needs no reading by Python; None where a checkpoint or a dtype does not allow it.

    Args:
        checkpoints: as many as the rule has factors.
        name: a tensor of theirs, stored or tied.
        rule: how it is blended.
        stored, output: dtypes.
    """
    native = _native()
    if native is None or not native.takes((stored, output)):
        return None
    ranges = []
    for checkpoint in checkpoints:
        try:
            place = checkpoint.file_range(name) if isinstance(checkpoint, InFiles) else None
        except StockpotError:  # reading it says the same, when its turn comes
            return None
        if place is None:
            return None
        ranges.append(place)
    return FileSum(native, ranges, rule.factors, (stored, output), (rule.divisor, rule.multiplier))


@cache
def _native() -> Native | None:
    """The compiled pass; None where it was not built or the environment variable STOCKPOT_PORTABLE is set."""
    return None if os.environ.get("STOCKPOT_PORTABLE") else load()
