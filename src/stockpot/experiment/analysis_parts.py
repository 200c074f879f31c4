"""The parts of an analysis that need predictions: plane, line, pairs, number of models, calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stockpot.analysis.count import model_counts
from stockpot.analysis.geometry import angle_degrees, whole_gram
from stockpot.analysis.line import barrier
from stockpot.analysis.pairs import angle_correlations, chosen_pairs
from stockpot.analysis.plane import coarse_to_fine, grid_of, plane_basis
from stockpot.analysis.soup_vs_ensemble import approximate_difference, measured_difference
from stockpot.assembly import inner_products
from stockpot.experiment.bench import TaskBench
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.metrics import METRICS, fit_temperature, loss_by_example, reliability, scaled
from stockpot.recipes import best, ensemble, greedy, single, uniform
from stockpot.records import (
    CountCurve,
    Line,
    Measured,
    Pair,
    Plane,
    PlanePoint,
    Reliability,
    SoupVersusEnsemble,
)
from stockpot.types import Coefficients, Ingredient, InnerProducts, Predictions, Score, Soup

__all__ = ["AnalysisOptions", "Scene", "measured_parts", "parts_notes", "unfit_parts"]

_STEP = 0.1  # of the second derivative along the line between two models


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """How much is looked at.

    Args:
        parts: of `stockpot.config.ANALYSIS_PARTS`; empty: all that are possible.
        grid: points a side of the plane, >= 3.
        line_points: of the segment, >= 3.
        most_pairs: pairs looked at; of more, so many are drawn.
        orders: random orders of "count".
        splits: where the plane is measured; empty: held-out and test.
        seed: of drawn pairs, orders and intervals.
        between: models of line and plane: names of ingredients, "initialisation", or paths of checkpoints such as
            written soups. Two: the line between them, and the plane through them and the initialisation. Three: the
            plane through them, and the line between the first two. None: the plane goes through the initialisation
            and the two best ingredients, the line from the initialisation to the uniform soup.
    """

    parts: tuple[str, ...] = ()
    grid: int = 9
    line_points: int = 11
    most_pairs: int = 15
    orders: int = 3
    splits: tuple[str, ...] = ()
    seed: int = 0
    between: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """What is looked at, and by whom.

    Args:
        bench: measures.
        ingredients: k, with digests.
        start: the initialisation, with its digest; None where it is unknown or cannot be mixed with them.
        products: [groups, k, k] inner products around the start, or around the mean.
        options: how much.
        report: hears what happens.
        between: the models of line and plane that were named; none: those that the task prefers.
    """

    bench: TaskBench
    ingredients: tuple[Ingredient, ...]
    start: Ingredient | None
    products: InnerProducts
    options: AnalysisOptions
    report: OnProgress
    between: tuple[Ingredient, ...] = ()

    @property
    def gram(self) -> np.ndarray[Any, Any]:
        """[k, k] around the start, or the mean."""
        return whole_gram(self.products)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Splits that nothing is chosen on; held-out where there are none."""
        return tuple(split for split in self.bench.task.splits if split != "held_out") or ("held_out",)

    def score(self, soup: Soup, split: str) -> float:
        """In the task's metric."""
        return self.bench.task.score(self.bench.predictions(soup, split)).value

    def say(self, line: str, done: int = 0, total: int = 0) -> None:
        """Tells whoever watches."""
        self.report(Progress("measure", line, done, total))


def unfit_parts(bench: TaskBench) -> dict[str, str]:
    """The parts that mean nothing for a task's predictions, and why."""
    found = {}
    if METRICS[bench.metric].kind != "classes":
        found = dict.fromkeys(("soup_vs_ensemble", "reliability"), "is about classes")
    if bench.evaluate_ensemble is None:
        found["pairs"] = "compares with ensembles, and likelihoods of texts have none"
    if _votes(bench):
        found |= dict.fromkeys(("soup_vs_ensemble", "reliability"), "needs likelihoods, and generation gives votes")
    return found


