"""The table of methods and splits, for a file (Markdown) and for a terminal (rich)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stockpot.records import METHODS, Cell, Results, Row
from stockpot.reports.details import calibration_markdown, comparison_markdown, optimism_lines
from stockpot.reports.numbers import Scale, count, scale_of
from stockpot.reports.sentence import summary_sentence
from stockpot.reports.text import escape, pipe_table, printable

__all__ = [
    "column_title",
    "is_best",
    "markdown",
    "method_title",
    "ordered_columns",
    "ordered_rows",
    "summary_sentence",
    "terminal",
]

_LABELS: Mapping[str, str] = {
    "best": "best individual",
    "uniform": "uniform soup",
    "greedy": "greedy soup",
    "greedy_random": "greedy soup, random order",
    "ensemble": "logit ensemble",
    "pruned": "pruned soup",
    "top_k": "mean of the best k",
    "interpolate": "WiSE-FT interpolation",
}
_SHORT_LABELS: Mapping[str, str] = {
    **_LABELS, "greedy_random": "random order", "top_k": "top k", "interpolate": "interpolated"
}  # fmt: skip
_TITLES: Mapping[str, str] = {"held_out": "held-out", "test": "test", "shift_mean": "mean of shifts"}
_OPTIMISTIC = "Held-out is optimistic for every method that was chosen on it; compare on the other columns."


def markdown(results: Results) -> str:
    """The content of results.md: table, sentence and notes.

    Args:
        results: as recorded.

    Returns:
        GitHub-flavoured Markdown; the table's source is aligned, so it reads well in an editor too.

    Example:
        >>> rows = (Row("best", 1, 1, {"test": Cell(0.743, 0.0098, 2000)}),)
        >>> print(markdown(Results("accuracy", True, rows)).splitlines()[2])
        | best individual | **74.3 ± 1.0** |           1 |   ×1 |
    """
    scale, columns = scale_of(results), ordered_columns(results)
    header = ["method", *(_titled(results, column) for column in columns), "ingredients", "cost"]
    best = {column: _best(results, column, scale) for column in columns}
    rows = [
        [
            escape(method_title(row)),
            *(_markdown_cell(row, column, scale, best[column]) for column in columns),
            count(row.n_ingredients),
            f"×{row.inference_cost}",
        ]
        for row in ordered_rows(results)
    ]
    sentence, titles = results.sentence or summary_sentence(results), titles_of(results)
    lines = [*_legend(results), *optimism_lines(results, titles=titles), *results.notes]
    sections = [pipe_table(header, rows), escape(sentence), "\n".join(f"- {escape(line)}" for line in lines)]
    for title, text in (
        ("Paired comparisons", comparison_markdown(results, titles=titles)),
        ("Calibration", calibration_markdown(results, titles=titles)),
    ):
        sections += [f"## {title}", text] if text else []
    return "\n\n".join(sections) + "\n"


def terminal(results: Results) -> RenderableType:
    """The same for a terminal: as much of the table as the width holds, never a broken line.

    Wide terminals get every standard error; narrower ones one row of the largest per column, then short names, then the
    mean of the shifts alone. The best values carry an asterisk, so that they stay marked without colours.

    Args:
        results: as recorded.

    Returns:
        Something for `rich.console.Console.print`.
    """
    return _Terminal(results)


def column_title(split: str) -> str:
    """The title of a split's column.

    Example:
        >>> column_title("shift:typos"), column_title("shift_mean")
        ('typos', 'mean of shifts')
    """
    return _TITLES.get(split) or split.removeprefix("shift:").replace("_", " ")


def ordered_rows(results: Results) -> list[Row]:
    """Known methods in the table's order, later ones after them as recorded."""
    rank = {method: index for index, method in enumerate(METHODS)}
    return sorted(results.rows, key=lambda row: rank.get(row.method, len(METHODS)))


def ordered_columns(results: Results) -> list[str]:
    """Every split that any row has: held-out, test, the shifts as recorded, their mean."""
    splits = dict.fromkeys(split for row in results.rows for split in row.scores)
    rank = {"held_out": 0, "test": 1, "shift_mean": 3}
    return sorted(splits, key=lambda split: rank.get(split, 2))


