"""`stockpot rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["rebuild"]


def rebuild(
    soup: Annotated[Path, typer.Argument(help="A soup.json, or the folder that holds it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must be new or empty.")],
    sources: Annotated[
        Path | None,
        typer.Option(help="Folder the ingredients were moved to; the last parts of their paths count."),
    ] = None,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="Take ingredients without a recorded digest though they were copied since."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Write a soup again from its record, to the byte; refuse if an ingredient has changed.

    An ingredient is known by its digest, or by size, header and time of modification where none was taken.

    Example: stockpot rebuild soup -o again
    """
    from stockpot.assembly import rebuild as rebuild_soup
    from stockpot.cli.console import print_line, print_notes, readable_size

    written = rebuild_soup(soup, out, force=force, sources=sources, by_time=not unchecked)
    print_notes(written.notes)
    weights = [name for name in written.files if name.endswith(".safetensors")]
    n_bytes = sum((out / name).stat().st_size for name in weights)
    files = f"{len(weights)} file{'s' if len(weights) > 1 else ''}"
    print_line(f"rebuilt {soup} in {out} ({files}, {readable_size(n_bytes)})")
