"""What `soup` and `compare` are asked for in vain, found before anything is evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.config import AcceptanceConfig, LearnedConfig
from stockpot.errors import ConfigError
from stockpot.experiment.bench import CallableBench, TaskBench
from stockpot.recipes import NEEDS_INITIALISATION
from stockpot.tasks.gradients import held_out_parts

__all__ = ["check_acceptance", "check_budget", "check_learnable", "check_learning", "check_recipes", "learnable"]


def check_recipes(recipes: Sequence[str], known: Sequence[str], initialisation: str | None, *, note: str = "") -> None:
    unknown = [name for name in recipes if name not in known]
    if unknown:
        raise ConfigError(
            f"no such recipe here: {', '.join(map(repr, unknown))}",
            fix=f"use one of {', '.join(known)}{note}",
        )
    stuck = [name for name in recipes if name in NEEDS_INITIALISATION]
    if stuck and initialisation is None:
        raise ConfigError(
            f"{' and '.join(stuck)} cannot do without the initialisation that all ingredients were fine-tuned from",
            fix="pass --initialisation (in Python: initialisation=...)",
        )


def check_budget(recipe: str, max_evaluations: int | None) -> None:
    if max_evaluations is None:
        return
    problems = [f"got {max_evaluations}; allowed: a number >= 1"] if max_evaluations < 1 else []
    problems += [f"the recipe is {recipe}; only greedy takes a budget"] if recipe != "greedy" else []
    if problems:
        raise ConfigError("max_evaluations does not fit", problems=problems, fix="leave out --max-evaluations")


def check_learning(recipes: Sequence[str], learned: LearnedConfig) -> None:
    """Settings that nothing would follow are a mistake, not a detail."""
    if learned != LearnedConfig() and not any(name.startswith("learned") for name in recipes):
        raise ConfigError(
            f"only learned soups follow --learned and --fold, and {', '.join(recipes)} learns nothing",
            fix="leave these options out, or take the recipe learned or learned_by_layer",
        )


def check_learnable(bench: TaskBench | CallableBench, recipes: Sequence[str], learned: LearnedConfig) -> None:
    """A task that cannot be learned on, or too few examples, are found before anything is evaluated."""
    if isinstance(bench, TaskBench) and any(name.startswith("learned") for name in recipes):
        bench.task.check_learnable(fold=learned.fold)
        held_out_parts(bench.n_held_out, 0.5, 0)


def check_acceptance(recipe: str, acceptance: AcceptanceConfig) -> None:
    if acceptance != AcceptanceConfig() and not recipe.startswith(("greedy", "pruned")):
        raise ConfigError(
            f"{recipe} accepts nothing step by step, so --significance and --minimum-gain have no meaning for it",
            fix="leave these options out, or take a greedy recipe or pruned",
        )


def learnable(
    bench: TaskBench | CallableBench, recipes: Sequence[str], learned: LearnedConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The recipes that this task can cook, where nobody asked for those that it cannot; and a note about these."""
    if isinstance(bench, TaskBench):
        try:
            bench.task.check_learnable(fold=learned.fold)
        except ConfigError as error:
            kept = tuple(name for name in recipes if not name.startswith("learned"))
            return kept, (f"Without learned soups: {error.message}.",)
    return tuple(recipes), ()