def parts_notes(bench: TaskBench, parts: Sequence[str]) -> list[str]:
    """What is to be said of these parts: those left out, and losses that say little."""
    notes = [f"{part} is left out: it {reason}" for part, reason in unfit_parts(bench).items() if part in parts]
    if _votes(bench) and {"plane", "line"} & set(parts):
        notes.append("losses of plane and line are those of votes, 1 for the answer and 0 for the rest: look at scores")
    return notes


def _votes(bench: TaskBench) -> bool:
    return getattr(getattr(bench.task, "config", None), "scoring", None) == "generation"


def measured_parts(scene: Scene, parts: Sequence[str]) -> dict[str, Any]:
    """What each of these parts finds, by its key in analysis.json; "geometry" measures nothing and is not made here."""
    unfit = unfit_parts(scene.bench)
    made = [part for part in parts if part in _MAKERS and part not in unfit]
    return {key: value for part in made for key, value in _MAKERS[part](scene).items()}


def _measured(scene: Scene, soup: Soup, split: str) -> Measured:
    predictions = scene.bench.predictions(soup, split)
    values = loss_by_example(scene.bench.metric)(predictions.logits, predictions.labels)
    return Measured(math.fsum(values) / len(values), scene.bench.task.score(predictions).value)


def _mixed(ingredients: Sequence[Ingredient], shares: Sequence[float], recipe: str = "weighted") -> Soup:
    """A soup of those that count; one that counts for 1 is that model itself, so that its predictions are found."""
    used = [(one, share) for one, share in zip(ingredients, shares, strict=True) if share != 0.0]
    if len(used) == 1 and used[0][1] == 1.0:
        return single(used[0][0])
    if len({share for _, share in used}) == 1 and math.isclose(used[0][1] * len(used), 1.0):
        return uniform([one for one, _ in used])
    return Soup(tuple(one for one, _ in used), Coefficients.of([share for _, share in used]), recipe)


def _two_best(scene: Scene) -> tuple[int, int]:
    """Positions of the two ingredients with the best held-out scores."""
    utilities = [scene.bench.evaluate(single(one)).utility for one in scene.ingredients]
    first, *others = sorted(range(len(utilities)), key=lambda i: -utilities[i])
    same = scene.ingredients[first].digest
    # The same file twice is one model: no line goes through it, and no plane.
    return first, next((i for i in others if scene.ingredients[i].digest != same), others[0])


def _corners(scene: Scene) -> tuple[tuple[Ingredient, Ingredient, Ingredient], np.ndarray[Any, Any]]:
    """The plane's models, the origin first, and inner products around it: of the other two, then of all ingredients."""
    if scene.between:
        start = [] if scene.start is None or len(scene.between) == 3 else [scene.start]
        origin, first, second = *start, *scene.between  # as many as that: checked before
        return (origin, first, second), whole_gram(inner_products((first, second, *scene.ingredients), origin))
    assert scene.start is not None  # checked before
    i, j = _two_best(scene)
    at = [i, j, *range(len(scene.ingredients))]
    return (scene.start, scene.ingredients[i], scene.ingredients[j]), scene.gram[np.ix_(at, at)]


