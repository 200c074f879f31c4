"""`soup` and `compare`: existing checkpoints and a held-out set, nothing trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stockpot.assembly import opened, with_digests
from stockpot.config import (
    FOLLOW_UP_RECIPE_NAMES,
    PAPER_RECIPE_NAMES,
    RECIPE_NAMES,
    AcceptanceConfig,
    LearnedConfig,
    TaskConfig,
    canonical,
)
from stockpot.errors import ConfigError, OutputError
from stockpot.experiment.bench import CallableBench, TaskBench
from stockpot.experiment.finishing import RESULTS_FILE, finished_results, write_report, write_soup_folder, write_tables
from stockpot.experiment.preparing import prepare_splits
from stockpot.experiment.progress import OnProgress, Progress, kept_progress, step_line
from stockpot.experiment.recipe_checks import (
    check_acceptance,
    check_budget,
    check_learnable,
    check_learning,
    check_recipes,
    learnable,
)
from stockpot.experiment.table import Choices, better_of, choose, n_ingredients, supplies_of, tabulate
from stockpot.journal import Journal, identity_of_callable
from stockpot.outputs import ExperimentFolder, adopt_files, write_text_atomically
from stockpot.recipes import RECIPES, single
from stockpot.records import Cell, Results, Row, read_soup, write_results
from stockpot.tasks import load_callable, load_task
from stockpot.types import CurvePoint, Evaluate, Incumbent, Ingredient, Score, Soup, Step

__all__ = ["compare", "cook"]

TaskSource = str | Path | Mapping[str, Any] | TaskConfig
EvaluateSource = str | Callable[..., float | Score]
#: Which version of a user's function a finished folder speaks for.
_SCORED_BY = Path("journal", "evaluate.txt")
#: Of greedy_random; only other numbers make another comparison.
_USUAL_ORDERS = 3
#: Recipes that begin with the individuals.
_SCORE_INDIVIDUALS = frozenset({"best", "greedy", "pruned", "top_k"})


@dataclass(frozen=True, slots=True)
class _Judge:
    """What scores.

    Args:
        bench: made from it once there is a journal.
        name: of the user's function; None for a task, whose whole identity the output folder records.
        version: of the user's function; None where no source file vouches for it.
    """

    bench: Callable[[Journal], TaskBench | CallableBench]
    name: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class _Session:
    folder: Path
    judge: _Judge
    bench: TaskBench | CallableBench
    ingredients: tuple[Ingredient, ...]
    initialisation: Soup | None
    identity: Mapping[str, Any]

    @property
    def start(self) -> Ingredient | None:
        """The initialisation as a checkpoint."""
        return None if self.initialisation is None else self.initialisation.ingredients[0]


def compare(
    ingredients: Sequence[Ingredient],
    *,
    task: TaskSource | None = None,
    evaluate: EvaluateSource | None = None,
    initialisation: str | None = None,
    recipes: Sequence[str] | None = None,
    also: Sequence[str] = (),
    learned: LearnedConfig | None = None,
    random_orders: int = _USUAL_ORDERS,
    acceptance: AcceptanceConfig | None = None,
    recalibrate: int | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> Results:
    """Every method side by side for existing checkpoints.

    What has been predicted in `out` is never predicted again: with other recipes, another metric or other rules the
    table there is made anew from the predictions at hand.

    Args:
        ingredients: at least one.
        task: task.yaml or the like; or
        evaluate: a function soup -> float | Score, or `module:function`.
        initialisation: checkpoint of the shared start, as a row of its own; interpolate and model_stock need it.
        recipes: which to cook, beside the individuals; None: all of the paper's (the learned soups need a task and
            more than one ingredient).
        also: recipes beside those: pruned, top_k, interpolate and model_stock are made only when named.
        learned: how learned soups are learned.
        random_orders: orders that greedy_random is the mean over, >= 1.
        acceptance: greedy's and pruned's rule; None: the paper's.
        recalibrate: training batches that running statistics (BatchNorm) are made anew over, for single models too;
            the scores without that stand in a note. None: as the task says.
        out: keeps journal and results, and adds to those of the same ingredients and data; None: a temporary folder,
            nothing is kept.
        fresh: start over.
        on_progress: hears what happens.

    Returns:
        What results.json holds.

    Raises:
        ConfigError: neither or both of task and evaluate; an unknown recipe, or one that lacks the initialisation.
        StockpotError: as the rooms below; what was evaluated is kept in `out`.

    Source: Wortsman et al. 2022, Table 3.
    """
    is_usual = recipes is None
    if recipes is None:
        recipes = PAPER_RECIPE_NAMES if task is not None and len(ingredients) > 1 else RECIPE_NAMES
    recipes = tuple(dict.fromkeys((*recipes, *also)))
    known = (*PAPER_RECIPE_NAMES, *FOLLOW_UP_RECIPE_NAMES)
    check_recipes(recipes, known, initialisation, note="; the individuals are always in the table")
    learned = learned or LearnedConfig()
    acceptance = acceptance or AcceptanceConfig()
    check_learning(recipes, learned)
    if random_orders < 1:
        raise ConfigError(f"random_orders is {random_orders}", fix="give at least 1 order")
    what = {"command": "compare"}
    with (
        _session(ingredients, task, evaluate, initialisation, what, out, fresh, recalibrate) as session,
        kept_progress(session.folder, on_progress) as report,
    ):
        recipes, left_out = learnable(session.bench, recipes, learned) if is_usual else (recipes, ())
        # What shapes the table alone: the predictions behind it are the same, so the folder is too.
        settings = {
            "recipes": list(recipes),
            **_learning_settings(recipes, learned),
            **({"random_orders": random_orders} if "greedy_random" in recipes else {}),
            **({"acceptance": canonical(acceptance)} if acceptance != AcceptanceConfig() else {}),
            "metric": session.bench.metric,
            **session.identity,
        }
        if _is_finished(session, RESULTS_FILE):
            results = finished_results(session.folder)
            if results is not None and results.experiment == json.loads(json.dumps(settings)):
                return results
        check_learnable(session.bench, recipes, learned)
        if isinstance(session.bench, TaskBench) and not session.bench.knows(session.ingredients[0]):
            prepare_splits(session.bench.task, report, first=session.ingredients[0])
        _announce_individuals(session, report)
        choices = Choices(tuple(recipes), random_orders, acceptance=acceptance, learned=learned)
        tell = partial(_report, report)
        cooked = choose(session.ingredients, session.bench, choices, initialisation=session.start, on_step=tell)
        results = tabulate(
            cooked,
            session.bench,
            initialisation=session.initialisation,
            experiment=settings,
            notes=(
                *session.bench.table_notes,
                *left_out,
                *_before_recalibration(session, cooked, task),
            ),
        )
        _sign(session)
        write_tables(results, session.folder)
        write_results(results, session.folder / RESULTS_FILE)
        if out is not None and (note := write_report(session.folder)) is not None:
            report(Progress("write", f"note: {note}"))
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
    learned: LearnedConfig | None = None,
    best_of: bool = False,
    max_evaluations: int | None = None,
    acceptance: AcceptanceConfig | None = None,
    recalibrate: int | None = None,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> Soup:
    """One recipe on existing checkpoints, written as a loadable model folder.

    Args:
        ingredients: at least one.
        out: becomes the model folder; its journal lies in it, and `soup.json` comes last.
        recipe: a name of `RECIPES` whose soup has weights.
        task, evaluate: as for `compare`.
        initialisation: checkpoint of the shared start; interpolate and model_stock need it, for other recipes it is
            only checked for compatibility.
        seed: of a random order.
        learned: how learned soups are learned; with `fold` the logit scale goes into the classifier head.
        best_of: write the best single ingredient unless the soup beats it beyond noise on the held-out split.
        max_evaluations: candidates that greedy evaluates at most, those that promise most by the logits at hand; the
            soup is `approximate` then.
        acceptance: the rule of the greedy recipes and of pruned; None: the paper's.
        recalibrate: as for `compare`; what is written has the statistics made anew.
        fresh: start over.
        on_progress: hears what happens.

    Returns:
        The soup with its acceptance log.

    Raises:
        ConfigError: an unknown recipe, or one that makes an ensemble or lacks the initialisation; a budget for another
            recipe than greedy.
        StockpotError: as the rooms below; what was evaluated is kept in `out`.
    """
    check_budget(recipe, max_evaluations)
    check_recipes([recipe], [name for name in RECIPES if "ensemble" not in name], initialisation)
    learned = learned or LearnedConfig()
    acceptance = acceptance or AcceptanceConfig()
    check_learning([recipe], learned)
    check_acceptance(recipe, acceptance)
    settings = {"command": "soup", "recipe": recipe, "seed": seed, **_learning_settings([recipe], learned)}
    if best_of:
        settings["best_of"] = True
    if max_evaluations is not None:
        settings["max_evaluations"] = max_evaluations
    if acceptance != AcceptanceConfig():
        settings["acceptance"] = canonical(acceptance)
    with (
        _session(ingredients, task, evaluate, initialisation, settings, out, fresh, recalibrate) as session,
        kept_progress(session.folder, on_progress) as report,
    ):
        if _is_finished(session, "soup.json"):
            return read_soup(session.folder)
        check_learnable(session.bench, [recipe], learned)
        if best_of or recipe in _SCORE_INDIVIDUALS:  # the others score no individuals
            _announce_individuals(session, report)
        generator = np.random.default_rng(seed)
        supplies = supplies_of(
            session.ingredients,
            session.bench,
            learned,
            generator,
            initialisation=session.start,
            max_evaluations=max_evaluations,
            acceptance=acceptance,
        )
        tell = partial(_report, report, recipe)
        soup = RECIPES[recipe](session.ingredients, session.bench.evaluate, supplies, on_step=tell)
        for note in session.bench.notes:
            report(Progress("select", note))
        remarks: tuple[str, ...] = ()
        if best_of:
            soup, reason = better_of(soup, session.ingredients, session.bench)
            remarks = (f"best_of: {reason}",)
            report(Progress("select", reason))
        if learned.fold:
            soup = session.bench.folded(soup)
        report(Progress("write", f"writing {out}"))
        for note in _write_into(soup, session, remarks):
            report(Progress("write", f"note: {note}"))
        return soup


def _learning_settings(recipes: Sequence[str], learned: LearnedConfig) -> dict[str, Any]:
    """What identifies a command only if it learns."""
    return {"learned": canonical(learned)} if any(name.startswith("learned") for name in recipes) else {}


def _write_into(soup: Soup, session: _Session, remarks: Sequence[str]) -> tuple[str, ...]:
    """The model folder's files beside the journal, soup.json last."""
    bench = session.bench
    score = bench.evaluate(soup)
    row = Row(soup.recipe, n_ingredients(soup, session.start), 1, {"held_out": Cell.of(score)})
    results = Results(bench.metric, bench.higher_is_better, (row,))
    family = bench.task.config.family if isinstance(bench, TaskBench) else None  # type: ignore[attr-defined]
    with TemporaryDirectory(dir=session.folder, prefix=".soup-") as scratch:
        staged = Path(scratch) / session.folder.name
        notes = write_soup_folder(
            soup,
            staged,
            results,
            soup.recipe,
            title=f"{soup.recipe} soup",
            family=family,
            recorded_at=session.folder,
            remarks=(*remarks, *(bench.remarks if isinstance(bench, TaskBench) else ())),
            statistics=bench.running_statistics(soup),
        )
        _sign(session)
        adopt_files(staged, session.folder, last="soup.json")
    return notes


