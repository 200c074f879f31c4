"""Findings from angles between whole models: which runs come from one start, and which went far away from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stockpot.records import Finding

__all__ = ["Origins", "WeightAngles", "origins", "start_findings", "weight_angles"]

Array = np.ndarray[Any, Any]
#: Fine-tunes of one network keep cosines above 0.95 even at learning rates that ruin them; independently initialised
#: ones of one architecture are near 0 (matrices alone: vectors of norms and biases start equal everywhere).
SAME_START_COSINE = 0.8
#: A run that went far still holds its start (a share of 1, less what weight decay took); a stranger holds nothing.
STILL_HELD = 0.75
#: It also went so many times as far as is usual: neurons in another order stand as far away, and no farther.
FARTHER = 2.0
_MOST_LINES = 8


@dataclass(frozen=True, slots=True, eq=False)
class WeightAngles:
    """Cosines between whole models, weight matrices alone.

    Args:
        cosines: [m, m]; the first is the initialisation where one was given.
        has_start: whether it is.
        lengths: [m] ``|theta_i|``.
    """

    cosines: Array
    has_start: bool
    lengths: Array

    def share(self, whole: int, part: int) -> float:
        """How much of model `part` is in model `whole`: ``<theta_whole, theta_part> / |theta_part|^2``."""
        length = float(self.lengths[part])
        return float(self.cosines[whole, part] * self.lengths[whole]) / length if length else 0.0

    def distance(self, first: int, second: int) -> float:
        """``|theta_first - theta_second|``."""
        a, b = float(self.lengths[first]), float(self.lengths[second])
        return math.sqrt(max(a * a + b * b - 2 * a * b * float(self.cosines[first, second]), 0.0))

    def went_far(self, whole: int, part: int) -> bool:
        """Whether `whole` is `part` and a long way more; between two runs, not the other way round too."""
        if self.cosines[whole, part] >= SAME_START_COSINE or self.share(whole, part) < STILL_HELD:
            return False
        return (self.has_start and part == 0) or self.share(part, whole) < STILL_HELD


@dataclass(frozen=True, slots=True)
class Origins:
    """Which runs belong together.

    Args:
        kept: come from one start: the initialisation, or else the start of the best or largest group.
        others: groups that come from elsewhere, the largest first.
        far: run -> cosine to the start of `kept`, which it went far away from.
        cosines: run -> cosine to the initialisation, or to the group that is kept.
        of: what these cosines are to.
        is_stranger: whether no run has to do with the initialisation though some belong together: it is not theirs.
    """

    kept: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] = ()
    far: Mapping[str, float] = field(default_factory=dict)
    cosines: Mapping[str, float] = field(default_factory=dict)
    of: str = "the initialisation"
    is_stranger: bool = False

    @property
    def strangers(self) -> tuple[str, ...]:
        """All names of `others`."""
        return tuple(name for group in self.others for name in group)


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
    return WeightAngles(np.clip(cosines, -1.0, 1.0), has_start, lengths)


def origins(names: Sequence[str], angles: WeightAngles, *, scores: Mapping[str, float] | None = None) -> Origins:
    """Which runs come from one start, by the directions of their weights.

    Args:
        names: of the models, without the initialisation.
        angles: between them.
        scores: utility by name, where known: without an initialisation the group with the best single model is kept,
            else the largest.

    Example:
        >>> three = np.array([[1.0, 0.99, 0.1], [0.99, 1.0, 0.1], [0.1, 0.1, 1.0]])
        >>> found = origins(["a", "b", "c"], WeightAngles(three, False, np.ones(3)))
        >>> found.kept, found.others
        (('a', 'b'), (('c',),))
    """
    at = {name: i for i, name in enumerate(names, int(angles.has_start))}
    groups = _groups(names, at, angles)
    if angles.has_start:
        return _around_start(names, at, angles, groups)
    far = _far_of_groups(groups, at, angles)
    left = [rest for group in groups if (rest := tuple(name for name in group if name not in far))]
    best = {group: max((scores or {}).get(name, -np.inf) for name in group) for group in left}
    together = [group for group in left if len(group) > 1] or (left if len(left) == 1 else [])
    kept = max(together, key=lambda group: (best[group], len(group)), default=())
    others = tuple(group for group in left if group != kept)
    cosines = {
        name: statistics.median_high(
            angles.cosines[at[name], at[other]].item() for other in kept or names if other != name
        )
        for group in others
        for name in group
    }
    return Origins(kept, others, far, cosines, ", ".join(kept[:3]) if kept else "the others (median)")


def _around_start(
    names: Sequence[str], at: Mapping[str, int], angles: WeightAngles, groups: Sequence[tuple[str, ...]]
) -> Origins:
    cosines = {name: float(angles.cosines[0, at[name]]) for name in names}
    kept = tuple(name for name in names if cosines[name] >= SAME_START_COSINE)
    if not kept and len(groups[0]) > 1:
        return Origins((), tuple(groups), {}, cosines, is_stranger=True)
    ways = {name: angles.distance(at[name], 0) for name in names}
    limit = FARTHER * statistics.median_low(ways.values()) if len(names) > 2 else 0.0
    far = {name: cosines[name] for name in names if ways[name] > limit and angles.went_far(at[name], 0)}
    left = [tuple(name for name in group if name not in kept and name not in far) for group in groups]
    return Origins(kept, tuple(group for group in left if group), far, cosines)


def _groups(names: Sequence[str], at: Mapping[str, int], angles: WeightAngles) -> list[tuple[str, ...]]:
    """Names connected by cosines of one start, the largest group first; of equals the one that comes first."""
    rest, groups = list(names), []
    while rest:
        group, edge = set(), [rest.pop(0)]
        while edge:
            name = edge.pop()
            group.add(name)
            near = [other for other in rest if angles.cosines[at[name], at[other]] >= SAME_START_COSINE]
            rest = [other for other in rest if other not in near]
            edge += near
        groups.append(tuple(name for name in names if name in group))
    return sorted(groups, key=len, reverse=True)


def _far_of_groups(groups: Sequence[tuple[str, ...]], at: Mapping[str, int], angles: WeightAngles) -> dict[str, float]:
    """Runs that hold the shortest model of a group no smaller than theirs, and went far away from it."""
    far: dict[str, float] = {}
    for group in groups:
        members = [at[name] for name in group if name not in far]
        if not members:
            continue
        base = min(members, key=lambda i: angles.lengths[i])
        ways = [angles.distance(i, base) for i in members if i != base]
        limit = FARTHER * statistics.median_low(ways) if ways else 0.0
        others = [name for one in groups if one is not group and len(one) <= len(group) for name in one]
        far |= {
            name: float(angles.cosines[at[name], base])
            for name in others
            if name not in far and angles.distance(at[name], base) > limit and angles.went_far(at[name], base)
        }
    return far


def start_findings(found: Origins) -> list[Finding]:
    """Ingredients whose weights do not belong to the start of the others.

    Example:
        >>> start_findings(Origins(("a", "b"), (("c",),), {}, {"c": 0.1}, "a, b"))[0].message
        'c comes from another start, or has left it'
    """
    odd = found.strangers
    if not odd:
        return []
    verb = "come" if len(odd) > 1 else "comes"
    message, fix = f"{', '.join(odd)} {verb} from another start, or {'have' if len(odd) > 1 else 'has'} left it", ""
    if not found.kept:
        message = "the ingredients do not come from one start"
    groups = [group for group in (found.kept, *found.others) if len(group) > 1]
    if len(groups) > 1 or not found.kept:
        fix = "; ".join(["", *(f"or {', '.join(group)} by themselves" for group in groups if group != found.kept)])
    together = tuple(f"{', '.join(group)} belong together" for group in groups if len(groups) > 1)
    lines = tuple(
        f"{name}: cosine {found.cosines[name]:.2f} to {found.of}; fine-tunes of one start have over 0.95"
        for name in odd[:_MOST_LINES]
    )
    more = (f"and {len(odd) - _MOST_LINES} more",) if len(odd) > _MOST_LINES else ()
    kept = f": leave out {', '.join(odd)}" if found.kept else ""
    fix = f"average only what was fine-tuned from one checkpoint{kept}{fix}"
    return [Finding("start", "fault", message, (*together, *lines, *more), fix, odd)]
