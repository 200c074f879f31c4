"""Which tensors share a row of coefficients in a learned soup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

from stockpot.errors import ConfigError

__all__ = ["Granularity", "block_of", "tensor_groups"]

Granularity: TypeAlias = Literal["model", "block", "tensor"]


def tensor_groups(names: Iterable[str], granularity: Granularity) -> tuple[tuple[str, ...], ...] | None:
    """Names of tensors by row of coefficients, in the order in which they come.

    A block is what a name says before and with its first number (`encoder.layer.3`); names without a number are
    grouped by their first component but the last (`embeddings`, `classifier`).

    Args:
        names: of all blended tensors.
        granularity: "model": one row for all; "tensor": one row each (Wortsman et al. 2022, "learned by layer"); or
            "block".

    Returns:
        Groups that cover every name once; None for "model".

    Raises:
        ConfigError: another granularity.

    Example:
        >>> names = ["bert.embeddings.word.weight", "bert.layer.0.k.weight", "bert.layer.0.k.bias", "head.weight"]
        >>> [len(group) for group in tensor_groups(names, "block")], tensor_groups(names, "model")
        ([1, 2, 1], None)
    """
    if granularity not in get_args(Granularity):
        raise ConfigError(f"granularity is {granularity!r}, not one of {', '.join(get_args(Granularity))}")
    if granularity == "model":
        return None
    by_block: dict[str, list[str]] = {}
    for name in names:
        by_block.setdefault(name if granularity == "tensor" else block_of(name), []).append(name)
    return tuple(tuple(group) for group in by_block.values())


def block_of(name: str) -> str:
    """The block that a tensor belongs to, by its name.

    Example:
        >>> block_of("bert.encoder.layer.3.attention.self.query.weight"), block_of("bert.pooler.dense.bias")
        ('bert.encoder.layer.3', 'bert.pooler')
    """
    parts = name.split(".")
    numbered = next((position for position, part in enumerate(parts) if part.isdigit()), None)
    if numbered is not None:
        return ".".join(parts[: numbered + 1])
    return ".".join(parts[: max(1, min(2, len(parts) - 1))])
