"""`run` and `sweep`: from a pre-trained network and data to soups and a table, resumable at any point."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stockpot._cores import available_cores
from stockpot.assembly import with_digests
from stockpot.checkpoints import digest_of
from stockpot.config import (
    FOLLOW_UP_RECIPE_NAMES,
    ExperimentConfig,
    canonical,
    experiment_config,
    load_experiment_config,
)
from stockpot.engines import Result
from stockpot.engines.local import LocalEngine, gpus_of_worker
from stockpot.errors import ConfigError
from stockpot.experiment.analysing import analyse_runs
from stockpot.experiment.bench import TaskBench
from stockpot.experiment.finishing import finish, finished_results, write_report
from stockpot.experiment.moving import moving_notes
from stockpot.experiment.preparing import prepare_splits
from stockpot.experiment.progress import OnProgress, Progress, Stopwatch, kept_progress, step_line
from stockpot.experiment.table import Choices, choose, tabulate
from stockpot.journal import Journal
from stockpot.outputs import ExperimentFolder
from stockpot.recipes import single
from stockpot.records import Results, read_analysis, write_analysis
from stockpot.sweeps.checks import check_plan
from stockpot.sweeps.head import prepare_initialisation
from stockpot.sweeps.plan import loaders_of_run, warm_up_notes
from stockpot.sweeps.sweep import diverged_runs, has_ended, plan_runs, run_sweep, terse
from stockpot.tasks import load_task, model_folder
from stockpot.tasks.hardware import visible_gpus
from stockpot.tasks.text import TextClassification
from stockpot.types import CurvePoint, Ingredient, Soup, Step

__all__ = ["default_output", "run", "sweep"]

#: What `run` writes as model folders.
WRITTEN_METHODS = ("best", "uniform", "greedy", "learned", "learned_by_layer", *FOLLOW_UP_RECIPE_NAMES)
Experiment = str | Path | Mapping[str, Any] | ExperimentConfig


@dataclass(frozen=True, slots=True)
class _Session:
    """One experiment at work in its folder."""

    config: ExperimentConfig
    pretrained: Path
    folder: Path
    journal: Journal
    n_workers: int | None
    report: OnProgress
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def initialisation(self) -> Path:
        return self.folder / "initialisation"


def run(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    fresh: bool = False,
    n_workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Results:
    """Fine-tunes, cooks every recipe, measures everything once and writes soups and table.

    Killed at any moment and started again, it continues where it was and ends with the same bytes; a finished one
    returns its table at once.

    Args:
        experiment: experiment.yaml, a mapping of its shape, or a checked configuration.
        out: output folder; default `out/NAME`.
        fresh: start over; what is there stays until the new result is whole.
        n_workers: worker processes of the sweep; default: the GPUs, or where there are none the cores. Does not change
            a byte of the result, unless there are fewer than GPUs: several share a run then.
        on_progress: hears what happens.

    Returns:
        What results.json holds.

    Raises:
        ConfigError, DataError: before anything is computed.
        OutputError: the folder holds another experiment, or another process works in it.
        RunError, EvaluationError: what was computed before is kept.

    Source: Wortsman et al. 2022.
    """
    config = _experiment(experiment)
    with _session(config, out, fresh, n_workers, on_progress) as session:
        results = finished_results(session.folder)
        if results is None:
            return _run(session)
        _analyse_finished(session)
        return results


def sweep(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    fresh: bool = False,
    n_workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Ingredient, ...]:
    """Only the runs of an experiment; `run` on the same folder goes on from there.

    Args and errors: as `run`.

    Returns:
        The ingredients in the order of the plan, with digests.
    """
    config = _experiment(experiment)
    with _session(config, out, fresh, n_workers, on_progress) as session:
        return _sweep(session, _prepare(session))


def default_output(config: ExperimentConfig) -> Path:
    """Where an experiment goes when nobody says: out/NAME."""
    return Path("out") / "".join(c if c.isalnum() or c in "-_." else "-" for c in config.name)


def _experiment(experiment: Experiment) -> ExperimentConfig:
    if isinstance(experiment, ExperimentConfig):
        return experiment
    if isinstance(experiment, Mapping):
        return experiment_config(experiment)
    return load_experiment_config(experiment)


@contextmanager
def _session(
    config: ExperimentConfig,
    out: str | Path | None,
    fresh: bool,
    n_workers: int | None,
    on_progress: OnProgress | None,
) -> Iterator[_Session]:
    _refuse_launchers()
    pretrained = model_folder(config.initialisation, relative_to=config.folder)
    # Wrong data are found before anything starts.
    task = load_task(config.task, pretrained, folder=config.task.folder, own_labels=config.head == "own")
    identity = {
        "experiment": _shaping(config),
        "data": {split: task.data_digest(split) for split in ("train", *task.splits)},
        "initialisation": digest_of(pretrained),
    }
    with (
        ExperimentFolder.claim(out or default_output(config), identity, fresh=fresh) as claimed,
        Journal(claimed.folder / "journal") as journal,
        kept_progress(claimed.folder, on_progress) as report,
    ):
        yield _Session(config, pretrained, claimed.folder, journal, n_workers, report)


def _refuse_launchers() -> None:
    """Several processes of one launch would all make the same runs in the same folder."""
    n_processes = os.environ.get("WORLD_SIZE", "1")
    if "RANK" in os.environ and n_processes != "1":
        raise ConfigError(
            f"a launcher (accelerate launch, torchrun) has started this command {n_processes} times at once",
            fix="start it once and without the launcher: it gives every run a GPU of its own, or with fewer --workers "
            "than GPUs several",
        )


def _run(session: _Session) -> Results:
    config = session.config
    task = _prepare(session)
    ingredients = _sweep(session, task)
    bench = TaskBench(task, session.journal)
    choices = Choices(
        config.recipes,
        config.random_orders,
        config.random_orders_seed,
        config.acceptance,
        config.learned,
        config.max_evaluations,
    )
    with session.stopwatch.stage("select"):
        start = _initialisation(session)
        cooked = choose(
            ingredients,
            bench,
            choices,
            initialisation=start.ingredients[0],
            on_step=partial(_report_step, session),
        )
    with session.stopwatch.stage("measure"):
        session.report(Progress("measure", f"measuring {len(cooked)} methods on {len(task.splits)} splits"))
        results = tabulate(
            cooked,
            bench,
            initialisation=start,
            experiment=_shaping(config),
            notes=(
                *bench.table_notes,
                *_diverged_note(session),
                *_warm_up_note(session, task),
                *_notes(task),
                *moving_notes(config, session.pretrained),
                *_analysis_note(session, ingredients),
            ),
        )
    _analyse(session, ingredients, start.ingredients[0], bench)
    return finish(
        results,
        _written(cooked, bench, fold=config.learned.fold),
        session.folder,
        task=task,
        individuals=[single(ingredient) for ingredient in ingredients],
        title=config.name,
        stopwatch=session.stopwatch,
        report=session.report,
    )


def _shaping(config: ExperimentConfig) -> dict[str, Any]:
    """The settings that runs and table follow from; what is looked at besides may be asked for later."""
    return {name: value for name, value in canonical(config).items() if name != "analysis"}


def _analyse_finished(session: _Session) -> None:
    """What an experiment asks for that has ended before it did."""
    asked, path = session.config.analysis, session.folder / "analysis.json"
    if asked is None or (path.is_file() and read_analysis(path).asked == canonical(asked)):
        return
    task = load_task(session.config.task, session.initialisation, folder=session.config.task.folder)
    ingredients = _sweep(session, task)
    _analyse(session, ingredients, _initialisation(session).ingredients[0], TaskBench(task, session.journal))
    write_report(session.folder)


def _analyse(session: _Session, ingredients: Sequence[Ingredient], start: Ingredient, bench: TaskBench) -> None:
    """Writes analysis.json where the experiment asks for one; a start that was killed here predicts nothing twice."""
    if session.config.analysis is None or len(ingredients) < 2:
        return
    with session.stopwatch.stage("analyse"):
        found = analyse_runs(ingredients, start, bench, session.config.analysis, session.report)
        write_analysis(found, session.folder)


def _written(cooked: Mapping[str, Sequence[Soup]], bench: TaskBench, *, fold: bool) -> dict[str, Soup]:
    """The soups that become model folders, by method."""
    chosen = {name: cooked[name][0] for name in WRITTEN_METHODS if name in cooked}
    return {name: bench.folded(soup) for name, soup in chosen.items()} if fold else chosen


def _prepare(session: _Session) -> TextClassification:
    """The initialisation with its head, and the task on it; all that is scored is decoded, and so checked, before."""
    config, folder = session.config, session.config.task.folder
    if not session.initialisation.is_dir():  # it lands whole
        start = load_task(config.task, session.pretrained, folder=folder, own_labels=config.head == "own")
        prepare_splits(start, session.report)
        session.report(Progress("head", f"preparing the initialisation (head: {config.head})"))
        with session.stopwatch.stage("head"):
            prepare_initialisation(
                start, session.pretrained, session.initialisation, head=config.head, seed=config.sweep.seed
            )
        return load_task(config.task, session.initialisation, folder=folder)
    task = load_task(config.task, session.initialisation, folder=folder)
    if not all(has_ended(run, session.folder / "ingredients") for run in plan_runs(config.sweep)):
        prepare_splits(task, session.report)
    return task


def _sweep(session: _Session, task: TextClassification) -> tuple[Ingredient, ...]:
    runs = plan_runs(session.config.sweep)
    folder = session.folder / "ingredients"
    gpus = visible_gpus(task.hardware.device)
    n_workers = session.n_workers or max(1, len(gpus))
    share = gpus_of_worker(0, gpus, n_workers)
    check_plan(runs, session.initialisation, task=session.config.task, n_gpus=len(share))
    landed = sum(has_ended(run, folder) for run in runs)
    session.report(Progress("sweep", f"{len(runs)} runs, {landed} of them done", landed, len(runs)))
    n_done = landed

    def report(result: Result) -> None:
        nonlocal n_done
        n_done += 1
        session.report(Progress("sweep", _run_line(result), n_done, len(runs)))

    with session.stopwatch.stage("sweep"):
        ingredients = run_sweep(
            runs,
            session.config.task,
            task_folder=session.config.task.folder,
            initialisation=session.initialisation,
            folder=folder,
            journal=session.folder / "journal",
            engine=LocalEngine(workers=session.n_workers, gpus=gpus),
            rows_at_once=session.config.sweep.rows_at_once,
            n_loaders=loaders_of_run(available_cores(), n_workers=n_workers, n_gpus=len(gpus)),
            on_result=report,
        )
        return with_digests(ingredients, memory=session.journal.digest_memory)


def _run_line(result: Result) -> str:
    if result.error is not None:
        return f"{result.name} failed: {terse(result.error).splitlines()[0]}"
    if isinstance(result.value, Mapping) and "diverged" in result.value:
        return f"{result.name} diverged and is left out: {result.value['diverged']}"
    again = f" (attempt {result.attempts})" if result.attempts > 1 else ""
    held_out = result.value["held_out"] if isinstance(result.value, Mapping) else float("nan")
    return f"{result.name} held-out {held_out:.4f}{again}"


def _initialisation(session: _Session) -> Soup:
    start = Ingredient("initialisation", str(session.initialisation))
    return single(with_digests([start], memory=session.journal.digest_memory)[0], recipe="initialisation")


def _report_step(session: _Session, method: str, step: Step | CurvePoint) -> None:
    session.report(Progress("select", step_line(method, step)))


def _diverged_note(session: _Session) -> tuple[str, ...]:
    runs = plan_runs(session.config.sweep)
    diverged = diverged_runs(runs, session.folder / "ingredients")
    if not diverged:
        return ()
    return (f"Of {len(runs)} runs {len(diverged)} diverged and left no ingredient: {', '.join(diverged)}.",)


def _warm_up_note(session: _Session, task: TextClassification) -> tuple[str, ...]:
    runs = [run.settings for run in plan_runs(session.config.sweep)]
    return tuple(warm_up_notes(runs, task.n_examples("train")))


def _analysis_note(session: _Session, ingredients: Sequence[Ingredient]) -> tuple[str, ...]:
    if session.config.analysis is None or len(ingredients) > 1:
        return ()
    return ("The analysis is left out: one ingredient has nothing to be compared with.",)


def _notes(task: TextClassification) -> tuple[str, ...]:
    if task.is_order_invariant:
        return ()
    return ("On this machine the order of a batch's rows changes logits; every evaluation keeps the canonical order.",)
