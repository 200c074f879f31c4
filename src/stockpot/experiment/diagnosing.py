"""`diagnose`: cheap checks first, then geometry, then, with a task, midpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stockpot.analysis.diagnosis import (
    MidpointLoss,
    basin_findings,
    concluded,
    merged_label_orders,
    near_duplicate_findings,
    overlap_findings,
    refusals,
    resolution_findings,
    saturation_findings,
    start_findings,
    statistics_findings,
    unequal_findings,
    usual_first,
)
from stockpot.analysis.pairs import chosen_pairs
from stockpot.assembly import shared_start, with_digests
from stockpot.checkpoints import OpenedCheckpoint, open_checkpoint
from stockpot.errors import ConfigError, IncompatibleError
from stockpot.experiment.bench import TaskBench
from stockpot.experiment.beside import look_beside
from stockpot.experiment.looking import Looked, Start, look_at_weights
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.journal import Journal
from stockpot.kernel import check_compatible
from stockpot.metrics import loss_by_example
from stockpot.outputs import made_folder
from stockpot.recipes import single, uniform
from stockpot.records import Diagnosis, Finding, write_diagnosis
from stockpot.tasks import load_task
from stockpot.types import Ingredient, Soup, TensorSpec

__all__ = ["diagnose"]


def diagnose(
    ingredients: Sequence[Ingredient],
    *,
    initialisation: str | None = None,
    task: str | Path | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    most_pairs: int = 15,
    on_progress: OnProgress | None = None,
) -> Diagnosis:
    """Why a soup of these ingredients may be no better than the best of them.

    Args:
        ingredients: at least two.
        initialisation: checkpoint of their start: without it, movement cannot be judged.
        task: scores individuals and midpoints on the held-out split.
        out: gets diagnosis.json and keeps predictions; None: a temporary folder.
        most_pairs: midpoints looked at; of more, so many are drawn.
        on_progress: hears what happens.

    Returns:
        Findings with evidence, the gravest first, and a recommendation.

    Raises:
        ConfigError: fewer than two ingredients.
        CheckpointError: one cannot be opened.
        StockpotError: as the rooms below.

    Example:
        >>> import tempfile, numpy, safetensors.numpy
        >>> from stockpot import ingredients
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, width in (("a", 2), ("b", 3)):
        ...     safetensors.numpy.save_file({"w": numpy.ones((4, width))}, folder / f"{name}.safetensors")
        >>> found = diagnose(ingredients(folder / "*.safetensors"))
        >>> found.is_refused, found.findings[0].kind
        (True, 'architecture')
    """
    if len(ingredients) < 2:
        raise ConfigError("one ingredient has nothing to be compared with", fix="give at least two")
    report = on_progress or (lambda _: None)
    if out is not None:
        made_folder(out)  # before anything is read
    names = [ingredient.name for ingredient in ingredients]
    specs, problems = _headers(ingredients)
    if problems:
        found = concluded(names, refusals(problems, specs), ["headers"])
    else:
        findings, checked, skipped = _of_sound_headers(
            ingredients, specs[names[0]], initialisation, task, out, most_pairs, report
        )
        found = replace(concluded(names, findings, checked), skipped=tuple(skipped))
    if out is not None:
        write_diagnosis(found, made_folder(out))
    return found


def _headers(
    ingredients: Sequence[Ingredient],
) -> tuple[Mapping[str, Mapping[str, TensorSpec]], tuple[str, ...]]:
    """The specs of all, one of the usual ones first, and every mismatch with that one."""
    with ExitStack() as stack:
        opened: dict[str, OpenedCheckpoint] = {
            one.name: stack.enter_context(open_checkpoint(one.source, key=one.key)) for one in ingredients
        }
        specs = {name: dict(checkpoint.specs) for name, checkpoint in opened.items()}
        order = usual_first(specs)
        specs = {name: specs[name] for name in order}
        try:
            check_compatible([opened[name] for name in order], order)
        except IncompatibleError as error:
            return specs, error.problems
    return specs, ()


def _of_sound_headers(
    ingredients: Sequence[Ingredient],
    specs: Mapping[str, TensorSpec],
    initialisation: str | None,
    task: str | Path | Mapping[str, Any] | None,
    out: str | Path | None,
    most_pairs: int,
    report: OnProgress,
) -> tuple[list[Finding], list[str], list[str]]:
    """Findings of what can be mixed; what was looked at; what was not, and why."""
    start, skipped = _start(initialisation, specs, [one.name for one in ingredients])
    report(Progress("score", f"digests of {len(ingredients)} ingredients"))
    seen = look_at_weights(with_digests(ingredients), start, report)
    beside = look_beside(ingredients, initialisation)
    findings = merged_label_orders([*beside.findings, *seen.findings, *statistics_findings(specs)])
    if task is None:
        seen.skipped.append("scores, midpoints, overlap: no --task")
    elif len(seen.sound) < 2:
        seen.skipped.append("scores, midpoints, overlap: fewer than two ingredients are finite")
    else:
        findings = _with_scores(seen, findings, task, out, most_pairs, report)
    checked = ["headers", *beside.checked, "digests", *seen.checked]
    return findings, checked, [*skipped, *beside.skipped, *seen.skipped]


def _start(
    initialisation: str | None, specs: Mapping[str, TensorSpec], names: Sequence[str]
) -> tuple[Start | None, list[str]]:
    """The initialisation as far as it can be compared, and what cannot."""
    if initialisation is None:
        return None, ["who barely moved: no --initialisation"]
    label = "initialisation" if "initialisation" not in names else "the initialisation"
    with open_checkpoint(initialisation) as checkpoint:
        theirs = tuple(checkpoint.specs)
        shared = shared_start(specs, checkpoint.specs)
    if not shared.names:
        return None, [
            "who barely moved: the initialisation shares no tensor with the ingredients: "
            + ("equal names have other shapes" if any(name in specs for name in theirs) else "it has other names")
        ]
    named = ", ".join((*shared.missing[:4], *["..."] * (len(shared.missing) > 4)))
    left = [f"movement of {named}: not in the initialisation"] if shared.missing else []
    return Start(Ingredient(label, initialisation), shared), left


def _with_scores(
    seen: Looked,
    known: Sequence[Finding],
    task: str | Path | Mapping[str, Any],
    out: str | Path | None,
    most_pairs: int,
    report: OnProgress,
) -> list[Finding]:
    """The findings so far and those of the scores, which also tell the best of several groups of runs."""
    runs = seen.sound
    with TemporaryDirectory(prefix="stockpot-") as scratch, Journal(Path(out or scratch) / "journal") as journal:
        loaded = load_task(task, runs[0], allow_overlap=True)
        bench = TaskBench(loaded, journal)
        scores = {}
        for done, run in enumerate(runs, 1):
            scores[run.name] = bench.evaluate(single(run))
            report(Progress("score", f"{run.name}: {bench.metric} {scores[run.name].value:.4f}", done, len(runs)))
        belong = seen.origins({name: score.utility for name, score in scores.items()})
        findings = [one for one in known if one.kind != "start"] + start_findings(belong)
        findings += [*unequal_findings(scores), *resolution_findings(scores), *saturation_findings(scores)]
        if "test" in loaded.splits:
            findings += overlap_findings(loaded.texts("held_out"), loaded.texts("test"))
        else:
            seen.skipped.append("overlap: the task has no test split")
        seen.checked += ["scores", *(["overlap"] if "test" in loaded.splits else [])]
        loss = loss_by_example(bench.metric)

        def mean_loss(soup: Soup) -> float:
            predictions = bench.predictions(soup, "held_out")
            return float(loss(predictions.logits, predictions.labels).mean())

        losses = {run.name: mean_loss(single(run)) for run in runs}
        told = {name: (scores[name].value, loss) for name, loss in losses.items()}
        same = [(a, b) for a, b in combinations(told, 2) if told[a] == told[b]]
        findings += near_duplicate_findings(same, "equal score and loss on held-out, to the last digit", known=known)
        # Between runs of two starts there is a hill, and no more to be learned from it.
        kin = [run for run in runs if run.name not in belong.strangers]
        chosen = chosen_pairs(len(kin), most_pairs)
        if chosen:
            seen.checked.append("midpoints")
        else:
            seen.skipped.append("midpoints: no two runs come from one start")
        midpoints = []
        for done, (first, second) in enumerate(((kin[i], kin[j]) for i, j in chosen), 1):
            ends = (losses[first.name], losses[second.name])
            midpoints.append(MidpointLoss(first.name, second.name, ends, mean_loss(uniform([first, second]))))
            report(Progress("score", f"half-way between {first.name} and {second.name}", done, len(chosen)))
        return findings + basin_findings(midpoints)
