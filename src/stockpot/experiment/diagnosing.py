"""`diagnose`: cheap checks first, then geometry, then, with a task, midpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stockpot.analysis.diagnosis import (
    MidpointLoss,
    WeightAngles,
    basin_findings,
    concluded,
    duplicate_findings,
    head_findings,
    head_names,
    movement_findings,
    overlap_findings,
    refusals,
    resolution_findings,
    start_findings,
    statistics_findings,
    unequal_findings,
    weight_angles,
)
from stockpot.analysis.geometry import geometry, near_duplicates
from stockpot.analysis.pairs import chosen_pairs
from stockpot.assembly import inner_products, with_digests
from stockpot.checkpoints import OpenedCheckpoint, open_checkpoint
from stockpot.errors import BlendError, ConfigError, IncompatibleError
from stockpot.experiment.bench import TaskBench
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.journal import Journal
from stockpot.kernel import blend, check_compatible
from stockpot.metrics import loss_by_example
from stockpot.recipes import single, uniform
from stockpot.records import Diagnosis, Finding, write_diagnosis
from stockpot.tasks import load_task
from stockpot.types import Coefficients, Ingredient, InnerProducts, Soup, TensorSpec

__all__ = ["diagnose"]

Array = np.ndarray[Any, Any]
_REFERENCE = "initialisation"
_DIVERGED = "its run diverged, or its file is damaged"


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
    start = [] if initialisation is None else [Ingredient(_REFERENCE, initialisation)]
    names = [ingredient.name for ingredient in ingredients]
    specs, problems = _headers([*start, *ingredients])
    checked = ["headers", "digests"]
    if problems:
        found = concluded(names, refusals(problems, specs), checked[:1])
    else:
        report(Progress("score", f"digests of {len(names)} ingredients"))
        runs = with_digests(ingredients)
        findings, bad = _of_weights(runs, start, report)
        findings += statistics_findings(next(iter(specs.values())))
        checked += ["weights", "heads"]
        sound = [run for run in runs if run.name not in bad]
        if task is not None and len(sound) > 1:
            findings += _of_scores(sound, task, out, most_pairs, report)
            checked += ["scores", "midpoints"]
        found = concluded(names, findings, checked)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_diagnosis(found, out)
    return found


def _headers(
    ingredients: Sequence[Ingredient],
) -> tuple[Mapping[str, Mapping[str, TensorSpec]], tuple[str, ...]]:
    """The specs of all, and every mismatch with the first."""
    with ExitStack() as stack:
        opened: list[OpenedCheckpoint] = [
            stack.enter_context(open_checkpoint(one.source, key=one.key)) for one in ingredients
        ]
        specs = {one.name: dict(checkpoint.specs) for one, checkpoint in zip(ingredients, opened, strict=True)}
        try:
            check_compatible(opened, [one.name for one in ingredients])
        except IncompatibleError as error:
            return specs, error.problems
    return specs, ()


@dataclass(frozen=True, slots=True, eq=False)
class _Scanned:
    """What one pass over a checkpoint's values finds: |theta|^2 by weight matrix, and the head."""

    squares: Mapping[str, float]
    head: Array | None


def _of_weights(
    runs: Sequence[Ingredient], start: Sequence[Ingredient], report: OnProgress
) -> tuple[list[Finding], list[str]]:
    """Findings of lengths, angles and heads; and the names that hold NaN or infinity."""
    scanned: dict[str, _Scanned] = {}
    for done, one in enumerate([*start, *runs], 1):
        report(Progress("score", f"reading {one.name}", done, len(start) + len(runs)))
        with suppress(BlendError):  # NaN or infinity
            scanned[one.name] = _scan(one)
    bad = [run.name for run in runs if run.name not in scanned]
    findings = [
        Finding("not_finite", "fault", f"{name} holds NaN or infinity", (_DIVERGED,), "leave it out", (name,))
        for name in bad
    ]
    findings += duplicate_findings({run.name: run.digest for run in runs})
    sound = [run for run in runs if run.name not in bad]
    if len(sound) < 2 or any(one.name not in scanned for one in start):
        return findings, bad
    products, names = inner_products(sound, (start or sound)[0]), [run.name for run in sound]
    strangers = start_findings(names, _whole_angles(products, [*start, *sound], scanned, has_start=bool(start)))
    findings += strangers
    explained = [name for finding in strangers for name in finding.ingredients]
    if start:
        shape = geometry(names, products)
        findings += movement_findings(shape, ignored=explained)
        known = [set(finding.ingredients) for finding in findings if finding.kind == "duplicates"]
        near = [pair for pair in near_duplicates(shape) if not any(set(pair) <= group for group in known)]
        findings += duplicate_findings({}, near)
    heads = {name: head for name in names if (head := scanned[name].head) is not None}
    return findings + head_findings(heads, ignored=explained), bad


