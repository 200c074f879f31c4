"""Soup -> tensors, resident module or directory: the one place where checkpoints and kernel meet."""

from __future__ import annotations

from stockpot.assembly.deltas import inner_products
from stockpot.assembly.mixture import DELTAS_BUDGET_BYTES, Mixture
from stockpot.assembly.opened import opened
from stockpot.assembly.rebuilt import rebuild
from stockpot.assembly.resident import ResidentSoup, assign_to
from stockpot.assembly.tensors import materialize
from stockpot.assembly.verified import verify
from stockpot.assembly.written import OutputOptions, with_digests, write

__all__ = [
    "DELTAS_BUDGET_BYTES",
    "Mixture",
    "OutputOptions",
    "ResidentSoup",
    "assign_to",
    "inner_products",
    "materialize",
    "opened",
    "rebuild",
    "verify",
    "with_digests",
    "write",
]
