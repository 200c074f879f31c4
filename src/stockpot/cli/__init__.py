"""The command line: parse, call one public function, print one result. Nothing below imports this room."""

from __future__ import annotations

from stockpot.cli.app import main

__all__ = ["main"]
