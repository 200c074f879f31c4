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
    digests: Annotated[
        bool | None,
        typer.Option(
            "--digests/--no-digests",
            help="Record SHA-256 of every input and output. Default: of inputs of at most 128 MiB together.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Average checkpoints into one; needs no task and no model class.

    Example: stockpot mix 'runs/*' -o soup
    """
    from stockpot.assembly import OutputOptions
    from stockpot.cli.mixing import mix_into

    options = OutputOptions(dtype=dtype, only=tuple(only or ()), max_shard_size=max_shard_size, force=force)
    mix_into(sources, out, options, coefficients=coefficients, key=key, digests=digests)
