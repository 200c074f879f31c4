"""`stockpot figures`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["FigureFormat", "figures"]


class FigureFormat(StrEnum):
    """What files are written."""

    SVG = "svg"
    PNG = "png"
    PDF = "pdf"


def figures(
    out: Annotated[Path, typer.Argument(help="Folder of a finished experiment, comparison or soup.")],
    kind: Annotated[FigureFormat, typer.Option("--format", help="What files to write.")] = FigureFormat.SVG,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to; default: OUT/figures.", show_default=False)
    ] = None,
) -> None:
    """Draw every picture that a folder's records allow, and say which they do not.

    Example: stockpot figures out --format pdf
    """
    from stockpot.cli.console import print_line, print_notes
    from stockpot.reports.drawing import draw_folder

    drawn = draw_folder(out, folder, kind=kind.value)
    for file in drawn.files:
        print_line(str(file))
    print_notes([f"{name} is not drawn: {why}" for name, why in drawn.left_out.items()])
