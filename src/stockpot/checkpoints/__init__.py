"""Checkpoints in and out: the only room that knows file formats.

Everything leaves this room as names, specs and little-endian bytes. safetensors are read by our own strict parser and
need no framework; PyTorch files need the extra `torch` and are never executed; only safetensors are written.
"""

from __future__ import annotations

from stockpot.checkpoints.digests import digest_of, header_digest, modified_ns, size_of
from stockpot.checkpoints.locating import holds_weights
from stockpot.checkpoints.opened import OpenedCheckpoint
from stockpot.checkpoints.opening import open_checkpoint, weight_files
from stockpot.checkpoints.side_files import compare_side_files, copy_side_files
from stockpot.checkpoints.sources import ingredients
from stockpot.checkpoints.writer import parse_size, write_checkpoint

__all__ = [
    "OpenedCheckpoint",
    "compare_side_files",
    "copy_side_files",
    "digest_of",
    "header_digest",
    "holds_weights",
    "ingredients",
    "modified_ns",
    "open_checkpoint",
    "parse_size",
    "size_of",
    "weight_files",
    "write_checkpoint",
]