def is_best(results: Results, row: Row, column: str) -> bool:
    """Whether the row has the best value of the column, as shown, among single models."""
    scale = scale_of(results)
    return _is_best(row, column, scale, _best(results, column, scale))


def titles_of(results: Results) -> dict[str, str]:
    """Method or column -> its title."""
    columns = {column: column_title(column) for column in ordered_columns(results)}
    return {**columns, **{row.method: method_title(row) for row in results.rows}}


def method_title(row: Row, labels: Mapping[str, str] = _LABELS) -> str:
    label = labels.get(row.method, row.method.replace("_", " "))
    orders = max((cell.n_orders or 0 for cell in row.scores.values()), default=0)
    return printable(f"{label} ({orders})" if orders else label)


def _n(results: Results, column: str) -> int | None:
    """How many examples the column is about, when all its cells agree."""
    counts = {row.scores[column].n for row in results.rows if column in row.scores}
    return counts.pop() if len(counts) == 1 else None


def _titled(results: Results, column: str) -> str:
    n = _n(results, column)
    return escape(column_title(column)) + ("" if n is None else f" (n={n:,})")


def _is_contender(row: Row) -> bool:
    """Whether the row is one model that could be used at the cost of one: no ensemble, no mean over models."""
    return row.inference_cost == 1 and row.method not in {"mean_individual", "ensemble", "greedy_ensemble"}


def _best(results: Results, column: str, scale: Scale) -> float | None:
    """The best value of the column as shown, so that equal looks get equal marks."""
    shown = [scale.rounded(row.scores[column].value) for row in results.rows if _marks(row, column)]
    choose = max if results.higher_is_better else min
    return choose(shown) if shown else None


def _marks(row: Row, column: str) -> bool:
    return _is_contender(row) and column in row.scores


def _is_best(row: Row, column: str, scale: Scale, best: float | None) -> bool:
    return _marks(row, column) and scale.rounded(row.scores[column].value) == best


def _markdown_cell(row: Row, column: str, scale: Scale, best: float | None) -> str:
    if column not in row.scores:
        return ""
    shown = _with_error(row.scores[column], scale)
    return f"**{shown}**" if _is_best(row, column, scale, best) else shown


def _with_error(cell: Cell, scale: Scale) -> str:
    error = "" if cell.stderr is None else f" ± {scale.number(cell.stderr)}"
    spread = "" if cell.sd is None else f" ({scale.number(cell.sd)})"
    return scale.number(cell.value) + error + spread


def _legend(results: Results) -> list[str]:
    lines = [f"{_metric(results)}; ± standard error; n examples; cost ×k is k forward passes per example."]
    if any(cell.sd is not None for row in results.rows for cell in row.scores.values()):
        lines.append("In brackets: standard deviation over the random orders, whose mean is shown.")
    lines.append(
        "Bold: best of its column among single models (cost ×1); ensembles and the mean individual do not compete."
    )
    return lines + _optimistic(results)


def _optimistic(results: Results) -> list[str]:
    """Where held-out is all there is, the sentence says what it is worth."""
    columns = ordered_columns(results)
    return [_OPTIMISTIC] if "held_out" in columns and len(columns) > 1 else []


