"""analysis.json: where the ingredients lie, and what the loss does between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpot.records._json import PathLike, Schema, parsed, read_json, record_file, write_json

__all__ = [
    "ANALYSIS_SCHEMA",
    "Analysis",
    "Correlation",
    "CountCurve",
    "Geometry",
    "Line",
    "Measured",
    "Pair",
    "Plane",
    "PlanePoint",
    "Reliability",
    "SoupVersusEnsemble",
    "read_analysis",
    "write_analysis",
]

#: Version of the schema of analysis.json. Optional keys do not raise it.
ANALYSIS_SCHEMA = 1
_FILE = "analysis.json"
_SCHEMA = Schema(ANALYSIS_SCHEMA)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Lengths, angles and distances of what fine-tuning has changed.

    Args:
        names: of the k ingredients.
        norms: [k] length of theta_i - theta_0.
        cosines: [k][k] between these directions; 0 where one has length 0.
        distances: [k][k] between the ingredients.
        groups: name of each tensor group.
        group_norms: [groups][k] lengths within each group.
        is_centred: whether theta_0 is the mean of the ingredients, because no initialisation was given.
    """

    names: tuple[str, ...]
    norms: tuple[float, ...]
    cosines: tuple[tuple[float, ...], ...]
    distances: tuple[tuple[float, ...], ...]
    groups: tuple[str, ...] = ()
    group_norms: tuple[tuple[float, ...], ...] = ()
    is_centred: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model does on one split: mean loss (nats; squared error for regression) and score in the metric."""

    loss: float
    score: float


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """A point of the plane: coordinates in the length of weights, and what was measured there by split."""

    x: float
    y: float
    measured: Mapping[str, Measured] = field(default_factory=dict, hash=False)
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Plane:
    """The two-dimensional slice through theta_0, theta_1 and theta_2.

    Args:
        corners: names of the three.
        points: of the grid, coarse before fine.
        named: where the three, the midpoint and given soups lie; soups out of the plane by their projection.
        metric: of the scores.
    """

    corners: tuple[str, str, str]
    points: tuple[PlanePoint, ...]
    named: tuple[PlanePoint, ...]
    metric: str


@dataclass(frozen=True, slots=True)
class Line:
    """The segment between two models.

    Args:
        ends: names of the first (alpha 0) and the second (alpha 1).
        alphas: shares of the second.
        measured: split -> one per alpha.
        barriers: split -> barrier height of the loss.
        metric: of the scores.
    """

    ends: tuple[str, str]
    alphas: tuple[float, ...]
    measured: Mapping[str, tuple[Measured, ...]] = field(hash=False)
    barriers: Mapping[str, float] = field(hash=False)
    metric: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ingredients, the soup of both and the ensemble of both.

    Args:
        first, second: names.
        angle: between their directions from the initialisation, in degrees; None where one has not moved.
        individuals: split -> scores of the two.
        soup, ensemble: split -> score.
    """

    first: str
    second: str
    angle: float | None
    individuals: Mapping[str, tuple[float, float]] = field(hash=False)
    soup: Mapping[str, float] = field(hash=False)
    ensemble: Mapping[str, float] = field(hash=False)

    def mean(self, split: str) -> float:
        """Mean score of the two."""
        return math.fsum(self.individuals[split]) / 2

    def better(self, split: str, *, higher_is_better: bool) -> float:
        """Score of the better of the two, on this very split."""
        return (max if higher_is_better else min)(self.individuals[split])


@dataclass(frozen=True, slots=True)
class Correlation:
    """A rank correlation over pairs with an interval that knows that pairs share ingredients.

    Args:
        of, split: what is correlated with the angle, and where.
        value: Spearman's; None where one side does not vary.
        low, high: 95 % bootstrap interval over ingredients; None with fewer than 4 ingredients.
        n_pairs: behind it.
    """

    of: str
    split: str
    value: float | None
    low: float | None
    high: float | None
    n_pairs: int


@dataclass(frozen=True, slots=True)
class CountCurve:
    """One method against the number of ingredients, means over random orders.

    Args:
        method: "best", "uniform", "greedy" or "ensemble".
        counts: numbers of ingredients.
        means, sds: split -> one per count, over the orders.
        n_orders: random orders.
    """

    method: str
    counts: tuple[int, ...]
    means: Mapping[str, tuple[float, ...]] = field(hash=False)
    sds: Mapping[str, tuple[float, ...]] = field(hash=False)
    n_orders: int


@dataclass(frozen=True, slots=True)
class SoupVersusEnsemble:
    """How much the loss of a soup of two exceeds that of their ensemble, beside the paper's approximation.

    Args:
        first, second: names.
        alpha: share of the second.
        split: where.
        measured, approximated: difference of the mean losses (nats).
    """

    first: str
    second: str
    alpha: float
    split: str
    measured: float
    approximated: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy of one method on one split.

    Args:
        method: name of the row.
        split: where.
        temperature: that the logits were divided by.
        ece: expected calibration error over the same bins.
        confidences, accuracies, counts: one per bin, by rising confidence.
    """

    method: str
    split: str
    temperature: float
    ece: float
    confidences: tuple[float, ...]
    accuracies: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What analysis.json says; parts that were not asked for are None.

    Args:
        metric, higher_is_better: of all scores; None without a task.
        ingredients: name -> digest.
        geometry, plane, line, pairs, correlations, count, soup_vs_ensemble, reliability: the parts.
        notes: what was left out, and why.
        asked: settings of the experiment that asked for it; None where a command did.
    """

    ingredients: Mapping[str, str | None] = field(hash=False)
    metric: str | None = None
    higher_is_better: bool = True
    geometry: Geometry | None = None
    plane: Plane | None = None
    line: Line | None = None
    pairs: tuple[Pair, ...] | None = None
    correlations: tuple[Correlation, ...] | None = None
    count: tuple[CountCurve, ...] | None = None
    soup_vs_ensemble: tuple[SoupVersusEnsemble, ...] | None = None
    reliability: tuple[Reliability, ...] | None = None
    notes: tuple[str, ...] = ()
    asked: Mapping[str, Any] | None = field(default=None, hash=False)


def write_analysis(analysis: Analysis, path: PathLike) -> None:
    """Writes analysis.json, whole or not at all, to a file or into a folder; equal values give equal bytes.

    Raises:
        RecordError: a value that JSON cannot hold.
        OutputError: the file cannot be written.
    """
    write_json(record_file(path, _FILE), analysis, _SCHEMA)


def read_analysis(path: PathLike) -> Analysis:
    """Reads and checks analysis.json; `path` is the file or its folder.

    Raises:
        RecordError: no such file, not JSON, an unknown schema, or wrong keys (all of them listed).
    """
    file = record_file(path, _FILE)
    return parsed(file, read_json(file, _SCHEMA), Analysis)
