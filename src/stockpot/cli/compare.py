"""`stockpot compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from stockpot.cli.learning import Learned, learned_config
from stockpot.cli.options import (
    Evaluate,
    Fresh,
    Initialisation,
    Key,
    MinimumGain,
    OptionalOut,
    Recalibrate,
    Significance,
    Sources,
    Task,
    acceptance_of,
)

__all__ = ["compare"]


def compare(
    sources: Sources,
    task: Task = None,
    evaluate: Evaluate = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="A recipe beside the paper's; repeatable: pruned, top_k, and with --initialisation interpolate and "
            "model_stock.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="This recipe instead of the paper's; repeatable.", show_default=False),
    ] = None,
    learned: Learned = None,
    random_orders: Annotated[
        int, typer.Option("--random-orders", min=1, help="Orders that greedy_random is the mean over.")
    ] = 3,
    significance: Significance = None,
    minimum_gain: MinimumGain = 0.0,
    recalibrate: Recalibrate = None,
    initialisation: Initialisation = None,
    out: OptionalOut = None,
    key: Key = None,
    fresh: Fresh = False,
) -> None:
    """Put every method side by side for existing checkpoints.

    Example: stockpot compare 'runs/*' --task task.yaml -o comparison
    """
    from stockpot.checkpoints import ingredients
    from stockpot.cli.coefficients import mixing_notes
    from stockpot.cli.console import print_notes, print_results, progress_lines
    from stockpot.experiment import compare as compare_checkpoints
    from stockpot.recipes import uniform

    members = ingredients(*sources, key=key)
    print_notes(mixing_notes(uniform(members)))
    with progress_lines() as report:
        results = compare_checkpoints(
            members, task=task, evaluate=evaluate, initialisation=initialisation,
            recipes=tuple(only) if only else None, also=tuple(recipe or ()), learned=learned_config(learned),
            random_orders=random_orders, acceptance=acceptance_of(significance, minimum_gain),
            recalibrate=recalibrate, out=out, fresh=fresh,
            on_progress=report,
        )  # fmt: skip
    print_results(results)
    if out is None:
        print_notes(["nothing was kept; give -o FOLDER to keep predictions and results.json"])
