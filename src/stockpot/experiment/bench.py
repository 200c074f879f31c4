"""Where soups are measured: predictions through the journal, scores and paired differences from predictions alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from stockpot.ensembles import combine_logits, ensemble_evaluate
from stockpot.journal import Journal, identity_of_callable, remember, remember_predictions
from stockpot.metrics import (
    METRICS,
    compare_paired,
    mcnemar_exact,
    paired_difference,
    per_example,
    score_over_splits,
    shift_mean,
)
from stockpot.recipes import single
from stockpot.records import Cell, Comparison
from stockpot.tasks import Task
from stockpot.types import Evaluate, Incumbent, Predictions, Score, Soup, as_evaluate

__all__ = ["Bench", "CallableBench", "TaskBench", "experiment_cells"]

Values = np.ndarray[Any, Any]
SHIFT_MEAN = "shift_mean"


class Bench(Protocol):
    """What selection and the table need to know about soups."""

    metric: str
    higher_is_better: bool
    evaluate: Evaluate
    evaluate_ensemble: Evaluate | None

    def cells(self, soups: Sequence[Soup]) -> dict[str, Cell]:
        """One cell per split: of one soup, or the mean over several."""

    def comparisons(self, method: str, soup: Soup, against_method: str, against: Soup) -> list[Comparison]:
        """Paired differences on every split but the held-out one."""


class TaskBench:
    """Measures soups with a task; every prediction is made once and kept.

    Args:
        task: predicts.
        journal: keeps.
    """

    def __init__(self, task: Task, journal: Journal) -> None:
        self.task = task
        self.metric = task.metric
        self.higher_is_better = METRICS[task.metric].higher_is_better
        self._predict = remember_predictions(task.predict, journal, task.identity)
        self.evaluate: Evaluate = self._evaluate
        self.evaluate_ensemble: Evaluate | None = ensemble_evaluate(
            lambda soup: self.predictions(soup, "held_out"), METRICS[task.metric]
        )
        # Per-example values are small (8 bytes an example) and asked for again by every comparison.
        self._values = lru_cache(maxsize=None)(self._uncached_values)

    @property
    def shifts(self) -> tuple[str, ...]:
        """Names of the distribution shifts."""
        return tuple(split for split in self.task.splits if split.startswith("shift:"))

    def predictions(self, soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        """Logits and labels of a soup or an ensemble; an ensemble's come from its members' cached logits."""
        if soup.combine == "weights":
            return self._predict(soup, split, against=against)
        members = [self._predict(single(ingredient), split) for ingredient in soup.ingredients]
        return Predictions(combine_logits(soup, [member.logits for member in members]), members[0].labels)

    def cells(self, soups: Sequence[Soup]) -> dict[str, Cell]:
        """One cell per split: of one soup, or the mean over several (standard error of the mean over examples)."""
        cells = {split: self._cell(soups, [split]) for split in self.task.splits}
        if self.shifts:
            cells[SHIFT_MEAN] = self._cell(soups, self.shifts)
        return cells

    def comparisons(self, method: str, soup: Soup, against_method: str, against: Soup) -> list[Comparison]:
        """Paired differences on test, each shift and their mean; McNemar's exact test for accuracy on one split."""
        groups: dict[str, tuple[str, ...]] = {split: (split,) for split in self.task.splits if split != "held_out"}
        if self.shifts:
            groups[SHIFT_MEAN] = self.shifts
        return [
            self._comparison(name, splits, (method, soup), (against_method, against)) for name, splits in groups.items()
        ]

    def _evaluate(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        return self.task.score(self.predictions(soup, "held_out", against=against))

    def _cell(self, soups: Sequence[Soup], splits: Sequence[str]) -> Cell:
        if len(soups) == 1 and len(splits) == 1:
            return Cell.of(self.task.score(self.predictions(soups[0], splits[0])))
        if METRICS[self.metric].per_example is None:
            return self._resampled_cell(soups, splits)
        values = [np.mean([self._values(soup, split) for soup in soups], axis=0) for split in splits]
        score = shift_mean(values, self._items(splits), metric=self.metric, higher_is_better=self.higher_is_better)
        return Cell.of(score)

    def _resampled_cell(self, soups: Sequence[Soup], splits: Sequence[str]) -> Cell:
        """For metrics that are no means over examples: each soup counts like a split about the same items."""
        predictions = [self.predictions(soup, split) for soup in soups for split in splits]
        score = score_over_splits(self.metric, predictions, self._items(splits) * len(soups))
        return Cell(score.value, score.stderr, sum(len(items) for items in self._items(splits)))

    def _comparison(
        self, name: str, splits: Sequence[str], ours: tuple[str, Soup], theirs: tuple[str, Soup]
    ) -> Comparison:
        if METRICS[self.metric].per_example is None:
            found = compare_paired(
                self.metric,
                [self.predictions(ours[1], split) for split in splits],
                [self.predictions(theirs[1], split) for split in splits],
                self._items(splits),
            )
            return Comparison(ours[0], theirs[0], name, found.difference, found.stderr, found.n_examples, found.p)
        a, b = ([self._values(soup, split) for split in splits] for _, soup in (ours, theirs))
        difference = paired_difference(a, b, self._items(splits))
        p = difference.p_value
        if self.metric == "accuracy" and len(splits) == 1:
            p = mcnemar_exact(a[0], b[0])
        return Comparison(ours[0], theirs[0], name, difference.value, difference.stderr, difference.n_examples, p)

    def _items(self, splits: Sequence[str]) -> list[tuple[str, ...]]:
        return [self.task.item_ids(split) for split in splits]

    def _uncached_values(self, soup: Soup, split: str) -> Values:
        predictions = self.predictions(soup, split)
        return per_example(self.metric)(predictions.logits, predictions.labels)


class CallableBench:
    """Measures soups with a user's function: the held-out score is all there is.

    Args:
        function: soup -> float | Score.
        journal: keeps its scores if the function has a source file.
        name: `module:function`.
    """

    evaluate_ensemble: Evaluate | None = None

    def __init__(self, function: Callable[..., float | Score], journal: Journal, *, name: str) -> None:
        self.metric = "score"
        self.higher_is_better = True
        self._remembered = remember(as_evaluate(function), journal, identity_of_callable(function, name))
        self.evaluate: Evaluate = self._evaluate

    def cells(self, soups: Sequence[Soup]) -> dict[str, Cell]:
        """The held-out cell."""
        scores = [self._evaluate(soup) for soup in soups]
        if len(scores) == 1:
            return {"held_out": Cell.of(scores[0])}
        return {"held_out": Cell(math.fsum(score.value for score in scores) / len(scores), None, scores[0].n_examples)}

    def comparisons(self, method: str, soup: Soup, against_method: str, against: Soup) -> list[Comparison]:
        """None: a function that returns one number leaves nothing to pair."""
        del method, soup, against_method, against
        return []

    def _evaluate(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        score = self._remembered(soup, against=against)
        self.metric, self.higher_is_better = score.metric, score.higher_is_better
        return score


def experiment_cells(cells: Mapping[str, Cell], *, sd: Mapping[str, float], n_orders: int) -> dict[str, Cell]:
    """The cells of a mean over orders, with its standard deviation."""
    return {
        split: Cell(cell.value, cell.stderr, cell.n, sd=sd[split], n_orders=n_orders) for split, cell in cells.items()
    }
