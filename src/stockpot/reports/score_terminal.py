"""The table of a user's own scores for a terminal: as much of it as the window holds, never a broken line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stockpot.reports.score_table import (
    Looks,
    correlation_rows,
    findings,
    legend,
    looks_of,
    part,
)
from stockpot.reports.text import printable
from stockpot.score_record import ScoreRow, ScoreTable

__all__ = ["MOST_ROWS", "terminal"]

#: Individuals shown unless all are asked for.
MOST_ROWS = 20
_FOLDS = re.compile(r"(?<=[-_ /.])|(?<=[a-z])(?=[A-Z])")
_CORRELATED = "rho"
#: Widths to which titles are folded where they can be.
_ROOMY, _TIGHT = 8, 6


def terminal(table: ScoreTable, *, show_all: bool = False) -> RenderableType:
    """The table with its findings.

    Of many models the first 20 are shown, those with the best score of a column, and all soups and ensembles. Narrow
    windows get folded titles, then short names, then the mean of the shifts alone.

    Args:
        table: as made from the user's scores.
        show_all: show every individual.

    Returns:
        Something for `rich.console.Console.print`.
    """
    return _Terminal(table, show_all)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How much of the table is shown, and in which characters."""

    title_width: int = _TIGHT
    name_width: int = 1_000
    single_shifts: bool = True
    gap: int = 0
    ascii_only: bool = False

    def spell(self, text: str) -> str:
        """The text in characters that the terminal has."""
        return text.replace("…", "~").encode("ascii", "replace").decode() if self.ascii_only else text

    def name(self, text: str) -> str:
        """A model's name, cut in the middle: names of one sweep begin alike, and often end alike."""
        text = printable(text)
        if cell_len(text) <= self.name_width:
            return self.spell(text)
        tail = self.name_width // 2
        head = set_cell_size(text, self.name_width - tail - 1).rstrip()
        return self.spell(f"{head}…{text[-tail:]}")

    def title(self, text: str) -> str:
        """A column's name, on several lines where that makes it narrower."""
        return "\n".join(_folded(self.spell(printable(text)), self.title_width))


_LAYOUTS = (
    _Layout(title_width=1_000),
    _Layout(title_width=_ROOMY),
    _Layout(),
    _Layout(name_width=32),
    _Layout(name_width=20),
    _Layout(name_width=12),
    _Layout(single_shifts=False, title_width=_ROOMY),
    _Layout(single_shifts=False, name_width=32),
    _Layout(single_shifts=False, name_width=12),
)
_WIDEST_GAP = 2


