"""Calibration of every method, and how optimistic its held-out score is: from cached predictions alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stockpot.metrics import fit_temperature, scaled, score_over_splits, split_half_optimism
from stockpot.recipes import add_share, single
from stockpot.records import Cell, SelectionOptimism
from stockpot.types import Predictions, Soup

__all__ = ["CALIBRATION_METRICS", "SCALED", "calibration_cells", "mean_temperature", "optimism_of", "tried_soups"]

#: What is reported of every method beside the task's own metric.
CALIBRATION_METRICS = ("ece", "nll", "brier")
#: Suffix of a metric of logits that were divided by the temperature.
SCALED = "_scaled"

Predict = Callable[[Soup, str], Predictions]


def mean_temperature(soups: Sequence[Soup], predict: Predict) -> float:
    """The temperature fitted on the held-out split; the geometric mean over several soups.

    Example:
        >>> from stockpot.types import Ingredient
        >>> overconfident = Predictions(np.float32([[4, 0], [4, 0], [4, 0], [0, 4]]), np.array([0, 0, 1, 1]))
        >>> round(mean_temperature([single(Ingredient("a", "a"))], lambda soup, split: overconfident), 3)
        3.641
    """
    logs = [math.log(fit_temperature(*_arrays(predict(soup, "held_out")))) for soup in soups]
    return math.exp(math.fsum(logs) / len(logs))


def calibration_cells(
    soups: Sequence[Soup], predict: Predict, groups: Mapping[str, Sequence[str]], items: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Cell]]:
    """ECE, NLL and Brier score on every column of the table, before and after temperature scaling.

    Each soup is scaled with its own temperature, fitted on the held-out split (Guo et al. 2017). A mean over soups is
    that of their scores; its standard error counts the soups as splits about the same items.

    Args:
        soups: one, or several that share a row.
        predict: (soup, split) -> logits and labels.
        groups: column -> the splits that it is the mean of.
        items: split -> which item each example is about.

    Returns:
        Metric -> column -> cell; with the suffix `_scaled` after scaling.
    """
    cells: dict[str, dict[str, Cell]] = {}
    temperatures = [fit_temperature(*_arrays(predict(soup, "held_out"))) for soup in soups]
    for column, splits in groups.items():
        plain = [predict(soup, split) for soup in soups for split in splits]
        own = [temperature for temperature in temperatures for _ in splits]
        cooled = [Predictions(scaled(p.logits, t), p.labels) for p, t in zip(plain, own, strict=True)]
        ids = [items[split] for split in splits] * len(soups)
        n = sum(len(items[split]) for split in splits)
        for suffix, predictions in (("", plain), (SCALED, cooled)):
            for metric in CALIBRATION_METRICS:
                score = score_over_splits(metric, predictions, ids)
                cells.setdefault(f"{metric}{suffix}", {})[column] = Cell(score.value, score.stderr, n)
    return cells


def optimism_of(
    method: str, tried: Sequence[Soup], values: Callable[[Soup], np.ndarray[Any, Any]], *, higher_is_better: bool
) -> SelectionOptimism:
    """How much the best held-out score among some soups promises too much.

    Args:
        method: name of the row.
        tried: everything that was compared on the held-out split.
        values: soup -> [n] numbers whose mean is its score there.
        higher_is_better: the metric's direction.
    """
    sign = 1.0 if higher_is_better else -1.0
    found = split_half_optimism(np.stack([sign * values(soup) for soup in tried]))
    return SelectionOptimism(method, found.value, found.stderr, found.n_candidates)


def tried_soups(soup: Soup) -> tuple[Soup, ...]:
    """Every soup that a greedy search has scored whole, from its first ingredient on, in order, read from its log.

    Example:
        >>> from stockpot.recipes import greedy
        >>> from stockpot.types import Ingredient
        >>> scores = {"a": 0.7, "b": 0.6, "c": 0.5, "ab": 0.65, "ac": 0.8}
        >>> runs = [Ingredient(name, name) for name in "abc"]
        >>> found = greedy(runs, lambda soup: scores["".join(i.name for i in soup.ingredients)])
        >>> ["".join(i.name for i in tried.ingredients) for tried in tried_soups(found)]
        ['a', 'ab', 'ac']
    """
    first, *others = soup.steps
    kept = single(first.ingredient, recipe=soup.recipe, combine=soup.combine)
    tried = [kept]
    for step in others:
        candidate = add_share(kept, step.ingredient)
        if not step.score.is_abandoned:
            tried.append(candidate)
        kept = candidate if step.accepted else kept
    return tuple(tried)


def _arrays(predictions: Predictions) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return predictions.logits, predictions.labels