def _whole_angles(
    products: InnerProducts, members: Sequence[Ingredient], scanned: Mapping[str, _Scanned], *, has_start: bool
) -> WeightAngles:
    """Cosines of whole models over their weight matrices; the reference is the first member."""
    matrices = scanned[members[0].name].squares
    is_matrix = np.array([group[0] in matrices for group in products.groups], dtype=bool)
    gram = products.gram[is_matrix].sum(axis=0)
    if not has_start:  # around the first of them, which is then one of the others
        gram = gram[1:, 1:]
    wanted = [group[0] for group in products.groups if group[0] in matrices]
    squares = [math.fsum(scanned[member.name].squares.get(name, 0.0) for name in wanted) for member in members]
    return weight_angles(np.array(squares), gram, has_start=has_start)


def _scan(ingredient: Ingredient) -> _Scanned:
    """One pass over the values.

    Raises:
        BlendError: NaN or infinity.
    """
    squares: dict[str, float] = {}
    head: list[Array] = []
    with open_checkpoint(ingredient.source, key=ingredient.key) as checkpoint:
        heads = head_names(checkpoint.specs)[-1:]
        for chunk in blend([checkpoint], Coefficients.equal(1), dtype="F64", labels=[ingredient.name]):
            if len(chunk.spec.shape) < 2 or chunk.spec.dtype != "F64":
                continue
            values = np.frombuffer(chunk.data, np.float64)
            squares[chunk.name] = squares.get(chunk.name, 0.0) + float(values @ values)
            if chunk.name in heads:
                head.append(values.copy())
        shape = checkpoint.specs[heads[0]].shape if heads else ()
    return _Scanned(squares, np.concatenate(head).reshape(shape) if head else None)


def _of_scores(
    runs: Sequence[Ingredient],
    task: str | Path | Mapping[str, Any],
    out: str | Path | None,
    most_pairs: int,
    report: OnProgress,
) -> list[Finding]:
    with TemporaryDirectory(prefix="stockpot-") as scratch, Journal(Path(out or scratch) / "journal") as journal:
        loaded = load_task(task, runs[0], allow_overlap=True)
        bench = TaskBench(loaded, journal)
        scores = {}
        for done, run in enumerate(runs, 1):
            scores[run.name] = bench.evaluate(single(run))
            report(Progress("score", f"{run.name}: {bench.metric} {scores[run.name].value:.4f}", done, len(runs)))
        findings = [*unequal_findings(scores), *resolution_findings(scores)]
        if "test" in loaded.splits:
            findings += overlap_findings(loaded.texts("held_out"), loaded.texts("test"))
        loss = loss_by_example(bench.metric)

        def mean_loss(soup: Soup) -> float:
            predictions = bench.predictions(soup, "held_out")
            return float(loss(predictions.logits, predictions.labels).mean())

        chosen = chosen_pairs(len(runs), most_pairs)
        midpoints = []
        for done, (i, j) in enumerate(chosen, 1):
            ends = (mean_loss(single(runs[i])), mean_loss(single(runs[j])))
            midpoints.append(MidpointLoss(runs[i].name, runs[j].name, ends, mean_loss(uniform([runs[i], runs[j]]))))
            report(Progress("score", f"half-way between {runs[i].name} and {runs[j].name}", done, len(chosen)))
        return findings + basin_findings(midpoints)
