"""Where soups are measured: predictions through the journal, scores and paired differences from predictions alone."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stockpot.config import LearnedConfig
from stockpot.ensembles import combine_logits, ensemble_evaluate
from stockpot.errors import ConfigError, EvaluationError
from stockpot.experiment.calibrating import calibration_cells, mean_temperature, optimism_of
from stockpot.journal import (
    Journal,
    RememberedGradient,
    identity_of_callable,
    known_predictions,
    remember,
    remember_predictions,
    soup_key,
)
from stockpot.metrics import (
    METRICS,
    PairedTest,
    compare_paired,
    compare_values,
    per_example,
    score_over_splits,
    shift_mean,
)
from stockpot.recipes import Forecast, Granularity, OpenGradient, single
from stockpot.records import Cell, Comparison, SelectionOptimism
from stockpot.tasks import Task
from stockpot.tasks.gradients import GradientOptions
from stockpot.types import Evaluate, Gradient, Incumbent, Ingredient, PairedGain, Predictions, Score, Soup, as_evaluate

__all__ = ["Bench", "CallableBench", "TaskBench", "experiment_cells"]

Values = np.ndarray[Any, Any]
SHIFT_MEAN = "shift_mean"


class Bench(Protocol):
    """What selection and the table need to know about soups."""

    metric: str
    higher_is_better: bool
    evaluate: Evaluate
    evaluate_ensemble: Evaluate | None
    has_logit_scale: bool

    @property
    def forecast(self) -> Forecast | None:
        """What a soup's held-out utility is expected to be, from cached logits; None where there are none."""

    def open_gradient(self, ingredients: Sequence[Ingredient], learned: LearnedConfig) -> OpenGradient | None:
        """What learned soups are learned by; None where there are no gradients."""

    def folded(self, soup: Soup) -> Soup:
        """The soup with its logit scale in the classifier head."""

    def cells(self, soups: Sequence[Soup]) -> dict[str, Cell]:
        """One cell per split: of one soup, or the mean over several."""

    def comparisons(self, method: str, soup: Soup, against_method: str, against: Soup) -> list[Comparison]:
        """Paired differences on every split but the held-out one."""

    def calibration(self, soups: Sequence[Soup]) -> tuple[dict[str, dict[str, Cell]], float] | None:
        """Other metrics by name and column, and the temperature; None where there are no predictions."""

    def optimism(self, method: str, tried: Sequence[Soup]) -> SelectionOptimism | None:
        """How optimistic the best held-out score among some soups is; None where there are no predictions."""


