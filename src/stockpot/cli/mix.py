"""`stockpot mix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockpot.cli.options import Key, Sources

__all__ = ["mix"]


def mix(
    sources: Sources,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must be new or empty.")],
    coefficients: Annotated[
        str | None, typer.Option(help="One number per source, e.g. 0.5,0.3,0.2; default: equal.", show_default=False)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Output dtype: fp32, bf16, fp16, ...; default: as stored.", show_default=False)
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Blend only tensors matching this glob; the rest comes from the first source. Repeatable."),
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Split larger outputs into shards.")] = "5GB",
    key: Key = None,
    digests: Annotated[bool, typer.Option("--digests", help="Record SHA-256 of every input and output.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Average checkpoints into one; needs no task and no model class.

    Example: stockpot mix 'runs/*' -o soup
    """
    from stockpot.assembly import OutputOptions, with_digests, write
    from stockpot.checkpoints import ingredients
    from stockpot.cli.coefficients import mixing_notes, soup_of
    from stockpot.cli.console import print_line, print_notes, readable_size

    members = ingredients(*sources, key=key)
    soup = soup_of(members, coefficients)
    if digests:
        soup = soup_of(with_digests(members), coefficients)
    print_notes(mixing_notes(soup))
    options = OutputOptions(dtype=dtype, only=tuple(only or ()), max_shard_size=max_shard_size, force=force)
    written = write(soup, out, options)
    print_notes(written.notes)
    weights = [name for name in written.files if name.endswith(".safetensors")]
    n_bytes = sum((out / name).stat().st_size for name in weights)
    print_line(
        f"mixed {len(members)} checkpoint{'s' if len(members) > 1 else ''} into {out} "
        f"({len(weights)} file{'s' if len(weights) > 1 else ''}, {readable_size(n_bytes)})"
    )
