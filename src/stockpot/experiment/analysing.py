"""`analyse`: where ingredients lie, and what the loss does between them; every prediction goes through the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stockpot.analysis.geometry import centred, geometry
from stockpot.assembly import SharedStart, inner_products, shared_start, with_digests
from stockpot.checkpoints import open_checkpoint
from stockpot.config import ANALYSIS_PARTS, AnalysisConfig, canonical
from stockpot.errors import ConfigError
from stockpot.experiment.analysis_parts import AnalysisOptions, Scene, measured_parts, parts_notes
from stockpot.experiment.bench import TaskBench
from stockpot.experiment.between import models_between, needs_start
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.journal import Journal
from stockpot.outputs import FolderLock, made_folder
from stockpot.records import Analysis, read_analysis, write_analysis
from stockpot.tasks import load_task
from stockpot.types import Ingredient

__all__ = ["AnalysisOptions", "analyse", "analyse_runs"]


def analyse(
    ingredients: Sequence[Ingredient],
    out: str | Path,
    *,
    task: str | Path | Mapping[str, Any] | None = None,
    initialisation: str | None = None,
    options: AnalysisOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Analysis:
    """Looks at the space between ingredients and writes analysis.json.

    Args:
        ingredients: at least two.
        out: gets analysis.json, where parts made before of the same ingredients stay. Its journal keeps every
            prediction, so a second call repeats none; the folder of an experiment or a comparison of the same
            ingredients has most of them already.
        task: measures; without one there is geometry alone.
        initialisation: where all ingredients started; plane and line need it.
        options: how much.
        on_progress: hears what happens, the number of forward passes before they start.

    Returns:
        What analysis.json holds.

    Raises:
        ConfigError: an unknown part, one that lacks the task or the initialisation, or unknown models.
        StockpotError: as the rooms below; what was predicted is kept.

    Source: Wortsman et al. 2022, figures 2 to 4, and appendix.
    """
    options, report = options or AnalysisOptions(), on_progress or (lambda _: None)
    if len(ingredients) < 2:
        raise ConfigError("one ingredient has nothing to be compared with", fix="give at least two")
    shared = _shared(ingredients[0], initialisation)
    parts, notes = _possible(options, has_task=task is not None, shared=shared)
    start = [] if initialisation is None else [Ingredient("initialisation", initialisation)]
    named = models_between(options.between, ingredients, start[0] if start else None)
    folder = made_folder(out)
    lock = FolderLock(folder)
    try:
        with Journal(folder / "journal") as journal:
            members = with_digests([*ingredients, *start], memory=journal.digest_memory)
            known = {member.name: member.digest for member in members}
            named = with_digests(named, memory=journal.digest_memory)
            bench = None if task is None else TaskBench(load_task(task, members[0]), journal)
            if bench is not None:
                options = replace(options, splits=_known_splits(options.splits, bench.task.splits))
            found = _look(
                members[: len(ingredients)],
                members[-1] if start else None,
                bench,
                replace(options, parts=parts),
                report,
                shared=shared,
                between=named,
            )
            notes += [] if bench is None else parts_notes(bench, parts)
            result = replace(_kept(folder, known), notes=tuple(notes), **found)
        write_analysis(result, folder)
        return result
    finally:
        lock.release()


def analyse_runs(
    ingredients: Sequence[Ingredient], start: Ingredient, bench: TaskBench, config: AnalysisConfig, report: OnProgress
) -> Analysis:
    """What `analyse` finds of runs that share a start, where a command has a bench already.

    Args:
        ingredients: at least two, with digests.
        start: what all of them started from, with its digest.
        bench: measures, and keeps predictions.
        config: which parts, and how closely.
        report: hears what happens.
    """
    options = AnalysisOptions(
        parts=config.parts or ANALYSIS_PARTS,
        grid=config.grid,
        line_points=config.line_points,
        most_pairs=config.pairs,
        orders=config.orders,
        splits=_known_splits(config.splits, bench.task.splits),
        seed=config.seed,
    )
    shared = _shared(ingredients[0], start.source)
    known = {member.name: member.digest for member in (*ingredients, start)}
    found = _look(ingredients, start, bench, options, report, shared=shared)
    return Analysis(known, notes=tuple(parts_notes(bench, options.parts)), asked=canonical(config), **found)


def _look(
    runs: Sequence[Ingredient],
    start: Ingredient | None,
    bench: TaskBench | None,
    options: AnalysisOptions,
    report: OnProgress,
    *,
    shared: SharedStart | None,
    between: tuple[Ingredient, ...] = (),
) -> dict[str, Any]:
    """What the parts find, by the keys of analysis.json."""
    report(Progress("measure", f"inner products of {len(runs)} ingredients"))
    products = inner_products(runs, start or runs[0], shared=shared)
    products = products if start else centred(products)
    found: dict[str, Any] = {}
    if "geometry" in options.parts:
        found["geometry"] = geometry([run.name for run in runs], products, is_centred=start is None)
    if bench is not None:
        found |= {"metric": bench.metric, "higher_is_better": bench.higher_is_better}
        scene = Scene(bench, tuple(runs), start, products, options, report, between)
        found |= measured_parts(scene, options.parts)
    return found


def _kept(folder: Path, ingredients: Mapping[str, str | None]) -> Analysis:
    """The parts that are there already, of the same ingredients; what was made of others is left behind."""
    if (folder / "analysis.json").is_file():
        found = read_analysis(folder)
        if dict(found.ingredients) == dict(ingredients):
            return found
    return Analysis(ingredients)


def _shared(ingredient: Ingredient, initialisation: str | None) -> SharedStart | None:
    """What an ingredient has in common with the start; None where there is no start.

    Raises:
        ConfigError: nothing at all.
    """
    if initialisation is None:
        return None
    with open_checkpoint(ingredient.source, key=ingredient.key) as run, open_checkpoint(initialisation) as start:
        shared = shared_start(run.specs, start.specs)
    if not shared.names:
        raise ConfigError(
            f"{initialisation}: no tensor has the name and shape of one of {ingredient.name}",
            fix="give the checkpoint that the ingredients were fine-tuned from, or leave out --initialisation",
        )
    return shared


def _known_splits(wanted: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """The splits asked for; a shift may be named without `shift:`.

    Raises:
        ConfigError: one that the task does not have.
    """
    named = [name if name in there else f"shift:{name}" for name in wanted]
    if unknown := [name for name, full in zip(wanted, named, strict=True) if full not in there]:
        raise ConfigError(f"no such split: {', '.join(unknown)}", fix=f"the task has {', '.join(there)}")
    return tuple(named)


def _unfit(shared: SharedStart) -> str:
    """What an initialisation lacks that is to be mixed with the ingredients."""
    if shared.recast and not (shared.missing or shared.prefix):
        return f"in the ingredients' dtype; this one has another, as for {shared.recast[0]}"
    lacking = ", ".join(shared.missing[:4]) or (f"names that begin with {shared.prefix}" if shared.prefix else "")
    if lacking:
        return f"with every tensor of the ingredients; this one lacks {lacking}"
    return f"with the ingredients' tensors alone; this one has {', '.join(shared.extra[:4])} too"


def _possible(
    options: AnalysisOptions, *, has_task: bool, shared: SharedStart | None
) -> tuple[tuple[str, ...], list[str]]:
    """The parts to make; one that was asked for by name must be possible."""
    no_start = "needs --initialisation"
    if shared is not None and not shared.is_whole:
        no_start = f"needs an --initialisation {_unfit(shared)}"
    has_start = shared is not None and shared.is_whole
    unknown = [part for part in options.parts if part not in ANALYSIS_PARTS]
    why = {
        part: "needs --task" if part != "geometry" and not has_task else no_start
        for part in ANALYSIS_PARTS
        if (part != "geometry" and not has_task) or (part in needs_start(len(options.between)) and not has_start)
    }
    problems = [f"no such part: {part}" for part in unknown]
    problems += [f"{part} {why[part]}" for part in options.parts if part in why]
    for name in ("grid", "line_points"):
        if getattr(options, name) < 3:
            problems.append(f"{name} is {getattr(options, name)}, not at least 3")
    if options.seed < 0:
        problems.append(f"seed is {options.seed}, not at least 0")
    for name in ("most_pairs", "orders"):
        if getattr(options, name) < 1:
            problems.append(f"{name.removeprefix('most_')} is {getattr(options, name)}, not at least 1")
    if problems:
        fix = f"parts are {', '.join(ANALYSIS_PARTS)}" if unknown else "give what is lacking, or leave it out"
        raise ConfigError("this analysis cannot be made", problems=problems, fix=fix)
    wanted = options.parts or ANALYSIS_PARTS
    notes = [f"{part} is left out: it {reason}" for part, reason in why.items() if part in wanted]
    if shared is not None and shared.missing:
        notes.append(f"lengths and angles are those of the {len(shared.names)} tensors that the initialisation has")
    return tuple(part for part in ANALYSIS_PARTS if part in wanted and part not in why), notes
