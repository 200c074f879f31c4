"""`stockpot soup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockpot.cli.learning import Learned, learned_config
from stockpot.cli.options import (
    Evaluate,
    Fresh,
    Initialisation,
    Key,
    MinimumGain,
    Recalibrate,
    Significance,
    Sources,
    Task,
    acceptance_of,
)

__all__ = ["soup"]


def soup(
    sources: Sources,
    out: Annotated[Path, typer.Option("--out", "-o", help="Becomes the model folder; continued if it is there.")],
    task: Task = None,
    evaluate: Evaluate = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="best, uniform, greedy, greedy_given, greedy_random, pruned, top_k, learned or learned_by_layer; with "
            "--initialisation also interpolate or model_stock."
        ),
    ] = "greedy",
    learned: Learned = None,
    fold: Annotated[bool, typer.Option("--fold", help="Put a learned logit scale into the classifier head.")] = False,
    best_of: Annotated[
        bool, typer.Option("--best-of", help="The best single model, unless the soup beats it beyond noise.")
    ] = False,
    max_evaluations: Annotated[
        int | None,
        typer.Option(
            "--max-evaluations",
            min=1,
            show_default=False,
            help="Candidates that greedy evaluates at most, the most promising ones; the soup is approximate then.",
        ),
    ] = None,
    significance: Significance = None,
    minimum_gain: MinimumGain = 0.0,
    recalibrate: Recalibrate = None,
    initialisation: Initialisation = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a random order.")] = 0,
    key: Key = None,
    fresh: Fresh = False,
) -> None:
    """Make the best soup of checkpoints by a held-out set.

    Example: stockpot soup 'runs/*' --task task.yaml --recipe greedy -o soup
    """
    from stockpot.checkpoints import ingredients
    from stockpot.cli.coefficients import mixing_notes
    from stockpot.cli.console import print_line, print_notes, progress_lines
    from stockpot.experiment import cook
    from stockpot.recipes import uniform, used_ingredients

    members = ingredients(*sources, key=key)
    print_notes(mixing_notes(uniform(members)))
    with progress_lines() as report:
        made = cook(
            members, out, recipe=recipe, task=task, evaluate=evaluate, initialisation=initialisation, seed=seed,
            learned=learned_config(learned, fold=fold), best_of=best_of, max_evaluations=max_evaluations,
            acceptance=acceptance_of(significance, minimum_gain), recalibrate=recalibrate, fresh=fresh,
            on_progress=report,
        )  # fmt: skip
    names = [ingredient.name for ingredient in used_ingredients(made)]
    given = {ingredient.name for ingredient in members}  # the initialisation is part of some soups, but none of these
    n_used = sum(name in given for name in names)
    tried = f" (approximate: {len(made.steps) - 1} of {len(members) - 1} candidates were evaluated)"
    print_line(
        f"{made.recipe} soup of {n_used} of {len(members)}{tried if made.approximate else ''} in {out}: "
        f"{', '.join(names)}"
    )
