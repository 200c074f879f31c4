"""The one linear combination of checkpoints: float64 sums in the soup's order, one rounding, constant memory.

The only room that knows what the bytes of a floating tensor mean. It sees checkpoints as `specs` and `read_into`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot._lazy import lazily

if TYPE_CHECKING:
    from stockpot.kernel.combine import blend
    from stockpot.kernel.compatibility import blended_specs, check_compatible, parse_dtype
    from stockpot.kernel.dots import dot_products
    from stockpot.kernel.gram import inner_products
    from stockpot.kernel.running import RunningBlend
    from stockpot.kernel.spans import CHUNK_ELEMENTS, Chunk

__all__ = [
    "CHUNK_ELEMENTS",
    "Chunk",
    "RunningBlend",
    "blend",
    "blended_specs",
    "check_compatible",
    "dot_products",
    "inner_products",
    "parse_dtype",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "blend": "combine",
            **dict.fromkeys(
                [
                    "blended_specs",
                    "check_compatible",
                    "parse_dtype",
                ],
                "compatibility",
            ),
            "dot_products": "dots",
            "inner_products": "gram",
            "RunningBlend": "running",
            **dict.fromkeys(
                [
                    "CHUNK_ELEMENTS",
                    "Chunk",
                ],
                "spans",
            ),
        },
    )
