"""How things look on a terminal, and as plain lines where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockpot.experiment import OnProgress, Progress
    from stockpot.records import Results

__all__ = ["print_error", "print_line", "print_notes", "print_results", "progress_lines"]

_MOST_PROBLEMS = 20


def print_error(message: str, *, problems: Sequence[str] = (), fix: str | None = None) -> None:
    """An error on stderr: what, every instance of it (the first ones), the way out."""
    lines = [f"error: {message}", *(f"  {problem}" for problem in problems[:_MOST_PROBLEMS])]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"  ... and {len(problems) - _MOST_PROBLEMS} more")
    if fix:
        lines.append(f"fix: {fix}")
    sys.stderr.write("\n".join(lines) + "\n")


def print_line(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_notes(notes: Sequence[str]) -> None:
    """Remarks on stderr, so that stdout stays the result."""
    for note in notes:
        sys.stderr.write(f"note: {note}\n")


def print_results(results: Results) -> None:
    """The table and its sentence."""
    from rich.console import Console

    from stockpot.reports.table import terminal

    Console(highlight=False).print(terminal(results))


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
            bars.console.print(progress.line, highlight=False, markup=False)
            if not progress.total:
                return
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=progress.total)
            bars.update(tasks[progress.stage], completed=progress.done)  # type: ignore[arg-type]

        yield show


def _plain_line(progress: Progress) -> None:
    count = f"[{progress.done}/{progress.total}] " if progress.total else ""
    print_line(count + progress.line)