def _is_finished(session: _Session, last_file: str) -> bool:
    """Whether the folder holds the result of this very command, the user's function included.

    Raises:
        OutputError: it was made with another version of the function.
    """
    last = session.folder / last_file
    judge = session.judge
    if judge.name is None or not last.exists():
        return last.exists()
    if judge.version is None:  # nobody can tell whether it is the same function, so it is asked once more
        last.unlink()
        return False
    signature = session.folder / _SCORED_BY
    if not signature.exists() or signature.read_text(encoding="utf-8") != judge.version:
        raise OutputError(
            f"{session.folder} was made with another version of {judge.name}: its source file has changed since",
            fix="name another output folder with -o, or replace what is there with --fresh",
        )
    return True


def _sign(session: _Session) -> None:
    if session.judge.version is not None:
        write_text_atomically(session.folder / _SCORED_BY, session.judge.version)


def _announce_individuals(session: _Session, report: OnProgress) -> None:
    """Tells each ingredient's own score as soon as it is known: recipes speak only when all have been scored."""
    evaluate: Evaluate = session.bench.evaluate
    told: set[Ingredient] = set()

    def announced(soup: Soup, *, against: Incumbent | None = None) -> Score:
        score = evaluate(soup, against=against)
        (first, *others) = soup.ingredients
        if not others and first not in told:
            told.add(first)
            line = f"{first.name}: {session.bench.metric} {score.value:.4f}"
            report(Progress("score", line, len(told), len(session.ingredients)))
        return score

    session.bench.evaluate = announced


