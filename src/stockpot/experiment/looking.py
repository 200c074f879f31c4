"""What the values of checkpoints say of them: read once each, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stockpot.analysis.diagnosis import (
    Origins,
    WeightAngles,
    duplicate_findings,
    head_findings,
    head_names,
    movement_findings,
    near_duplicate_findings,
    not_finite_findings,
    origins,
    start_findings,
    weight_angles,
)
from stockpot.analysis.geometry import centred, geometry, near_duplicates
from stockpot.assembly import SharedStart, inner_products
from stockpot.checkpoints import open_checkpoint
from stockpot.errors import BlendError
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.kernel import blend
from stockpot.records import Finding, Geometry
from stockpot.types import Coefficients, Ingredient, InnerProducts

__all__ = ["Looked", "Start", "look_at_weights"]

Array = np.ndarray[Any, Any]
_NEAR = "their distance is under 2 % of how far they have moved"


@dataclass(frozen=True, slots=True)
class Start:
    """The initialisation, and which tensors the fine-tunes share with it."""

    ingredient: Ingredient
    shared: SharedStart


@dataclass(slots=True)
class Looked:
    """What the weights showed.

    Args:
        findings: of lengths, angles, heads and duplicates.
        sound: the ingredients that are finite.
        checked: what was looked at.
        skipped: what was not, and why.
        angles: between the sound ones.
    """

    findings: list[Finding]
    sound: list[Ingredient]
    checked: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    angles: WeightAngles | None = None

    def origins(self, scores: Mapping[str, float] | None = None) -> Origins:
        """Which of the sound ones belong together; `scores`: the utility of each, where known."""
        names = [run.name for run in self.sound]
        return origins(names, self.angles, scores=scores) if self.angles else Origins(tuple(names))


@dataclass(frozen=True, slots=True, eq=False)
class _Scanned:
    """What one pass over a checkpoint's values finds: |theta|^2 by weight matrix, and the head."""

    squares: Mapping[str, float]
    head: Array | None


def look_at_weights(runs: Sequence[Ingredient], start: Start | None, report: OnProgress) -> Looked:
    """Reads every checkpoint and says what is wrong with its weights.

    Args:
        runs: ingredients that fit together, digests taken.
        start: None where it is unknown.
        report: hears what happens.
    """
    n = len(runs) + (start is not None)
    scanned: dict[str, _Scanned] = {}
    for done, run in enumerate(runs, 1):
        report(Progress("score", f"reading {run.name}", done, n))
        if (found := _scan(run)) is not None:
            scanned[run.name] = found
    bad = [run.name for run in runs if run.name not in scanned]
    findings = not_finite_findings(bad)
    findings += duplicate_findings({run.name: run.digest for run in runs})
    looked = Looked(findings, [run for run in runs if run.name in scanned])
    begun: _Scanned | None = None
    if start is not None:
        report(Progress("score", f"reading {start.ingredient.name}", n, n))
        begun = _scan(start.ingredient, start.shared.prefix)
        if begun is None:
            message = "the initialisation holds NaN or infinity, so nothing was compared with it"
            fix = "give the checkpoint that the runs were started from"
            looked.findings.append(Finding("initialisation_not_finite", "caution", message, (), fix))
            start = None
    if len(looked.sound) < 2:
        looked.skipped.append("lengths, angles, heads: fewer than two ingredients are finite")
        return looked
    _compare(looked, scanned, start, begun)
    return looked