def _plane(scene: Scene) -> dict[str, Any]:
    corners, gram = _corners(scene)
    basis = plane_basis(gram[:2, :2])
    xs, ys = grid_of(basis, scene.options.grid)
    splits = scene.options.splits or tuple(s for s in ("held_out", "test") if s in scene.bench.task.splits)
    order = list(coarse_to_fine(scene.options.grid))
    scene.say(f"plane: {len(order)} points on {', '.join(splits)}: {len(order) * len(splits)} evaluations")
    points = []
    for done, (column, row) in enumerate(order, 1):
        x, y = float(xs[column]), float(ys[row])
        soup = _mixed(corners, basis.coefficients(x, y))
        points.append(PlanePoint(x, y, {split: _measured(scene, soup, split) for split in splits}))
        scene.say(f"plane point {done}", done, len(order))
    k, (one, two) = len(scene.ingredients), np.eye(len(gram))[:2]
    weights: dict[str, tuple[Soup, np.ndarray[Any, Any]]] = {
        corners[0].name: (single(corners[0]), 0 * one),
        corners[1].name: (single(corners[1]), one),
        corners[2].name: (single(corners[2]), two),
        "midpoint": (uniform(corners[1:]), (one + two) / 2),
        "uniform soup": (uniform(scene.ingredients), np.array([0, 0, *(1 / k,) * k])),
    }
    named = [
        PlanePoint(
            *basis.position(float(share @ gram[:, 0]), float(share @ gram[:, 1])),
            {split: _measured(scene, soup, split) for split in splits},
            name,
        )
        for name, (soup, share) in weights.items()
    ]
    names = (corners[0].name, corners[1].name, corners[2].name)
    return {"plane": Plane(names, tuple(points), tuple(named), scene.bench.metric)}


def _line(scene: Scene) -> dict[str, Any]:
    """Between two models that are named, else from the initialisation to the uniform soup: the WiSE-FT curve."""
    alphas = [index / (scene.options.line_points - 1) for index in range(scene.options.line_points)]
    k, splits = len(scene.ingredients), scene.bench.task.splits
    scene.say(f"line: {len(alphas)} points on {len(splits)} splits: {len(alphas) * len(splits)} evaluations")
    if scene.between:
        first, second = scene.between[:2]
        soups = [_mixed((first, second), (1.0 - a, a)) for a in alphas]
        ends = (first.name, second.name)
    else:
        assert scene.start is not None  # checked before
        soups = [_mixed([*scene.ingredients, scene.start], [*(a / k,) * k, 1.0 - a]) for a in alphas]
        ends = (scene.start.name, "uniform soup")
    measured = {split: tuple(_measured(scene, soup, split) for soup in soups) for split in splits}
    barriers = {split: barrier(alphas, [point.loss for point in points]) for split, points in measured.items()}
    return {"line": Line(ends, tuple(alphas), measured, barriers, scene.bench.metric)}


def _pairs(scene: Scene) -> dict[str, Any]:
    chosen = chosen_pairs(len(scene.ingredients), scene.options.most_pairs, seed=scene.options.seed)
    splits = scene.bench.task.splits
    scene.say(f"pairs: {len(chosen)} soups of two on {len(splits)} splits: {len(chosen) * len(splits)} evaluations")
    found = []
    for done, (i, j) in enumerate(chosen, 1):
        two = (scene.ingredients[i], scene.ingredients[j])
        norms = [math.sqrt(scene.gram[at, at]) for at in (i, j)]
        angle = angle_degrees(scene.gram[i, j] / norms[0] / norms[1]) if all(norms) else None
        one = {split: (scene.score(single(two[0]), split), scene.score(single(two[1]), split)) for split in splits}
        soups = {split: scene.score(uniform(two), split) for split in splits}
        logits = {split: scene.score(ensemble(two), split) for split in splits}
        found.append(Pair(two[0].name, two[1].name, angle, one, soups, logits))
        scene.say(f"pair {done}", done, len(chosen))
    up, seed = scene.bench.higher_is_better, scene.options.seed
    return {"pairs": tuple(found), "correlations": angle_correlations(found, splits, higher_is_better=up, seed=seed)}


def _count(scene: Scene) -> dict[str, Any]:
    """Methods against the number of ingredients: random orders, in each the first 1, 2, ..., k."""
    k, n_orders = len(scene.ingredients), scene.options.orders
    counts = model_counts(k)
    splits = scene.unseen
    most = n_orders * len(counts) * (2 * len(splits) + k)
    scene.say(f"count: {n_orders} orders of {k} ingredients, at most {most} evaluations")
    table: dict[str, dict[str, list[list[float]]]] = {}
    for order in range(n_orders):
        shuffled = np.random.default_rng([scene.options.seed, order]).permutation(k).tolist()
        for count in counts:
            members = [scene.ingredients[at] for at in sorted(shuffled[:count])]
            for method, soup in _cooked(scene, members).items():
                for split in splits:
                    value = scene.score(soup, split)
                    table.setdefault(method, {}).setdefault(split, [[] for _ in counts])[counts.index(count)].append(
                        value
                    )
        scene.say(f"order {order + 1}", order + 1, n_orders)
    return {"count": tuple(_curve(method, counts, by_split, n_orders) for method, by_split in table.items())}