@contextmanager
def _session(
    ingredients: Sequence[Ingredient],
    task: TaskSource | None,
    evaluate: EvaluateSource | None,
    initialisation: str | None,
    settings: Mapping[str, Any],
    out: str | Path | None,
    fresh: bool,
    recalibrate: int | None,
) -> Iterator[_Session]:
    if recalibrate is not None and (task is None or recalibrate < 1):
        why = "it needs a task" if task is None else f"got {recalibrate}; allowed: a number >= 1"
        raise ConfigError(f"running statistics cannot be made anew: {why}", fix="leave out --recalibrate")
    if (task is None) == (evaluate is None):
        given = "neither was given" if task is None else "both were given"
        raise ConfigError(
            f"give either a task or an evaluate function ({given})",
            fix="--task task.yaml or --evaluate module:function",
        )
    start = [Ingredient("initialisation", initialisation)] if initialisation is not None else []
    if fresh and out is not None:
        _check_sources_stay([*ingredients, *start], Path(out))
    with opened([*ingredients, *start]):
        pass  # what cannot be mixed is said before anything is evaluated
    with TemporaryDirectory(prefix="stockpot-") as scratch:
        members = with_digests([*ingredients, *start])
        identity: dict[str, Any] = {
            **settings,
            # By position, for the order counts; a changed folder then names the ingredients that changed.
            "ingredients": {str(n): f"{member.name} {member.digest}" for n, member in enumerate(members, start=1)},
        }
        judge = _judge(task, evaluate, members[0], identity, recalibrate)
        with (
            ExperimentFolder.claim(out or Path(scratch) / "compare", identity, fresh=fresh) as claimed,
            Journal(claimed.folder / "journal") as journal,
        ):
            yield _Session(
                claimed.folder,
                judge,
                judge.bench(journal),
                members[: len(ingredients)],
                single(members[-1], recipe="initialisation") if start else None,
                identity,
            )


