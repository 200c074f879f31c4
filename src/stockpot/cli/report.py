"""`stockpot report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    out: Annotated[Path, typer.Argument(help="Folder of an experiment, a comparison or a soup.")],
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it at a local address, and anew as runs and steps land.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to serve at; by default this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8642,
) -> None:
    """Write one HTML page of everything that a folder's records hold: report.html.

    Example: stockpot report out
    """
    from stockpot.cli.console import print_line
    from stockpot.reports.page import write_page

    if not serve:
        print_line(f"wrote {write_page(out)}")
        return
    from stockpot.errors import OutputError
    from stockpot.reports.page.serving import page_server

    if not out.is_dir():
        raise OutputError(f"{out}: no such folder", fix="give the folder of an experiment, also one under way")

    with page_server(out, host=host, port=port) as server:
        print_line(f"serving {out} at http://{host}:{server.server_address[1]}/ (Ctrl-C ends it)")
        server.serve_forever()