def _compare(looked: Looked, scanned: Mapping[str, _Scanned], start: Start | None, begun: _Scanned | None) -> None:
    """Adds the findings of what several checkpoints show together."""
    runs, names = looked.sound, [run.name for run in looked.sound]
    shared = start.shared if start else None
    products = inner_products(runs, start.ingredient if start else runs[0], shared=shared)
    lengths = [scanned[name] for name in names]
    angles = _whole_angles(products, [begun, *lengths] if begun else lengths)
    looked.angles = angles
    belong = looked.origins()
    if belong.is_stranger:
        # Some belong together: then it is the start that is not theirs.
        message = "the initialisation is not what these ingredients were fine-tuned from"
        evidence = (
            *(f"{name}: cosine {belong.cosines[name]:.2f} to the initialisation" for name in names[:8]),
            f"among themselves {', '.join(belong.others[0])} have cosines as those of one start",
        )
        fix = "give the checkpoint that the runs were started from; nothing was compared with this one"
        looked.findings.append(Finding("initialisation", "caution", message, evidence, fix))
        _compare(looked, scanned, None, None)
        return
    looked.findings += start_findings(belong)
    shape = geometry(names, products if start else centred(products), is_centred=start is None)
    length = math.sqrt(math.fsum(begun.squares.values())) if begun else 0.0
    moved = movement_findings(shape, start_length=length, ignored=belong.strangers, far=belong.far)
    looked.findings += moved
    around: Geometry | None = shape
    gone = {name for finding in moved if finding.kind == "diverged" for name in finding.ingredients}
    if start is None:
        members = [name for name in names if name not in gone and name not in belong.strangers]
        around = _among(names, members, products) if members else None
        if len(names) == 2:
            looked.skipped.append(
                "who went far, near-duplicates: two runs alone have no measure; --initialisation is one"
            )
        elif len(members) == 2:
            looked.skipped.append("near-duplicates: the two runs that belong together alone have no measure")
    close = [pair for pair in near_duplicates(around) if not set(pair) & set(belong.strangers)] if around else []
    looked.findings += near_duplicate_findings(close, _NEAR, known=looked.findings)
    looked.checked += ["lengths", "angles"]
    explained = (*belong.strangers, *belong.far)
    heads = {name: head for name in names if (head := scanned[name].head) is not None}
    if heads:
        looked.findings += head_findings(heads, ignored=explained)
        looked.checked.append("heads")
    else:
        looked.skipped.append("heads: no tensor is called as classifier heads usually are")


def _among(names: Sequence[str], members: Sequence[str], products: InnerProducts) -> Geometry:
    """The geometry of some around their own mean: strangers would lie so far away that all others seem one."""
    chosen = [position for position, name in enumerate(names) if name in members]
    own = InnerProducts(products.groups, products.gram[:, chosen][:, :, chosen])
    return geometry(members, centred(own), is_centred=True)


def _whole_angles(products: InnerProducts, scanned: Sequence[_Scanned]) -> WeightAngles:
    """Cosines of whole models over their weight matrices; the first scanned is the reference of the products."""
    has_start = len(scanned) > products.gram.shape[1]
    matrices = scanned[0].squares
    wanted = [group[0] for group in products.groups if group[0] in matrices]
    is_wanted = np.array([group[0] in matrices for group in products.groups], dtype=bool)
    gram = products.gram[is_wanted].sum(axis=0)
    if not has_start:  # around the first of them, which is then one of the others
        gram = gram[1:, 1:]
    squares = [math.fsum(one.squares.get(name, 0.0) for name in wanted) for one in scanned]
    return weight_angles(np.array(squares), gram, has_start=has_start)


def _scan(ingredient: Ingredient, prefix: str = "") -> _Scanned | None:
    """One pass over the values; None where NaN or infinity is among them."""
    squares: dict[str, float] = {}
    head: list[Array] = []
    with open_checkpoint(ingredient.source, key=ingredient.key) as checkpoint:
        heads = head_names(checkpoint.specs)[-1:]
        try:
            for chunk in blend([checkpoint], Coefficients.equal(1), dtype="F64", labels=[ingredient.name]):
                if len(chunk.spec.shape) < 2 or chunk.spec.dtype != "F64":
                    continue
                values = np.frombuffer(chunk.data, np.float64)
                name = prefix + chunk.name
                squares[name] = squares.get(name, 0.0) + float(values @ values)
                if chunk.name in heads:
                    head.append(values.copy())
        except BlendError:
            return None
        shape = checkpoint.specs[heads[0]].shape if heads else ()
    return _Scanned(squares, np.concatenate(head).reshape(shape) if head else None)