def _judge(
    task: TaskSource | None,
    evaluate: EvaluateSource | None,
    model: Ingredient,
    identity: dict[str, Any],
    recalibrate: int | None,
) -> _Judge:
    """Loads what scores; puts what the scores depend on into the identity."""
    if task is not None:
        loaded = load_task(task, model, recalibrate=recalibrate)
        identity["task"] = canonical(loaded.config)
        if identity["command"] == "compare":  # of the same predictions any metric can be made
            del identity["task"]["metric"]
        identity["splits"] = {split: loaded.identity(split) for split in loaded.splits}
        return _Judge(lambda journal: TaskBench(loaded, journal))
    assert evaluate is not None  # checked by the caller
    name = evaluate if isinstance(evaluate, str) else f"{evaluate.__module__}:{getattr(evaluate, '__qualname__', '?')}"
    function = load_callable(evaluate) if isinstance(evaluate, str) else evaluate
    identity["evaluate"] = name
    version = identity_of_callable(function, name)
    return _Judge(lambda journal: CallableBench(function, journal, name=name), name, version)


def _before_recalibration(
    session: _Session, cooked: Mapping[str, Sequence[Soup]], task: TaskSource | None
) -> tuple[str, ...]:
    """What the methods score with averaged running statistics, where these were made anew."""
    bench = session.bench
    if task is None or not isinstance(bench, TaskBench) or not bench.recalibrates:
        return ()
    plain = bench.without_recalibration(load_task(task, session.ingredients[0], recalibrate=0))
    split = "test" if "test" in plain.task.splits else "held_out"
    scores = [
        f"{method.replace('_', ' ')} {plain.task.score(plain.predictions(soups[0], split)).value:.4f}"
        for method, soups in cooked.items()
        if len(soups) == 1 and soups[0].combine == "weights"
    ]
    return (f"Before running statistics were made anew, {bench.metric} on {split} was: {', '.join(scores)}.",)


def _check_sources_stay(sources: Sequence[Ingredient], out: Path) -> None:
    """--fresh deletes what is in `out` in the end; never what it was made from."""
    target = out.resolve()
    inside = [s.source for s in sources if Path(s.source).expanduser().resolve().is_relative_to(target)]
    if inside:
        raise OutputError(
            f"--fresh would replace {out}, which holds what is being read",
            problems=[f"needed: {source}" for source in inside],
            fix="name another output folder with -o",
        )


def _report(report: OnProgress, method: str, step: Step | CurvePoint) -> None:
    if method != "best":  # its steps are the individuals, which are announced
        report(Progress("select", step_line(method, step)))