def _cooked(scene: Scene, members: Sequence[Ingredient]) -> dict[str, Soup]:
    evaluate: Callable[..., Score] = scene.bench.evaluate
    cooked = {
        "best": best(members, evaluate) if len(members) > 1 else single(members[0]),
        "uniform": uniform(members),
        "greedy": greedy(members, evaluate),
    }
    return cooked if scene.bench.evaluate_ensemble is None else {**cooked, "ensemble": ensemble(members)}


def _curve(method: str, counts: Sequence[int], by_split: Mapping[str, list[list[float]]], n_orders: int) -> CountCurve:
    def spread(values: list[float]) -> float:
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    return CountCurve(
        method,
        tuple(counts),
        {split: tuple(math.fsum(values) / len(values) for values in lists) for split, lists in by_split.items()},
        {split: tuple(map(spread, lists)) for split, lists in by_split.items()},
        n_orders,
    )


def _versus(scene: Scene) -> dict[str, Any]:
    chosen = chosen_pairs(len(scene.ingredients), scene.options.most_pairs, seed=scene.options.seed)
    scene.say(f"soup against ensemble: {len(chosen)} pairs, {3 * len(chosen) * len(scene.unseen)} evaluations at most")
    found = []
    for i, j in chosen:
        two = (scene.ingredients[i], scene.ingredients[j])
        for split in scene.unseen:
            get: Callable[[Soup], Predictions] = partial(scene.bench.predictions, split=split)
            first, second = get(single(two[0])), get(single(two[1]))
            along = [get(_mixed(two, (1 - a, a))).logits for a in (0.5 - _STEP, 0.5, 0.5 + _STEP)]
            measured = measured_difference(along[1], get(ensemble(two)).logits, first.labels)
            guess = approximate_difference(
                first.logits, second.logits, (along[0], along[1], along[2]), first.labels, alpha=0.5, step=_STEP
            )
            found.append(SoupVersusEnsemble(two[0].name, two[1].name, 0.5, split, measured, guess))
    return {"soup_vs_ensemble": tuple(found)}


def _reliability(scene: Scene) -> dict[str, Any]:
    """Curves of the best single model, the uniform soup and the ensemble, before and after temperature scaling."""
    first, _ = _two_best(scene)
    methods = {
        "best": single(scene.ingredients[first]),
        "uniform": uniform(scene.ingredients),
        "ensemble": ensemble(scene.ingredients),
    }
    split = "test" if "test" in scene.bench.task.splits else scene.unseen[0]
    found = []
    for method, soup in methods.items():
        held_out, seen = scene.bench.predictions(soup, "held_out"), scene.bench.predictions(soup, split)
        for temperature in (1.0, fit_temperature(held_out.logits, held_out.labels)):
            bins = reliability(scaled(seen.logits, temperature), seen.labels)
            n = sum(one.n for one in bins)
            error = math.fsum(one.n * abs(one.accuracy - one.mean_confidence) for one in bins) / n
            found.append(
                Reliability(
                    method,
                    split,
                    temperature,
                    error,
                    tuple(one.mean_confidence for one in bins),
                    tuple(one.accuracy for one in bins),
                    tuple(one.n for one in bins),
                )
            )
    return {"reliability": tuple(found)}


_MAKERS: Mapping[str, Callable[[Scene], dict[str, Any]]] = {
    "plane": _plane,
    "line": _line,
    "pairs": _pairs,
    "count": _count,
    "soup_vs_ensemble": _versus,
    "reliability": _reliability,
}
