"""How things look on a terminal, and as plain lines where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockpot.experiment import OnProgress, Progress
    from stockpot.records import Results
    from stockpot.score_record import ScoreTable

__all__ = [
    "MOST_PROBLEMS",
    "print_error",
    "print_line",
    "print_notes",
    "print_results",
    "print_score_table",
    "progress_lines",
    "readable_size",
]

#: Lines of problems under an error, unless --debug asks for all.
MOST_PROBLEMS = 20
_UNITS = ("bytes", "KB", "MB", "GB")


def print_error(
    message: str, *, problems: Sequence[str] = (), fix: str | None = None, most: int | None = MOST_PROBLEMS
) -> None:
    """An error on stderr: what, every instance of it (`most` of them at most), the way out."""
    lines = [f"error: {message}", *(f"  {_indented(problem)}" for problem in problems[:most])]
    if most is not None and len(problems) > most:
        lines.append(f"  ... and {len(problems) - most} more (--debug lists all)")
    if fix:
        lines.append(f"fix: {fix}")
    sys.stderr.write(_harmless("\n".join(lines)) + "\n")


def print_line(text: str) -> None:
    """One line on stdout."""
    with _leaving_when_unheard():
        sys.stdout.write(_harmless(text) + "\n")
        sys.stdout.flush()


@contextmanager
def _leaving_when_unheard() -> Iterator[None]:
    """Ends the command when stdout is gone; by no error, which within a user's evaluate would be taken for theirs."""
    try:
        yield
    except OSError as exc:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - Python flushes it at the end
        if isinstance(exc, BrokenPipeError):  # `stockpot ... | head`
            raise SystemExit(1) from exc
        print_error(f"cannot write to standard output: {exc.strerror or exc}", fix="redirect it elsewhere; what was "
                    "written to files is whole, and what was computed is kept")  # fmt: skip
        raise SystemExit(2) from exc


def print_notes(notes: Sequence[str]) -> None:
    """Remarks on stderr, so that stdout stays the result."""
    for note in notes:
        sys.stderr.write(_harmless(f"note: {note}") + "\n")


def print_results(results: Results) -> None:
    """The table and its sentence."""
    from rich.console import Console

    from stockpot.reports.table import terminal

    with _leaving_when_unheard():
        Console(highlight=False).print(terminal(results))


def print_score_table(table: ScoreTable, *, show_all: bool) -> None:
    """The table of a user's own scores and what it says."""
    from rich.console import Console

    from stockpot.reports.score_terminal import terminal

    with _leaving_when_unheard():
        Console(highlight=False).print(terminal(table, show_all=show_all))


def readable_size(n_bytes: int) -> str:
    """Bytes in the largest unit that leaves at least 1.

    Example:
        >>> readable_size(288), readable_size(437_951_328)
        ('288 bytes', '438.0 MB')
    """
    power = 0
    while power + 1 < len(_UNITS) and n_bytes >= 1000 ** (power + 1):
        power += 1
    return f"{n_bytes / 1000**power:,.{1 if power else 0}f} {_UNITS[power]}"


def _indented(problem: str) -> str:
    return problem.replace("\n", "\n    ")


def _harmless(text: str) -> str:
    """The text without control characters: a tensor's or file's name must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


@contextmanager
def progress_lines() -> Iterator[OnProgress]:
    """Lines as things happen, above a bar with the time left on a terminal; plain lines elsewhere."""
    if not sys.stdout.isatty():
        yield _plain_line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, transient=True) as bars:
        tasks: dict[str, object] = {}

        def show(progress: Progress) -> None:
            bars.console.print(_harmless(progress.line), highlight=False, markup=False)
            if not progress.total:
                return
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=progress.total)
            bars.update(tasks[progress.stage], completed=progress.done)  # type: ignore[arg-type]

        yield show


def _plain_line(progress: Progress) -> None:
    count = f"[{progress.done}/{progress.total}] " if progress.total else ""
    print_line(count + progress.line)