@dataclass(frozen=True, slots=True)
class _Terminal:
    """Chooses the layout when the width is known: the first that fits, else the narrowest."""

    table: ScoreTable
    show_all: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        looks = looks_of(self.table)
        rows = _shown(self.table, looks, self.show_all)
        numbers = _number_widths(self.table, rows, looks)
        for layout in (replace(layout, ascii_only=options.ascii_only) for layout in _LAYOUTS):
            widths = _widths(self.table, rows, numbers, layout)
            spare = options.max_width - sum(widths) - (len(widths) - 1)  # one space between columns at least
            if spare >= 0 and _tells_apart(layout, rows):
                break
        gap = max(0, min(_WIDEST_GAP, spare // len(widths)))
        yield Group(_drawn(self.table, rows, looks, replace(layout, gap=gap)), *_below(self.table, rows, looks, layout))


def _shown(table: ScoreTable, looks: Looks, show_all: bool) -> list[ScoreRow]:
    """The first individuals, and the first that is best in a column: a mark that nobody sees would mark nothing."""
    individuals = table.individuals
    if show_all or len(individuals) <= MOST_ROWS:
        return list(individuals)
    champions = [next(r for r in individuals if looks.is_best(r, split)) for split in table.columns.splits]
    return [row for i, row in enumerate(individuals) if i < MOST_ROWS or any(row is c for c in champions)]


def _number_widths(table: ScoreTable, rows: Sequence[ScoreRow], looks: Looks) -> dict[str, int]:
    """The widest number of each column, with the place of its mark."""
    correlations = [values for _, values in correlation_rows(table)]
    widths = {}
    for index, split in enumerate(table.columns.splits):
        shown = [*(looks.number(row, split) for row in (*rows, *table.others)), *(v[index] for v in correlations)]
        widths[split] = max(map(len, shown)) + 1
    return widths


def _widths(table: ScoreTable, rows: Sequence[ScoreRow], numbers: Mapping[str, int], layout: _Layout) -> list[int]:
    """Of every column, gaps not counted."""
    names = [layout.name(row.model_name) for row in (*rows, *table.others)]
    labels = [f"{_CORRELATED} {part(of)}" for of, _ in correlation_rows(table)]
    titles = {split: "\n".join(_titles(table, split, layout)).split("\n") for split in _splits(table, layout)}
    scores = [max(numbers[split], max(map(cell_len, lines)) + 1) for split, lines in titles.items()]
    ranks = [_rank_title(layout), *(str(row.rank) for row in rows)]
    return [max(map(len, ranks)), max(map(cell_len, ("model", *names, *labels))), *scores]


def _splits(table: ScoreTable, layout: _Layout) -> list[str]:
    return [s for s in table.columns.splits if layout.single_shifts or not s.startswith("shift:")]


def _tells_apart(layout: _Layout, rows: Sequence[ScoreRow]) -> bool:
    """Whether names that were cut are still different; those that are alike when whole do not count."""
    names = {printable(row.model_name) for row in rows}
    return len({layout.name(name) for name in names}) == len(names)


def _drawn(table: ScoreTable, rows: Sequence[ScoreRow], looks: Looks, layout: _Layout) -> Table:
    splits = _splits(table, layout)
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, layout.gap, 0, 0))
    drawn.add_column(_rank_title(layout), justify="right", no_wrap=True)
    drawn.add_column("model", no_wrap=True)
    for split in splits:
        drawn.add_column(_title(table, split, layout), justify="right", no_wrap=True)
    hidden = len(rows) < len(table.individuals)
    for block in (rows[:MOST_ROWS], rows[MOST_ROWS:], table.others) if hidden else (rows, table.others):
        for row in block:
            drawn.add_row(*_cells(row, splits, looks, layout))
        drawn.add_section()
    for of, values in correlation_rows(table):
        shown = [value for split, value in zip(table.columns.splits, values, strict=True) if split in splits]
        drawn.add_row("", f"{_CORRELATED} {part(of)}", *map(_with_room, shown), style="dim")
    return drawn


def _rank_title(layout: _Layout) -> str:
    return "rank" if layout.title_width >= _ROOMY else "#"


def _title(table: ScoreTable, split: str, layout: _Layout) -> RenderableType:
    name, role = _titles(table, split, layout)
    return _with_room(Text(name) + Text(f"\n{role}", style="dim"))


def _titles(table: ScoreTable, split: str, layout: _Layout) -> tuple[str, str]:
    """The column's name, and what it is for."""
    is_mean = split == "shift_mean"
    name, role = ("mean", "shifts") if is_mean else (table.columns.column(split), part(split))
    return layout.title(name), layout.title(role)


def _cells(row: ScoreRow, splits: Sequence[str], looks: Looks, layout: _Layout) -> Iterator[RenderableType]:
    yield Text("" if row.rank is None else str(row.rank), style="dim")
    yield Text(layout.name(row.model_name))
    for split in splits:
        shown = looks.number(row, split)
        yield Text(f"{shown}*", style="bold green") if looks.is_best(row, split) else _with_room(shown)


def _with_room(text: str | Text) -> RenderableType:
    """The text with the place of a mark behind it; rich strips a plain space from what is aligned to the right."""
    return Padding(text, (0, 1, 0, 0))


def _folded(title: str, width: int) -> list[str]:
    """
    >>> _folded("ImageNetSketch", 8), _folded("val_accuracy", 8), _folded("test", 8)
    (['ImageNet', 'Sketch'], ['val_', 'accuracy'], ['test'])
    """
    lines = [""]
    for piece in _FOLDS.split(title):
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _below(table: ScoreTable, rows: Sequence[ScoreRow], looks: Looks, layout: _Layout) -> list[Text]:
    n_all, n_shifts = len(table.individuals), len(table.columns.shifts)
    lines = [line.replace("Rank correlation:", f"{_CORRELATED}:") for line in legend(table, mark="*")]
    if len(rows) < n_all:
        lines.append(f"{len(rows)} of {n_all} individuals are shown; --all shows every one.")
    if not layout.single_shifts:
        lines.append(f"The {n_shifts} shifts behind the mean need a wider window; --format csv has every number.")
    found = [Text(layout.spell(line)) for line in findings(table, looks)]
    return [Text(""), *found, Text(""), *(Text(layout.spell(line), style="dim") for line in lines)]
