"""`stockpot table`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockpot.errors import ConfigError

if TYPE_CHECKING:
    from stockpot.score_record import ScoreTable

__all__ = ["Format", "table"]


class Format(StrEnum):
    """What is printed."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


def table(
    files: Annotated[
        list[Path],
        typer.Argument(help="Scores, .jsonl/.csv/.tsv(.gz): the individual models first, then soups and ensembles."),
    ],
    held_out: Annotated[
        str | None, typer.Option(help="Column to choose and rank by; required.", show_default=False)
    ] = None,
    test: Annotated[str | None, typer.Option(help="Column of the test set.", show_default=False)] = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(help="Columns of shifted test sets, separated by commas; repeatable.", show_default=False),
    ] = None,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="For losses and errors.")] = False,
    sort: Annotated[
        str | None, typer.Option(help="Order of the rows: a column; default: held-out.", show_default=False)
    ] = None,
    output_format: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.TERMINAL,
    show_all: Annotated[bool, typer.Option("--all", help="On a terminal, too, show every model.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the whole table to this file.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --json file.")] = False,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Draw the scores into this folder.", show_default=False)
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="Settings of the models, .jsonl/.csv with model_name, for --figures.", show_default=False),
    ] = None,
) -> None:
    """Rank models whose scores you measured yourself, beside their soups and ensembles.

    Example: stockpot table scores.jsonl soups.jsonl --held-out val --test test --shift typos,slang
    """
    from stockpot.analysis.score_table import score_table
    from stockpot.cli.console import print_line, print_score_table
    from stockpot.reports import score_table as views
    from stockpot.score_record import write_score_table

    if settings is not None and figures is None:
        raise ConfigError("--settings are drawn, and nothing is", fix="add --figures FOLDER")
    made = score_table(
        files, held_out=held_out, test=test, shifts=_split(shift or []), higher_is_better=not lower_is_better, sort=sort
    )
    if json_file is not None:
        write_score_table(made, json_file, force=force, inputs=files)
    if figures is not None:
        _draw(made, figures, settings)
    if output_format is Format.TERMINAL:
        print_score_table(made, show_all=show_all)
        return
    view = {Format.MARKDOWN: views.markdown, Format.CSV: views.csv_text, Format.LATEX: views.latex}[output_format]
    print_line(view(made).removesuffix("\n"))


def _draw(made: ScoreTable, folder: Path, settings: Path | None) -> None:
    from stockpot.analysis.score_settings import read_settings, settings_notes
    from stockpot.cli.console import print_notes
    from stockpot.reports.drawing import draw_scores

    chosen = read_settings(settings) if settings else {}
    drawn = draw_scores(made, folder, metric="score", settings=chosen)
    print_notes([f"wrote {file}" for file in drawn.files])
    print_notes([f"{name} is not drawn: {why}" for name, why in drawn.left_out.items()])
    if settings is not None:
        others = [row.model_name for row in made.rows if row.kind != "individual"]
        scored = [row.model_name for row in made.individuals]
        print_notes([f"{settings}: {note}" for note in settings_notes(chosen, scored, others)])


def _split(texts: list[str]) -> list[str]:
    """Names between commas; quotes keep a comma inside a name.

    >>> _split(["a, b", '"c,d"'])
    ['a', 'b', 'c,d']
    """
    import csv

    return [name.strip() for cells in csv.reader(texts, skipinitialspace=True) for name in cells or [""]]
