"""How the rows of a soup learned by layer are called: short, and never without the number of the layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stockpot.recipes import block_of

__all__ = ["Band", "bands", "short_names"]

_MOST_NAMED = 30
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of coefficients under one label.

    Args:
        label: a layer, or a tensor where there are few.
        rows: positions among the soup's rows, in the order to be shown.
    """

    label: str
    rows: tuple[int, ...]


def bands(groups: Sequence[Sequence[str]]) -> list[Band]:
    """The rows in the order of their layers, a label for each of a few rows, else one for each layer.

    Layer 10 comes after layer 9, whatever the order of the record.

    Args:
        groups: names of the tensors of each row.

    Example:
        >>> bands([["bert.layer.10.k"], ["bert.layer.2.k"]])
        [Band(label='layer.2.k', rows=(1,)), Band(label='layer.10.k', rows=(0,))]
    """
    first = [group[0] if group else "" for group in groups]
    order = sorted(range(len(groups)), key=lambda row: _natural(first[row]))
    by_block: dict[str, list[int]] = {}
    for row in order:
        by_block.setdefault(block_of(first[row]), []).append(row)
    names = dict(zip(by_block, short_names(list(by_block)), strict=True))
    if len(groups) <= _MOST_NAMED:
        return [Band(_called(first[row], names, groups[row]), (row,)) for row in order]
    return [Band(names[block], tuple(rows)) for block, rows in by_block.items()]


def _called(tensor: str, names: Mapping[str, str], group: Sequence[str]) -> str:
    """The short name of its block, and of a tensor alone the rest of its own."""
    block = block_of(tensor)
    return names[block] + (tensor.removeprefix(block) if len(group) == 1 else "")


def short_names(names: Sequence[str]) -> list[str]:
    """As many of their last parts as tell all names apart, at least two: of a layer, what it is and its number.

    Example:
        >>> short_names(["encoder.block.0", "decoder.block.0"]), short_names(["bert.encoder.layer.0", "classifier"])
        (['encoder.block.0', 'decoder.block.0'], ['layer.0', 'classifier'])
    """
    parts = [name.split(".") for name in names]
    for n in range(2, max(map(len, parts), default=0)):
        shown = [".".join(part[-n:]) for part in parts]
        if len(set(shown)) == len(set(names)):
            return shown
    return list(names)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which numbers are numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name)]
