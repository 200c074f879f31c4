"""The command line: parse, call one public function, print one result. Nothing below imports this room."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command line; Ctrl-C is answered from the first import on."""
    try:
        from stockpot.cli.entry import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted before anything was done\nfix: run the same command again\n")
        sys.exit(130)
