"""Soup -> tensors, resident module or directory: the one place where checkpoints and kernel meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot._lazy import lazily

if TYPE_CHECKING:
    from stockpot.assembly.deltas import inner_products
    from stockpot.assembly.mixture import DELTAS_BUDGET_BYTES, Mixture
    from stockpot.assembly.opening import opened
    from stockpot.assembly.rebuilt import rebuild
    from stockpot.assembly.resident import ResidentSoup, assign_to
    from stockpot.assembly.starting import SharedStart, shared_start
    from stockpot.assembly.tensors import materialize
    from stockpot.assembly.verified import verify
    from stockpot.assembly.written import OutputOptions, with_digests, write

__all__ = [
    "DELTAS_BUDGET_BYTES",
    "Mixture",
    "OutputOptions",
    "ResidentSoup",
    "SharedStart",
    "assign_to",
    "inner_products",
    "materialize",
    "opened",
    "rebuild",
    "shared_start",
    "verify",
    "with_digests",
    "write",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "inner_products": "deltas",
            **dict.fromkeys(
                [
                    "DELTAS_BUDGET_BYTES",
                    "Mixture",
                ],
                "mixture",
            ),
            "opened": "opening",
            "rebuild": "rebuilt",
            **dict.fromkeys(
                [
                    "ResidentSoup",
                    "assign_to",
                ],
                "resident",
            ),
            **dict.fromkeys(["SharedStart", "shared_start"], "starting"),
            "materialize": "tensors",
            "verify": "verified",
            **dict.fromkeys(
                [
                    "OutputOptions",
                    "with_digests",
                    "write",
                ],
                "written",
            ),
        },
    )
