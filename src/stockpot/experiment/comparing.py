"""`soup` and `compare`: existing checkpoints and a held-out set, nothing trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stockpot.assembly import with_digests
from stockpot.config import RECIPE_NAMES, TaskConfig, canonical
from stockpot.errors import ConfigError
from stockpot.experiment.bench import CallableBench, TaskBench
from stockpot.experiment.finishing import RESULTS_FILE, finished_results, write_soup_folder
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.experiment.table import Choices, choose, tabulate
from stockpot.journal import Journal
from stockpot.outputs import ExperimentFolder, adopt_files, write_text_atomically
from stockpot.recipes import RECIPES, single
from stockpot.records import Cell, Results, Row, read_soup, write_results
from stockpot.reports.table import markdown
from stockpot.tasks import load_callable, load_task
from stockpot.types import Ingredient, Score, Soup, Step

__all__ = ["compare", "cook"]

TaskSource = str | Path | Mapping[str, Any] | TaskConfig
EvaluateSource = str | Callable[..., float | Score]


@dataclass(frozen=True, slots=True)
class _Session:
    folder: Path
    journal: Journal
    bench: TaskBench | CallableBench
    ingredients: tuple[Ingredient, ...]
    initialisation: Soup | None
    identity: Mapping[str, Any]
    is_new: bool


def compare(
    ingredients: Sequence[Ingredient],
    *,
    task: TaskSource | None = None,
    evaluate: EvaluateSource | None = None,
    initialisation: str | None = None,
    recipes: Sequence[str] = RECIPE_NAMES,
    out: str | Path | None = None,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> Results:
    """Every method side by side for existing checkpoints.

    Args:
        ingredients: at least one.
        task: task.yaml or the like; or
        evaluate: a function soup -> float | Score, or `module:function`.
        initialisation: checkpoint of the shared start, as a row of its own.
        recipes: which to cook, beside the individuals.
        out: keeps journal and results; None: a temporary folder, nothing is kept.
        fresh: start over.
        on_progress: hears what happens.

    Returns:
        What results.json holds.

    Raises:
        ConfigError: neither or both of task and evaluate; an unknown recipe.
        StockpotError: as the rooms below; what was evaluated is kept in `out`.

    Source: Wortsman et al. 2022, Table 3.
    """
    _check_recipes(recipes)
    report = on_progress or (lambda _: None)
    settings = {"command": "compare", "recipes": list(recipes)}
    with _session(ingredients, task, evaluate, initialisation, settings, out, fresh) as session:
        if (results := finished_results(session.folder)) is not None:
            return results
        cooked = choose(session.ingredients, session.bench, Choices(tuple(recipes)), on_step=partial(_report, report))
        results = tabulate(cooked, session.bench, initialisation=session.initialisation, experiment=session.identity)
        write_text_atomically(session.folder / "results.md", markdown(results))
        write_results(results, session.folder / RESULTS_FILE)
        return results


def cook(
    ingredients: Sequence[Ingredient],
    out: str | Path,
    *,
    recipe: str = "greedy",
    task: TaskSource | None = None,
    evaluate: EvaluateSource | None = None,
    initialisation: str | None = None,
    seed: int = 0,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> Soup:
    """One recipe on existing checkpoints, written as a loadable model folder.

    Args:
        ingredients: at least one.
        out: becomes the model folder; its journal lies in it, and `soup.json` comes last.
        recipe: a name of `RECIPES` whose soup has weights.
        task, evaluate: as for `compare`.
        initialisation: checkpoint of the shared start; only checked for compatibility.
        seed: of a random order.
        fresh: start over.
        on_progress: hears what happens.

    Returns:
        The soup with its acceptance log.

    Raises:
        ConfigError: an unknown recipe, or one that makes an ensemble.
        StockpotError: as the rooms below; what was evaluated is kept in `out`.
    """
    _check_recipes([recipe], weights_only=True)
    report = on_progress or (lambda _: None)
    settings = {"command": "soup", "recipe": recipe, "seed": seed}
    with _session(ingredients, task, evaluate, initialisation, settings, out, fresh) as session:
        if (session.folder / "soup.json").exists():
            return read_soup(session.folder)
        soup = RECIPES[recipe](
            session.ingredients,
            session.bench.evaluate,
            generator=np.random.default_rng(seed),
            on_step=partial(_report, report, recipe),
        )
        report(Progress("write", f"writing {out}"))
        _write_into(soup, session)
        return soup


def _write_into(soup: Soup, session: _Session) -> None:
    """The model folder's files beside the journal, soup.json last."""
    bench = session.bench
    score = bench.evaluate(soup)
    row = Row(soup.recipe, len(soup.ingredients), 1, {"held_out": Cell.of(score)})
    results = Results(bench.metric, bench.higher_is_better, (row,))
    family = bench.task.config.family if isinstance(bench, TaskBench) else None  # type: ignore[attr-defined]
    with TemporaryDirectory(dir=session.folder, prefix=".soup-") as scratch:
        staged = Path(scratch) / session.folder.name
        write_soup_folder(
            soup, staged, results, soup.recipe, title=f"{soup.recipe} soup", family=family, recorded_at=session.folder
        )
        adopt_files(staged, session.folder, last="soup.json")


