"""Text that is safe to show: user strings for Markdown and terminals, and tables of pipes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len

__all__ = ["escape", "pipe_table", "printable"]

_SPECIAL = re.compile(r"[\\`*\[\]|~$#]|(?<![^\W_])_|_(?![^\W_])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def printable(text: object) -> str:
    """The text on one line, without control characters (escape sequences among them).

    Example:
        >>> printable("run\\n7\\x1b[31m")
        'run 7 [31m'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def escape(text: object) -> str:
    """The text as Markdown that shows it literally: no markup, no HTML, no new cell, no new line.

    Underscores inside words stay bare: CommonMark leaves them alone and the source reads better.

    Example:
        >>> escape("a|b `c` <script>")
        'a\\\\|b \\\\`c\\\\` &lt;script&gt;'
        >>> escape("lr_3e-5")
        'lr_3e-5'
    """
    shown = _SPECIAL.sub(lambda match: "\\" + match.group(), printable(text))
    return "".join(_HTML.get(character, character) for character in shown)


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table whose source is aligned too; the first `left` columns to the left, numbers to the right.

    Args:
        header: titles, escaped already like all cells.
        rows: as many cells each.
        left: number of columns of words.

    Example:
        >>> print(pipe_table(["method", "test"], [["best", "74.3"], ["greedy", "**74.9**"]]))
        | method |     test |
        | :----- | -------: |
        | best   |     74.3 |
        | greedy | **74.9** |
    """
    widths = [max(3, *map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(_line(cells, widths, left) for cells in (header, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padding = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
    padded = [c + p if i < left else p + c for i, (c, p) in enumerate(zip(cells, padding, strict=True))]
    return f"| {' | '.join(padded)} |"
