"""Findings from scores and losses on the held-out split."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stockpot.metrics import METRICS
from stockpot.records import Finding
from stockpot.types import Score

__all__ = [
    "MidpointLoss",
    "basin_findings",
    "overlap_findings",
    "resolution_findings",
    "saturation_findings",
    "unequal_findings",
]

#: Nats. Two fine-tunes in one valley have a midpoint that is better than their mean; noise is a few hundredths.
BARRIER_NATS = 0.1
#: A gain of soups is usually 0.5 to 2 points of accuracy: a set that cannot resolve 2 points decides by chance.
COARSE_RESOLUTION = 0.02
#: McNemar's exact test, two-sided at 5 %: models must differ on six examples at least, all in favour of one.
LEAST_ERRORS = 6
#: Share of errors of a set that is solved; with more of them, too few errors mean too few examples.
SOLVED = 0.05
#: So many standard errors, and so large a part of the best score, behind the best.
BEHIND_STDERRS, BEHIND_SHARE = 4.0, 0.1


@dataclass(frozen=True, slots=True)
class MidpointLoss:
    """Held-out losses of two ingredients and of the model half-way between them."""

    first: str
    second: str
    losses: tuple[float, float]
    midpoint: float

    @property
    def barrier(self) -> float:
        """How far the midpoint's loss lies above the mean of the two."""
        return self.midpoint - (self.losses[0] + self.losses[1]) / 2


def basin_findings(midpoints: Sequence[MidpointLoss]) -> list[Finding]:
    """Pairs with a hill between them; named are the ingredients that stand behind most of these hills.

    Example:
        >>> hill, valley = MidpointLoss("a", "c", (0.5, 0.6), 2.0), MidpointLoss("a", "b", (0.5, 0.5), 0.4)
        >>> other = MidpointLoss("b", "c", (0.5, 0.6), 1.9)
        >>> basin_findings([hill, valley, other])[0].ingredients
        ('c',)
    """
    hills = [one for one in midpoints if one.barrier > BARRIER_NATS]
    if not hills:
        return []
    offenders: list[str] = []
    left = hills
    while left:  # whoever is behind most of the hills that are left explains them
        counts = Counter(name for one in left for name in (one.first, one.second))
        loss = {n: v for one in midpoints for n, v in zip((one.first, one.second), one.losses, strict=True)}
        offender = max(counts, key=lambda name: (counts[name], loss[name]))
        offenders.append(offender)
        left = [one for one in left if offender not in (one.first, one.second)]
    return [
        Finding(
            "basin",
            "fault",
            f"between {', '.join(offenders)} and the others the loss rises",
            tuple(
                f"{one.first} and {one.second}: {one.losses[0]:.3f}, {one.losses[1]:.3f}, half-way {one.midpoint:.3f}"
                for one in sorted(hills, key=lambda one: -one.barrier)[:8]
            ),
            "their learning rates left the basin that the others share: leave them out, or let greedy do so",
            tuple(offenders),
        )
    ]


def unequal_findings(scores: Mapping[str, Score]) -> list[Finding]:
    """Individuals so far behind the best that a uniform soup carries them.

    Example:
        >>> good, bad = Score(0.9, 0.01, 900), Score(0.4, 0.01, 900)
        >>> unequal_findings({"a": good, "b": bad})[0].ingredients
        ('b',)
    """
    if len(scores) < 2:
        return []
    best = max(scores.values(), key=lambda score: score.utility)
    errors = [score.stderr for score in scores.values() if score.stderr]
    limit = max(BEHIND_STDERRS * (statistics.median(errors) if errors else 0.0), BEHIND_SHARE * abs(best.value))
    behind = {name: score for name, score in scores.items() if best.utility - score.utility > limit}
    if not behind:
        return []
    return [
        Finding(
            "unequal",
            "caution",
            "the individuals are too unequal for a uniform soup",
            tuple(f"{name}: {score.value:.4f}, the best has {best.value:.4f}" for name, score in behind.items()),
            "use greedy, which leaves out what does not help",
            tuple(behind),
        )
    ]


def resolution_findings(scores: Mapping[str, Score]) -> list[Finding]:
    """A held-out split too small to tell gains of a usual size from chance.

    Example:
        >>> resolution_findings({"a": Score(0.8, 0.04, 100)})[0].kind
        'held_out_too_small'
    """
    errors = [_stderr(score) for score in scores.values() if score.stderr is not None]
    n = max((score.n_examples or 0 for score in scores.values()), default=0)
    if errors and 2 * statistics.median(errors) <= COARSE_RESOLUTION:
        return []
    if not errors and n > 1:
        return []
    known = f"two standard errors are {2 * statistics.median(errors):.3f}" if errors else "it has no standard error"
    return [
        Finding(
            "held_out_too_small",
            "caution",
            f"{n:,} held-out examples cannot tell gains of a usual size from chance",
            (f"{known}; soups usually gain 0.005 to 0.02 in accuracy",),
            "use more held-out examples, or --significance, and compare on test",
        )
    ]


def saturation_findings(scores: Mapping[str, Score]) -> list[Finding]:
    """A held-out split on which the best model leaves nothing to gain.

    Of shares (accuracy, top-5) too few errors are left for any test to believe that a soup mends them; of other known
    metrics the best possible value is reached.

    Example:
        >>> saturation_findings({"a": Score(1.0, 0.0, 200, metric="accuracy")})[0].kind
        'saturated'
        >>> saturation_findings({"a": Score(0.95, 0.015, 200, metric="accuracy")})
        []
    """
    name, best = max(scores.items(), key=lambda item: item[1].utility)
    metric, n = METRICS.get(best.metric), best.n_examples or 0
    if metric is None or math.isnan(best.value):
        return []
    left = abs((1.0 if best.higher_is_better else 0.0) - best.value)
    if metric.is_share and n:
        errors = round(left * n)
        is_saturated = errors < LEAST_ERRORS and left <= SOLVED
        said = f"{errors:,} of {n:,} examples wrong; a paired test believes in no fewer than {LEAST_ERRORS} that change"
    else:
        is_saturated, said = left == 0, f"{best.value:g}, the best there is"
    if not is_saturated:
        return []
    return [
        Finding(
            "saturated",
            "caution",
            "the held-out set is solved: no soup can be seen to gain on it",
            (f"{name}: {best.metric} {best.value:.4f}, {said}",),
            "use harder or more held-out examples, or a metric that still moves (nll), and compare on shifts",
        )
    ]


def _stderr(score: Score) -> float:
    """The standard error; of a score without any spread half of what the rule of three leaves open, 3 / n."""
    return score.stderr or (1.5 / score.n_examples if score.n_examples else 0.0)


def overlap_findings(held_out: Iterable[tuple[str, ...]], test: Iterable[tuple[str, ...]]) -> list[Finding]:
    """Examples that are in both splits.

    Example:
        >>> overlap_findings([("x",), ("y",)], [("y",)])[0].evidence
        ("1 of 1 test texts are held-out texts: 'y'",)
    """
    seen, tested = set(held_out), list(test)
    shared = [texts for texts in tested if texts in seen]
    if not shared:
        return []
    shown = " | ".join(text if len(text) <= 40 else f"{text[:37]}..." for text in shared[0])
    return [
        Finding(
            "overlap",
            "fault",
            "held-out and test share examples, so the test score is not one",
            (f"{len(shared)} of {len(tested)} test texts are held-out texts: {shown!r}",),
            "remove them from one of the two",
        )
    ]
