"""What `stockpot mix` does once its line is understood."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stockpot.assembly import OutputOptions, with_digests, write
from stockpot.checkpoints import ingredients, size_of
from stockpot.cli.coefficients import mixing_notes, soup_of
from stockpot.cli.console import print_line, print_notes, readable_size
from stockpot.types import Ingredient

__all__ = ["mix_into"]

#: Bytes of all ingredients together whose digests take about 0.1 s.
_SMALL_BYTES = 2**27


def mix_into(
    sources: Sequence[str],
    out: Path,
    options: OutputOptions | None = None,
    *,
    coefficients: str | None = None,
    key: str | None = None,
    digests: bool | None = None,
) -> None:
    """Writes the soup and says what was done.

    Args:
        sources: as typed.
        out: folder to write.
        options: dtype, patterns, shard size.
        coefficients: as typed; None: equal.
        key: which state dict inside a wrapped .pt file.
        digests: records SHA-256 of every input and output; None: where that costs next to nothing.
    """
    members = ingredients(*sources, key=key)
    soup = soup_of(members, coefficients)
    if digests or (digests is None and _are_small(members)):
        soup = soup_of(with_digests(members), coefficients)
    print_notes(mixing_notes(soup))
    written = write(soup, out, options)
    print_notes(written.notes)
    weights = [name for name in written.files if name.endswith(".safetensors")]
    n_bytes = sum((out / name).stat().st_size for name in weights)
    print_line(
        f"mixed {len(members)} checkpoint{'s' if len(members) > 1 else ''} into {out} "
        f"({len(weights)} file{'s' if len(weights) > 1 else ''}, {readable_size(n_bytes)})"
    )


def _are_small(members: Sequence[Ingredient]) -> bool:
    return sum(size_of(member.source) for member in members) <= _SMALL_BYTES