@contextmanager
def _session(
    ingredients: Sequence[Ingredient],
    task: TaskSource | None,
    evaluate: EvaluateSource | None,
    initialisation: str | None,
    settings: Mapping[str, Any],
    out: str | Path | None,
    fresh: bool,
) -> Iterator[_Session]:
    if (task is None) == (evaluate is None):
        raise ConfigError("give either a task or an evaluate function", fix="--task task.yaml or --evaluate module:fn")
    start = [Ingredient("initialisation", initialisation)] if initialisation is not None else []
    with TemporaryDirectory(prefix="stockpot-") as scratch:
        members = with_digests([*ingredients, *start])
        identity: dict[str, Any] = {
            **settings,
            "ingredients": [[member.name, member.digest] for member in members],
        }
        judge = _judge(task, evaluate, members[0], identity)
        with (
            ExperimentFolder.claim(out or Path(scratch) / "compare", identity, fresh=fresh) as claimed,
            Journal(claimed.folder / "journal") as journal,
        ):
            yield _Session(
                claimed.folder,
                journal,
                judge(journal),
                members[: len(ingredients)],
                single(members[-1], recipe="initialisation") if start else None,
                identity,
                claimed.is_new,
            )


def _judge(
    task: TaskSource | None, evaluate: EvaluateSource | None, model: Ingredient, identity: dict[str, Any]
) -> Callable[[Journal], TaskBench | CallableBench]:
    """What makes the bench once there is a journal; puts what the scores depend on into the identity."""
    if task is not None:
        loaded = load_task(task, model)
        identity["task"] = canonical(loaded.config)
        identity["splits"] = {split: loaded.identity(split) for split in loaded.splits}
        return lambda journal: TaskBench(loaded, journal)
    assert evaluate is not None  # checked by the caller
    name = evaluate if isinstance(evaluate, str) else f"{evaluate.__module__}:{getattr(evaluate, '__qualname__', '?')}"
    function = load_callable(evaluate) if isinstance(evaluate, str) else evaluate
    identity["evaluate"] = name
    return lambda journal: CallableBench(function, journal, name=name)


def _check_recipes(recipes: Sequence[str], *, weights_only: bool = False) -> None:
    known = [name for name in RECIPES if not weights_only or "ensemble" not in name]
    unknown = [name for name in recipes if name not in known]
    if unknown:
        raise ConfigError(
            f"no such recipe here: {', '.join(map(repr, unknown))}",
            fix=f"use one of {', '.join(known)}",
        )


def _report(report: OnProgress, method: str, step: Step) -> None:
    verdict = "kept" if step.accepted else "left out"
    report(Progress("select", f"{method}: {step.ingredient.name} {step.score.value:.4f} {verdict}"))
