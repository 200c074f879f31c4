"""`stockpot run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockpot.cli.options import Fresh, OptionalOut, Workers

__all__ = ["run"]


def run(
    experiment: Annotated[Path, typer.Argument(help="experiment.yaml: initialisation, task, sweep, recipes.")],
    out: OptionalOut = None,
    workers: Workers = None,
    fresh: Fresh = False,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Shrink architecture and data: does the file run from end to end?")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do and cost; do nothing.")] = False,
) -> None:
    """Do it all: fine-tune, cook every recipe, compare, write soups and table.

    Killed and started again it continues; finished, it prints its table.

    Example: stockpot run experiments/debian-sections/quickstart.yaml -o out/debian-sections
    """
    from stockpot.cli.console import print_line
    from stockpot.config import load_experiment_config

    config = load_experiment_config(experiment)
    if dry_run:
        from stockpot.experiment.plan_text import plan_lines
        from stockpot.experiment.planning import plan

        for line in plan_lines(plan(config)):
            print_line(line)
        return
    from stockpot.cli.console import print_notes, print_results, progress_lines
    from stockpot.experiment import default_output
    from stockpot.experiment import run as run_experiment

    folder = out or default_output(config).with_name(f"{default_output(config).name}{'-tiny' if tiny else ''}")
    if tiny:
        from stockpot.experiment.tiny import tiny_experiment

        made_up = folder.with_name(f"{folder.name}-made-up")
        config = tiny_experiment(config, made_up)
        print_line(f"a shrunk network and made-up data, in {made_up}: the numbers mean nothing")
    with progress_lines() as report:
        results = run_experiment(config, folder, fresh=fresh, n_workers=workers, on_progress=report)
    print_results(results)
    if config.analysis is not None and (folder / "analysis.json").is_file():
        from stockpot.records import read_analysis
        from stockpot.reports.analysis import analysis_lines

        found = read_analysis(folder)
        print_notes(found.notes)
        for line in analysis_lines(found):
            print_line(line)
        print_line(f"analysis: {folder / 'report.html'}   pictures as files: stockpot figures {folder}")
    print_line(f"table: {folder / 'results.md'}   models: {folder / 'best'}, {folder / 'uniform'}, {folder / 'greedy'}")