def _metric(results: Results) -> str:
    unit = " in percent" if scale_of(results).factor == 100.0 else ""
    return f"Scores: {printable(results.metric)}{unit}{'' if results.higher_is_better else ', less is better'}"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How much of the table is shown, and in which characters."""

    errors_in_cells: bool = False
    short_names: bool = True
    single_shifts: bool = True
    gap: int = 1
    ascii_only: bool = False

    def spell(self, text: str) -> str:
        """The text in characters that the terminal has."""
        if not self.ascii_only:
            return text
        return text.replace("±", "+-").replace("×", "x").encode("ascii", "replace").decode()


_LAYOUTS = tuple(
    replace(layout, gap=gap)
    for layout in (
        _Layout(errors_in_cells=True, short_names=False),
        _Layout(short_names=False),
        _Layout(),
        _Layout(single_shifts=False),
    )
    for gap in (1, 0)
)


@dataclass(frozen=True, slots=True)
class _Terminal:
    """Chooses the layout when the width is known: the first that fits, else the narrowest."""

    results: Results

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update_width(10_000)
        for layout in (replace(layout, ascii_only=options.ascii_only) for layout in _LAYOUTS):
            table = _rich_table(self.results, layout)
            if Measurement.get(console, unlimited, table).maximum <= options.max_width:
                break
        yield Group(table, *_below(self.results, layout))


def _rich_table(results: Results, layout: _Layout) -> Table:
    scale = scale_of(results)
    columns = [c for c in ordered_columns(results) if layout.single_shifts or not c.startswith("shift:")]
    best = {column: _best(results, column, scale) for column in columns}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, layout.gap, 0, 0))
    table.add_column(Text("method") + Text("\nexamples", style="dim"), no_wrap=True)
    for column in columns:
        table.add_column(_with_room(_rich_title(results, column, layout)), justify="right", no_wrap=True)
    table.add_column("k", justify="right", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for row in ordered_rows(results):
        scores = [_rich_cell(row, column, scale, best[column], layout) for column in columns]
        costs = [count(row.n_ingredients), layout.spell(f"×{row.inference_cost}")]
        table.add_row(Text(_rich_label(row, layout)), *scores, *costs, style="" if _is_contender(row) else "dim")
    if not layout.errors_in_cells:
        _add_errors(table, results, columns, layout)
    return table


def _rich_title(results: Results, column: str, layout: _Layout) -> Text:
    title = "mean" if column == "shift_mean" else printable(column_title(column))
    n = _n(results, column)
    return Text(layout.spell(title)) + Text("\n" if n is None else f"\n{n:,}", style="dim")


def _rich_label(row: Row, layout: _Layout) -> str:
    return layout.spell(method_title(row, _SHORT_LABELS if layout.short_names else _LABELS))


def _rich_cell(row: Row, column: str, scale: Scale, best: float | None, layout: _Layout) -> RenderableType:
    if column not in row.scores:
        return Text("")
    cell, marked = row.scores[column], _is_best(row, column, scale, best)
    shown = Text(scale.number(cell.value), style="bold green" if marked else "")
    if layout.errors_in_cells and cell.stderr is not None:
        shown.append(layout.spell(f" ±{scale.number(cell.stderr)}"), style="dim")
    return shown.append("*") if marked else _with_room(shown)


def _with_room(text: str | Text) -> RenderableType:
    """The text with the place of a mark behind it; rich strips a plain space from what is aligned to the right."""
    return Padding(text, (0, 1, 0, 0))


def _add_errors(table: Table, results: Results, columns: Sequence[str], layout: _Layout) -> None:
    """One row for all standard errors: within a column they hardly differ."""
    cells = [[row.scores[column] for row in results.rows if column in row.scores] for column in columns]
    largest = [max((cell.stderr for cell in column if cell.stderr is not None), default=None) for column in cells]
    if any(error is not None for error in largest):
        scale = scale_of(results)
        shown = ["" if error is None else _with_room(scale.number(error)) for error in largest]
        table.add_section()
        table.add_row(layout.spell("± at most"), *shown, style="dim")


def _below(results: Results, layout: _Layout) -> list[Text]:
    hidden = 0 if layout.single_shifts else sum(column.startswith("shift:") for column in ordered_columns(results))
    lines = [f"{_metric(results)}; k ingredients; * best of its column among single models (cost ×1)."]
    lines += _optimistic(results)
    lines += [f"The {hidden} shifts behind the mean are in results.md."] if hidden else []
    lines += [printable(note) for note in results.notes]
    sentence = printable(results.sentence or summary_sentence(results))
    legend = [Text(layout.spell(line), style="dim") for line in lines]
    return [Text(""), *legend, Text(""), Text(layout.spell(sentence), style="bold")]
