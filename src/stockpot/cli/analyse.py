"""`stockpot analyse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockpot.cli.options import Initialisation, Key, Sources, Task

__all__ = ["analyse"]


def analyse(
    sources: Sources,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Gets analysis.json; an experiment's folder has most predictions already."),
    ],
    task: Task = None,
    initialisation: Initialisation = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this; repeatable: geometry, plane, line, pairs, count, soup_vs_ensemble, reliability.",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[int, typer.Option(help="Points a side of the plane.")] = 9,
    pairs: Annotated[int, typer.Option(help="Most pairs looked at.")] = 15,
    orders: Annotated[int, typer.Option(help="Random orders behind the number of models.")] = 3,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Where the plane is measured; repeatable. Default: held_out, test.", show_default=False),
    ] = None,
    between: Annotated[
        list[str] | None,
        typer.Option(
            help="A model of line and plane, 2 or 3 times: an ingredient's name, initialisation, or a path (a soup).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of drawn pairs and orders.")] = 0,
    key: Key = None,
) -> None:
    """Look at the space between checkpoints: angles, landscape, barriers, pairs, number of models.

    Example: stockpot analyse 'runs/*' --task task.yaml --initialisation base -o analysis
    """
    from stockpot.checkpoints import ingredients
    from stockpot.cli.console import print_line, print_notes, progress_lines
    from stockpot.experiment.analysing import AnalysisOptions
    from stockpot.experiment.analysing import analyse as analyse_checkpoints
    from stockpot.reports.analysis import analysis_lines

    options = AnalysisOptions(
        parts=tuple(part or ()),
        grid=grid,
        most_pairs=pairs,
        orders=orders,
        splits=tuple(split or ()),
        seed=seed,
        between=tuple(between or ()),
    )
    with progress_lines() as report:
        found = analyse_checkpoints(
            ingredients(*sources, key=key), out, task=task, initialisation=initialisation, options=options,
            on_progress=report,
        )  # fmt: skip
    print_notes(found.notes)
    for line in analysis_lines(found):
        print_line(line)
    print_line(f"wrote {out / 'analysis.json'}; draw it: stockpot figures {out}")
