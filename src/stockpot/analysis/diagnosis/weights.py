"""Findings from lengths and angles of the weights: other starts, runs that diverged or barely moved."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stockpot.records import Finding, Geometry

__all__ = ["WeightAngles", "movement_findings", "start_findings", "weight_angles"]

Array = np.ndarray[Any, Any]
#: Fine-tunes of one network keep cosines above 0.95 even at learning rates that ruin them; independently initialised
#: ones of one architecture are near 0 (matrices alone: vectors of norms and biases start equal everywhere).
SAME_START_COSINE = 0.8
#: Of the usual way: a run under a twentieth of it has hardly trained, one over eight times it has left.
BARELY_MOVED, MOVED_FAR = 0.05, 8.0
#: Of the start's own length: fine-tunes move by 0.1 to 30 % of it.
STILL_OF_START, FAR_OF_START = 0.001, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class WeightAngles:
    """Cosines between whole models, weight matrices alone.

    Args:
        cosines: [m, m]; the first is the initialisation where one was given.
        has_start: whether it is.
    """

    cosines: Array
    has_start: bool

    @property
    def agree_without_start(self) -> bool:
        """Whether all models but the start are as near to each other as fine-tunes of one start are."""
        own = self.cosines[1:, 1:] if self.has_start else self.cosines
        return bool((own >= SAME_START_COSINE).all())


def weight_angles(squares: Array, gram: Array, *, has_start: bool) -> WeightAngles:
    """Cosines of ``theta_i`` themselves from inner products around a reference and the lengths of all.

    ``<theta_i, theta_j> = (|theta_i|^2 + |theta_j|^2 - |theta_i - theta_j|^2) / 2``

    Args:
        squares: [m] ``|theta_i|^2``, the reference first.
        gram: [m - 1, m - 1] ``<theta_i - theta_0, theta_j - theta_0>`` of the others.
        has_start: whether the reference is the initialisation.

    Example:
        >>> weight_angles(np.array([1.0, 1.0]), np.array([[2.0]]), has_start=True).cosines.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    around = np.zeros((len(squares), len(squares)))
    around[1:, 1:] = gram
    distances = np.diag(around)[:, None] + np.diag(around)[None, :] - 2 * around
    inner = (squares[:, None] + squares[None, :] - distances) / 2
    lengths = np.sqrt(squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.nan_to_num(inner / lengths[:, None] / lengths[None, :], nan=1.0)
    return WeightAngles(np.clip(cosines, -1.0, 1.0), has_start)


def start_findings(names: Sequence[str], angles: WeightAngles) -> list[Finding]:
    """Ingredients whose weights do not belong to the start of the others.

    With an initialisation each is compared with it; without one, with the others' median.

    Example:
        >>> three = np.array([[1.0, 0.99, 0.1], [0.99, 1.0, 0.1], [0.1, 0.1, 1.0]])
        >>> start_findings(["a", "b", "c"], WeightAngles(three, has_start=False))[0].ingredients
        ('c',)
    """
    if angles.has_start:
        cosines = {name: float(angles.cosines[0, i]) for i, name in enumerate(names, 1)}
        of = "the initialisation"
    else:
        cosines = {
            name: statistics.median_high(angles.cosines[i, j] for j in range(len(names)) if j != i)
            if len(names) > 1
            else 1.0
            for i, name in enumerate(names)
        }
        of = "the others (median)"
    odd = {name: cosine for name, cosine in cosines.items() if cosine < SAME_START_COSINE}
    if not odd:
        return []
    whole = len(odd) == len(names)
    return [
        Finding(
            "start",
            "fault",
            "the ingredients do not come from one start"
            if whole
            else f"{', '.join(odd)} comes from another start, or has left it",
            tuple(f"{name}: cosine {c:.2f} to {of}; fine-tunes of one start have over 0.95" for name, c in odd.items()),
            "average only what was fine-tuned from one checkpoint" + ("" if whole else f": leave out {', '.join(odd)}"),
            tuple(odd),
        )
    ]


def movement_findings(geometry: Geometry, *, start_length: float = 0.0, ignored: Sequence[str] = ()) -> list[Finding]:
    """Runs that have hardly left the start, or have gone many times as far as the others.

    Of three runs or more the median tells what is usual. Of two the start's own length tells which is the odd one;
    where it does not, both are named. Around the mean of the runs (no start known) a run's way is its distance to the
    others, and one that barely moved cannot be told.

    Args:
        geometry: lengths around the initialisation, or around the mean.
        start_length: ``|theta_0|``, 0 where it is unknown.
        ignored: names already explained.

    Example:
        >>> far = Geometry(("a", "b", "c"), (1.0, 1.2, 40.0), (), ())
        >>> [(finding.kind, finding.ingredients) for finding in movement_findings(far)]
        [('diverged', ('c',))]
    """
    moved = {name: length for name, length in _ways(geometry).items() if name not in ignored}
    if len(moved) < 2:
        return []
    if len(moved) == 2 and not geometry.is_centred:
        return _of_two(moved, start_length)
    usual = statistics.median_low(moved.values())
    still = {name: length for name, length in moved.items() if length <= BARELY_MOVED * usual}
    far = {name: length for name, length in moved.items() if usual and length > MOVED_FAR * usual}
    what = "lies, from the others," if geometry.is_centred else "moved"
    evidence = {name: f"{name}: {what} {length:.3g}, the median is {usual:.3g}" for name, length in moved.items()}
    found = [_diverged(tuple(far), tuple(evidence[name] for name in far))] if far else []
    if still and not geometry.is_centred:
        found.append(_barely_moved(tuple(still), tuple(evidence[name] for name in still)))
    return found


def _ways(geometry: Geometry) -> dict[str, float]:
    """How far each run is from the start; without one, from the other half of the runs."""
    if not geometry.is_centred:
        return dict(zip(geometry.names, geometry.norms, strict=True))
    if len(geometry.names) < 3:  # of two, none is the far one
        return {}
    rows = [[d for j, d in enumerate(row) if j != i] for i, row in enumerate(geometry.distances)]
    return {name: statistics.median_low(row) for name, row in zip(geometry.names, rows, strict=True)}


def _of_two(moved: dict[str, float], start_length: float) -> list[Finding]:
    (near, short), (far, long) = sorted(moved.items(), key=lambda item: item[1])
    if long <= MOVED_FAR * short:
        return []
    evidence = (
        f"{near}: moved {short:.3g}",
        f"{far}: moved {long:.3g}",
        f"the start's own length is {start_length:.3g}",
    )
    if start_length and long > FAR_OF_START * start_length:
        return [_diverged((far,), evidence)]
    if start_length and short < STILL_OF_START * start_length:
        return [_barely_moved((near,), evidence)]
    return [
        Finding(
            "uneven",
            "caution",
            f"{far} went {long / short:.0f} times as far as {near}" if short else f"{near} has not moved at all",
            evidence,
            "one learning rate was too high or the other too low: look at both scores",
            (near, far),
        )
    ]


def _diverged(names: tuple[str, ...], evidence: tuple[str, ...]) -> Finding:
    message = f"{', '.join(names)} went {MOVED_FAR:g} times as far as the others, or more"
    return Finding("diverged", "fault", message, evidence, "its learning rate was too high: leave it out", names)


def _barely_moved(names: tuple[str, ...], evidence: tuple[str, ...]) -> Finding:
    message = f"{', '.join(names)} has hardly left the initialisation"
    fix = "it is nearly the pre-trained model: train it longer, or leave it out"
    return Finding("barely_moved", "caution", message, evidence, fix, names)