class TaskBench:
    """Measures soups with a task; every prediction is made once and kept.

    Args:
        task: predicts.
        journal: keeps.
    """

    def __init__(self, task: Task, journal: Journal) -> None:
        self.task = task
        self._journal = journal
        self.metric = task.metric
        self.higher_is_better = METRICS[task.metric].higher_is_better
        self._predict = remember_predictions(
            self._predict_or_give_up, journal, task.identity, n_examples=lambda split: len(task.item_ids(split))
        )
        #: Held-out examples of candidates that were evaluated, and how many there were.
        self.n_examples_evaluated = self.n_examples_asked = 0
        self.evaluate: Evaluate = self._evaluate
        #: Log-likelihoods are after the softmax: neither a multiple nor a mean of them is that of a model.
        self.has_logit_scale = METRICS[task.metric].kind != "likelihoods"
        self._score_ensemble = ensemble_evaluate(lambda soup: self.predictions(soup, "held_out"), METRICS[task.metric])
        self.evaluate_ensemble: Evaluate | None = self._evaluate_ensemble if self.has_logit_scale else None
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
        if not self.has_logit_scale:
            raise ConfigError("likelihoods of texts have no ensemble", fix="ask for soups, or score multiple-choice")
        members = [self._predict(single(ingredient), split) for ingredient in soup.ingredients]
        return Predictions(combine_logits(soup, [member.logits for member in members]), members[0].labels)

    def cells(self, soups: Sequence[Soup]) -> dict[str, Cell]:
        """One cell per split: of one soup, or the mean over several (standard error of the mean over examples)."""
        return {column: self._cell(soups, splits) for column, splits in self._columns().items()}

    def comparisons(self, method: str, soup: Soup, against_method: str, against: Soup) -> list[Comparison]:
        """Paired differences on test, each shift and their mean; McNemar's exact test for accuracy on one split."""
        return [
            self._comparison(name, splits, (method, soup), (against_method, against))
            for name, splits in self._columns().items()
            if name != "held_out"
        ]

    def calibration(self, soups: Sequence[Soup]) -> tuple[dict[str, dict[str, Cell]], float] | None:
        """ECE, NLL and Brier score by column, before and after temperature scaling, and the temperature.

        None for numbers and likelihoods, which are no logits.
        """
        if METRICS[self.metric].kind != "classes":
            return None
        items = {split: self.task.item_ids(split) for split in self.task.splits}
        cells = calibration_cells(soups, self.predictions, self._columns(), items)
        return cells, mean_temperature(soups, self.predictions)

    def optimism(self, method: str, tried: Sequence[Soup]) -> SelectionOptimism | None:
        """How optimistic the best held-out score among some soups is; None for a metric that is no mean."""
        if METRICS[self.metric].per_example is None or self.n_held_out < 2:
            return None
        return optimism_of(
            method, tried, lambda soup: self._values(soup, "held_out"), higher_is_better=self.higher_is_better
        )

    @property
    def recalibrates(self) -> bool:
        """Whether running statistics are made anew for every model."""
        return self.task.recalibrates

    def without_recalibration(self, task: Task) -> TaskBench:
        """The same with a task that leaves running statistics as they come; predictions are kept beside the others."""
        return TaskBench(task, self._journal)

    def running_statistics(self, soup: Soup) -> Mapping[str, Values]:
        """What the written soup gets instead of averaged running statistics."""
        return self.task.running_statistics(soup)

    @property
    def n_held_out(self) -> int:
        """Number of held-out examples."""
        return len(self.task.item_ids("held_out"))

    def _columns(self) -> dict[str, tuple[str, ...]]:
        """Column -> the splits that it is the mean of."""
        columns: dict[str, tuple[str, ...]] = {split: (split,) for split in self.task.splits}
        return {**columns, SHIFT_MEAN: self.shifts} if self.shifts else columns

    def open_gradient(self, ingredients: Sequence[Ingredient], learned: LearnedConfig) -> OpenGradient:
        """Gradients of the held-out loss; every step is kept in the journal."""

        @contextmanager
        def opened(granularity: Granularity) -> Iterator[Gradient]:
            options = GradientOptions(
                granularity,
                batch_size=learned.batch_size,
                stopping_fraction=learned.stopping_fraction,
                seed=learned.seed,
                rows_sum_to_one=learned.parametrisation != "free",
            )
            identity = f"{self.task.identity('held_out')} {options}"
            with self.task.gradient(ingredients, options) as gradient:
                yield RememberedGradient(gradient, tuple(ingredients), self._journal, identity)

        return opened

    def folded(self, soup: Soup) -> Soup:
        """The soup with its logit scale in the classifier head."""
        return self.task.folded(soup)

    def paired(self, soup: Soup, against: Soup, splits: Sequence[str]) -> PairedTest:
        """How a soup differs from another on the same examples of some splits."""
        if METRICS[self.metric].per_example is not None:
            a, b = ([self._values(one, split) for split in splits] for one in (soup, against))
            return compare_values(self.metric, a, b, self._items(splits))
        ours, theirs = ([self.predictions(one, split) for split in splits] for one in (soup, against))
        return compare_paired(self.metric, ours, theirs, self._items(splits))

    def _evaluate(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        predictions = self.predictions(soup, "held_out", against=against)
        n = self.n_held_out
        if against is not None:
            self.n_examples_evaluated += len(predictions.labels)
            self.n_examples_asked += n
        if len(predictions.labels) < n:
            return self._given_up(predictions, n)
        return self._compared(self.task.score(predictions), soup, against)

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of the held-out split and of the candidates' evaluations there."""
        return (*self._notes_of_labels(), *self.remarks, *self._notes_of_candidates())

    @property
    def table_notes(self) -> tuple[str, ...]:
        """What a table has to say beside its numbers: of all splits, and of how soups were chosen."""
        return (*self.task.split_notes, *self.notes)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a soup's record has to say of how it was measured and will be written."""
        return self.task.recalibration_notes

    def _notes_of_labels(self) -> tuple[str, ...]:
        if not self.has_logit_scale or len(set(self.task.labels("held_out").tolist())) > 1:
            return ()
        return (
            "All held-out examples have the same label: a model that always gives it could not be told from a good "
            "one, so nothing was chosen by ability.",
        )

    def _notes_of_candidates(self) -> tuple[str, ...]:
        """How much of the held-out split the candidates of the recipes have needed; why all, where it was all."""
        if not METRICS[self.metric].is_share and self.n_examples_asked:
            return (
                f"Every candidate was evaluated on all held-out examples: {self.metric} does not count right answers, "
                "so nothing settles it early.",
            )
        if self.n_examples_evaluated == self.n_examples_asked:
            return ()
        share = 100 * self.n_examples_evaluated / self.n_examples_asked
        return (
            "Candidates were given up as soon as they could not be accepted any more: "
            f"{self.n_examples_evaluated:,} of {self.n_examples_asked:,} evaluations of a held-out example "
            f"({share:.0f} %) decided as all would have.",
        )

    def _predict_or_give_up(self, soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        """Whole predictions, or fewer where the soup provably cannot replace the incumbent."""
        if split != "held_out":
            return self.task.predict(soup, split, against=against)
        known = known_predictions(self._journal, soup, self.task.identity(split))
        if known is not None and not self.task.is_order_invariant:
            known = None
        if against is not None and self._may_give_up(against) and (guesses := self._guesses(soup, against.soup)):
            return self.task.race(soup, split, guesses, against=against, known=known)
        if known is not None:
            return self.task.complete(soup, split, known)
        return self.task.predict(soup, split, against=against)

    @property
    def forecast(self) -> Forecast:
        """The metric of the averaged logits of the incumbent and the newest ingredient, where both are cached."""

        @lru_cache(maxsize=1)  # the incumbent is the same for all candidates of a step
        def known_of(incumbent: Soup) -> Predictions | None:
            return self._cached(incumbent)

        def expected(soup: Soup, incumbent: Incumbent) -> float | None:
            known, newest = known_of(incumbent.soup), self._cached(single(soup.ingredients[-1]))
            if known is None or newest is None:
                return None
            n = len(soup.ingredients) - 1
            mean = (n * known.logits.astype(np.float64) + newest.logits) / (n + 1)
            return METRICS[self.metric](mean, known.labels).utility

        return expected

    def _guesses(self, soup: Soup, incumbent: Soup) -> tuple[Values, Values] | None:
        """Two guesses at a soup's held-out logits; None where the incumbent's are not cached.

        The first adds to the incumbent's what the newest ingredient's own do to their mean; the second is the mean of
        the ingredients' own.
        """
        theirs = self._cached_logits(incumbent)
        if theirs is None:
            return None
        own, incumbents_own = self._mean_logits(soup), self._mean_logits(incumbent)
        if own is None or incumbents_own is None:
            return theirs, theirs
        n = len(incumbent.ingredients)
        # What mixing weights does beyond mixing logits is shared by soups that differ little; of an ingredient more,
        # n parts in n + 1 are left.
        kept = n / (n + 1) if soup.ingredients[:-1] == incumbent.ingredients else 1.0
        return own + kept * (theirs - incumbents_own), own

    def _mean_logits(self, soup: Soup) -> Values | None:
        """The mixture of the ingredients' own cached logits; None where one is missing."""
        if soup.coefficients.groups is not None:
            return None
        mean: Values | None = None
        for ingredient, coefficient in zip(soup.ingredients, soup.coefficients, strict=True):
            logits = self._cached_logits(single(ingredient))
            if logits is None:
                return None
            term = coefficient * logits.astype(np.float64)
            mean = term if mean is None else mean + term
        return mean

    def _may_give_up(self, against: Incumbent) -> bool:
        """Whether right or wrong by example is all that acceptance is about, and rows may be reordered."""
        return METRICS[self.metric].is_share and against.significance is None and self.task.is_order_invariant

    def knows(self, ingredient: Ingredient) -> bool:
        """Whether a single model's predictions on the held-out split are kept."""
        return self._cached(single(ingredient)) is not None

    def _cached_logits(self, soup: Soup) -> Values | None:
        kept = self._cached(soup)
        return None if kept is None else kept.logits

    def _cached(self, soup: Soup) -> Predictions | None:
        kept = self._journal.predictions(soup_key(soup, self.task.identity("held_out")))
        return None if kept is None else Predictions(kept["logits"], kept["labels"])

    def _given_up(self, predictions: Predictions, n: int) -> Score:
        right = per_example(self.metric)(predictions.logits, predictions.labels)
        n_wrong = len(right) - int(right.sum())
        return Score(math.nan, None, n, len(right), (n - n_wrong) / n, self.metric, self.higher_is_better)

    def _evaluate_ensemble(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        return self._compared(self._score_ensemble(soup, against=against), soup, against)

    def _compared(self, score: Score, soup: Soup, against: Incumbent | None) -> Score:
        if against is None:
            return score
        found = self.paired(soup, against.soup, ["held_out"])
        return replace(score, paired=PairedGain(found.difference, found.stderr, found.p, found.n_changed))

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
        found = self.paired(ours[1], theirs[1], splits)
        return Comparison(
            ours[0],
            theirs[0],
            name,
            found.difference,
            found.stderr,
            found.n_examples,
            found.p,
            found.n_changed,
            found.test,
        )

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
    has_logit_scale = True
    notes: tuple[str, ...] = ()
    forecast: Forecast | None = None

    def __init__(self, function: Callable[..., float | Score], journal: Journal, *, name: str) -> None:
        self.metric = "score"
        self.higher_is_better = True
        self._first: tuple[str, bool] | None = None
        self._remembered = remember(_staying(as_evaluate(function)), journal, identity_of_callable(function, name))
        self.evaluate: Evaluate = self._evaluate

    @property
    def table_notes(self) -> tuple[str, ...]:
        """What a table has to say beside its numbers."""
        return self.notes

    def open_gradient(self, ingredients: Sequence[Ingredient], learned: LearnedConfig) -> None:
        """None: a function that returns one number has no gradients."""
        del ingredients, learned

    def folded(self, soup: Soup) -> Soup:
        """The soup itself: nothing is known of its head."""
        return soup

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

    def calibration(self, soups: Sequence[Soup]) -> None:
        """None: there are no probabilities."""
        del soups

    def running_statistics(self, soup: Soup) -> Mapping[str, Values]:
        """None: nothing is known of its training data."""
        del soup
        return {}

    def optimism(self, method: str, tried: Sequence[Soup]) -> None:
        """None: there are no values by example."""
        del method, tried

    def _evaluate(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        score = self._remembered(soup, against=against)
        found = (score.metric, score.higher_is_better)
        if self._first is None:
            self._first = found
            self.metric, self.higher_is_better = found
        if found != self._first:
            raise EvaluationError(
                f"evaluate gave {_described(*found)} after {_described(*self._first)}: such scores do not compare",
                fix="return the same metric and direction for every soup",
            )
        return score


def _described(metric: str, higher_is_better: bool) -> str:
    return f"{metric!r}, {'higher' if higher_is_better else 'lower'} is better,"


def _staying(evaluate: Evaluate) -> Evaluate:
    """Keeps the working folder, whatever a user's function does: relative sources are read again later."""

    def stay(soup: Soup, *, against: Incumbent | None = None) -> Score:
        here = Path.cwd()
        try:
            return evaluate(soup, against=against)
        finally:
            os.chdir(here)

    return stay


def experiment_cells(cells: Mapping[str, Cell], *, sd: Mapping[str, float], n_orders: int) -> dict[str, Cell]:
    """The cells of a mean over orders, with its standard deviation."""
    return {
        split: Cell(cell.value, cell.stderr, cell.n, sd=sd[split], n_orders=n_orders) for split, cell in cells.items()
    }
