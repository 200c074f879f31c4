"""`stockpot verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["verify"]


def verify(
    soup: Annotated[Path, typer.Argument(help="Folder of a soup, or its soup.json.")],
    ingredients: Annotated[bool, typer.Option("--ingredients", help="Check the ingredients too.")] = False,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="Blend the ingredients again and compare every bit; writes nothing.")
    ] = False,
) -> None:
    """Check a soup's folder against its record: files, sizes, digests, tensors.

    Example: stockpot verify soup --ingredients
    """
    from stockpot.assembly import verify as verify_soup
    from stockpot.cli.console import print_line

    for line in verify_soup(soup, ingredients=ingredients, tensors=tensors):
        print_line(line)
