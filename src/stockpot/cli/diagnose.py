"""`stockpot diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockpot.cli.options import Initialisation, Key, Sources, Task

__all__ = ["REFUSED", "diagnose"]

#: Exit code where the ingredients cannot be mixed.
REFUSED = 3


def diagnose(
    sources: Sources,
    initialisation: Initialisation = None,
    task: Task = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Gets diagnosis.json and keeps predictions.", show_default=False),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Most midpoints looked at.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    key: Key = None,
) -> None:
    """Find out why a soup of these checkpoints may fail.

    Example: stockpot diagnose 'runs/*' --initialisation base --task task.yaml
    """
    import json
    from dataclasses import asdict

    from stockpot.checkpoints import ingredients
    from stockpot.cli.console import print_line, progress_lines
    from stockpot.experiment.diagnosing import diagnose as diagnose_checkpoints
    from stockpot.reports.diagnosis import diagnosis_lines

    members = ingredients(*sources, key=key)
    if as_json:
        found = diagnose_checkpoints(members, initialisation=initialisation, task=task, out=out, most_pairs=pairs)
        print_line(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        with progress_lines() as report:
            found = diagnose_checkpoints(
                members, initialisation=initialisation, task=task, out=out, most_pairs=pairs, on_progress=report
            )
        for line in diagnosis_lines(found):
            print_line(line)
    if found.is_refused:
        raise typer.Exit(REFUSED)
