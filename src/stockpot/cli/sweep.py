"""`stockpot sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockpot.cli.options import Fresh, OptionalOut, Workers

__all__ = ["sweep"]


def sweep(
    experiment: Annotated[Path, typer.Argument(help="experiment.yaml: initialisation, task, sweep.")],
    out: OptionalOut = None,
    workers: Workers = None,
    fresh: Fresh = False,
) -> None:
    """Only the fine-tuning runs of an experiment; `stockpot run` on the same folder goes on from there.

    Example: stockpot sweep experiment.yaml -o out/mine
    """
    from stockpot.cli.console import print_line, progress_lines
    from stockpot.config import load_experiment_config
    from stockpot.experiment import default_output
    from stockpot.experiment import sweep as sweep_experiment

    config = load_experiment_config(experiment)
    folder = out or default_output(config)
    with progress_lines() as report:
        made = sweep_experiment(config, folder, fresh=fresh, n_workers=workers, on_progress=report)
    print_line(f"{len(made)} runs in {folder / 'ingredients'}")
