"""A sweep: the plan first, then the runs that have not landed yet, on an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stockpot.config import TaskConfig
from stockpot.engines import Engine, Job, Result
from stockpot.errors import RunError
from stockpot.outputs import sweep_stale, write_json_atomically, write_text_atomically
from stockpot.sweeps.fine_tuning import AVERAGE, RUN_FILE, diverged_file
from stockpot.sweeps.plan import PlannedRun, plan_runs
from stockpot.types import Ingredient

__all__ = ["PLAN_FILE", "PlannedRun", "diverged_runs", "has_ended", "plan_runs", "run_sweep", "terse"]

PLAN_FILE = "plan.json"
_TRACEBACK = "Traceback (most recent call last):"


def run_sweep(
    runs: Sequence[PlannedRun],
    task: TaskConfig,
    *,
    task_folder: Path,
    initialisation: Path,
    folder: Path,
    journal: Path,
    engine: Engine,
    rows_at_once: int | None = None,
    n_loaders: int = 0,
    on_result: Callable[[Result], None] | None = None,
) -> tuple[Ingredient, ...]:
    """Makes the ingredients that are missing; what has landed is left alone.

    Args:
        runs: the plan, which is written to `folder/plan.json` before the first run starts.
        task: what is fine-tuned for.
        task_folder: relative paths in `task` start here.
        initialisation: the shared start, with its head.
        folder: gets one folder per run.
        journal: where predictions go.
        engine: where the runs happen.
        rows_at_once: examples of a step that pass through the network at once; None: all.
        n_loaders: processes of each run that decode images ahead; changes no result.
        on_result: called in the order of completion.

    Returns:
        All ingredients in the order of the plan; a run with a moving average makes two, one that diverged makes none.

    Raises:
        RunError: runs that failed, each with its reason, at length in `folder/NAME.error.txt` until the run succeeds;
            the others have landed and are kept. Or all of them diverged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep_stale(folder)
    write_json_atomically(folder / PLAN_FILE, [{"name": run.name, "settings": run.settings} for run in runs])
    shared = {
        "task": task.model_dump_json(),
        "task_folder": str(task_folder),
        "initialisation": str(initialisation),
        "journal": str(journal),
        "rows_at_once": rows_at_once,
        "n_loaders": n_loaders,
    }
    jobs = [
        Job(run.name, {**shared, "name": run.name, "settings": run.settings, "target": str(folder / run.name)})
        for run in runs
        if not has_ended(run, folder)
    ]
    for run in runs:
        _error_file(folder, run.name).unlink(missing_ok=True)

    def note(result: Result) -> None:
        if result.error is not None:
            write_text_atomically(_error_file(folder, result.name), result.error.rstrip() + "\n")
        if on_result is not None:
            on_result(result)

    results = engine.run("stockpot.sweeps.fine_tuning:make_ingredient", jobs, on_result=note)
    failed = [result for result in results if result.error is not None]
    if failed:
        others = "" if len(failed) == len(runs) else "; the others have landed and are kept"
        raise RunError(
            f"{len(failed)} of {len(runs)} runs failed{others}",
            problems=[_problem(result, folder) for result in failed],
            fix="mend the cause and start again: only the failed runs are repeated. Other settings are another "
            "experiment: give it another folder with -o, or replace this one with --fresh",
        )
    diverged = diverged_runs(runs, folder)
    if len(diverged) == len(runs):
        raise RunError(
            f"all {len(runs)} runs diverged",
            problems=[f"{name}: {reason}" for name, reason in diverged.items()],
            fix="lower the upper end of `learning_rate`, or give the runs a longer warm-up: another experiment, which "
            "needs another folder (-o), or --fresh",
        )
    return tuple(ingredient for run in runs if run.name not in diverged for ingredient in _ingredients(run, folder))


def _ingredients(run: PlannedRun, folder: Path) -> Iterator[Ingredient]:
    """What a run has made: its last weights, and their moving average where it kept one."""
    yield Ingredient(run.name, str(folder / run.name), run.settings)
    if run.settings.get("ema_decay"):
        yield Ingredient(f"{run.name}-{AVERAGE}", str(folder / run.name / AVERAGE), run.settings)


def has_ended(run: PlannedRun, folder: Path) -> bool:
    """Whether a run's folder stands in `folder`, whole, or the run is known to diverge."""
    return (folder / run.name / RUN_FILE).exists() or diverged_file(folder / run.name).exists()


def diverged_runs(runs: Sequence[PlannedRun], folder: Path) -> dict[str, str]:
    """Names of the runs that diverged, and why; they are no ingredients."""
    files = {run.name: diverged_file(folder / run.name) for run in runs}
    return {
        name: str(json.loads(file.read_text(encoding="utf-8"))["diverged"])
        for name, file in files.items()
        if file.exists()
    }


def terse(error: str) -> str:
    """Why a run failed, for a message: what was raised without the way there, a death without the last words.

    Example:
        >>> terse("Traceback (most recent call last):\\n  File ...\\nKeyError: 'labels'\\n")
        "KeyError: 'labels'"
    """
    if error.startswith(_TRACEBACK):
        lines = error.strip().splitlines()
        last_call = max((number for number, line in enumerate(lines) if line.startswith("  File ")), default=0)
        return next((line for line in lines[last_call + 1 :] if not line.startswith(" ")), lines[-1])
    return error.partition("\nthe last it said:\n")[0].strip()


def _problem(result: Result, folder: Path) -> str:
    error = result.error or ""
    reason = terse(error)
    where = "" if reason == error.strip() else f" (more in {_error_file(folder, result.name)})"
    return f"{result.name}: {reason}{where}".replace("\n", "\n    ")


def _error_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.error.txt"
