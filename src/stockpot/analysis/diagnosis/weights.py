"""Findings from lengths of the weights: runs that diverged or barely moved."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from stockpot.records import Finding, Geometry

__all__ = ["movement_findings", "not_finite_findings"]

#: Of the usual way: a run under a twentieth of it has hardly trained, one over eight times it has left.
BARELY_MOVED, MOVED_FAR = 0.05, 8.0
#: Without a start a run's way is its distance to the others. Usual ways w at right angles end sqrt(2) w from each other
#: and sqrt(w^2 + far^2) from a far one's end: the same limit, seen from there.
FAR_FROM_OTHERS = math.sqrt((1 + MOVED_FAR**2) / 2)
#: Of the start's own length: fine-tunes move by 0.1 to 30 % of it.
STILL_OF_START, FAR_OF_START = 0.001, 0.5


def not_finite_findings(names: Sequence[str]) -> list[Finding]:
    """Runs with NaN or infinity among their weights, in one finding.

    Example:
        >>> not_finite_findings(["a", "b"])[0].message
        'a, b hold NaN or infinity'
    """
    if not names:
        return []
    one = len(names) == 1
    message = f"{', '.join(names)} {'holds' if one else 'hold'} NaN or infinity"
    why = "its run diverged, or its file is damaged" if one else "their runs diverged, or their files are damaged"
    return [Finding("not_finite", "fault", message, (why,), f"leave {_them(names)} out", tuple(names))]


def movement_findings(
    geometry: Geometry,
    *,
    start_length: float = 0.0,
    ignored: Sequence[str] = (),
    far: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Runs that have hardly left the start, or have gone many times as far as the others.

    Of three runs or more the median tells what is usual. Of two the start's own length tells which is the odd one;
    where it does not, both are named. Around the mean of the runs (no start known) a run's way is its distance to the
    others, and one that barely moved cannot be told.

    Args:
        geometry: lengths around the initialisation, or around the mean.
        start_length: ``|theta_0|``, 0 where it is unknown.
        ignored: names already explained.
        far: run -> cosine to the start, of those whose angle shows already that they went far.

    Example:
        >>> far = Geometry(("a", "b", "c"), (1.0, 1.2, 40.0), (), ())
        >>> [(finding.kind, finding.ingredients) for finding in movement_findings(far)]
        [('diverged', ('c',))]
    """
    left = far or {}
    moved = _ways(geometry, ignored)
    if len(moved) < 2 and not left:
        return []
    if len(moved) == 2 and not geometry.is_centred and not left:
        return _of_two(moved, start_length)
    usual = statistics.median_low(moved.values())
    factor = FAR_FROM_OTHERS if geometry.is_centred else MOVED_FAR
    still = {name: length for name, length in moved.items() if length <= BARELY_MOVED * usual}
    gone = {name: length for name, length in moved.items() if name in left or (usual and length > factor * usual)}
    is_telling = len(moved) > 2  # of two the median is one of them
    evidence = {}
    for name, length in moved.items():
        said = [f"{name}: {'lies, from the others,' if geometry.is_centred else 'moved'} {length:.3g}"]
        said += [f"{length / usual:.3g} times the median {usual:.3g}"] if is_telling and usual else []
        said += [f"the start's own length is {start_length:.3g}"] if start_length and name in left else []
        said += [f"cosine {left[name]:.2f} to its start, which is still in it"] if name in left else []
        evidence[name] = ", ".join(said)
    found = [_diverged(tuple(gone), tuple(evidence[name] for name in gone))] if gone else []
    if still and not geometry.is_centred and is_telling:
        found.append(_barely_moved(tuple(still), tuple(evidence[name] for name in still)))
    return found


def _ways(geometry: Geometry, ignored: Sequence[str]) -> dict[str, float]:
    """How far each run is from the start; without one, from the other half of the runs."""
    wanted = [i for i, name in enumerate(geometry.names) if name not in ignored]
    if not geometry.is_centred:
        return {geometry.names[i]: geometry.norms[i] for i in wanted}
    return {
        geometry.names[i]: statistics.median_low(geometry.distances[i][j] for j in wanted if j != i)
        for i in wanted
        if len(wanted) > 1
    }


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


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _diverged(names: tuple[str, ...], evidence: tuple[str, ...]) -> Finding:
    message = f"{', '.join(names)} went much farther than fine-tuning goes"
    fix = f"the learning rate was too high: leave {_them(names)} out"
    return Finding("diverged", "fault", message, evidence, fix, names)


def _barely_moved(names: tuple[str, ...], evidence: tuple[str, ...]) -> Finding:
    one = len(names) == 1
    message = f"{', '.join(names)} {'has' if one else 'have'} hardly left the initialisation"
    fix = f"{'it is' if one else 'they are'} nearly the pre-trained model: train longer, or leave {_them(names)} out"
    return Finding("barely_moved", "caution", message, evidence, fix, names)
