"""Ensembles from cached logits: the greedy ensemble is the recipe `greedy` with the Evaluate that is made here.

No forward pass happens in this room: it reads the predictions of single ingredients, which the other recipes have
needed already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stockpot.errors import EvaluationError
from stockpot.recipes import single
from stockpot.types import Evaluate, Incumbent, Ingredient, Predictions, Score, Soup

__all__ = ["combine_logits", "ensemble_evaluate"]

Array: TypeAlias = np.ndarray[Any, Any]
Scorer: TypeAlias = Callable[[npt.ArrayLike, npt.ArrayLike], Score]


def combine_logits(soup: Soup, logits_by_ingredient: Sequence[Array]) -> Array:
    """Logits of an ensemble: the soup's coefficients over its ingredients' logits (Wortsman et al. 2022, section 2).

    ``logits = beta sum_i c_i logits_i`` in float64 in the soup's order, rounded to float32 once. Equal shares are added
    unscaled and divided once, as in the kernel: one ingredient gives its own logits to the bit, and so do k copies.

    Args:
        soup: its coefficients (one row) and its logit scale beta hold; the way it combines is not asked.
        logits_by_ingredient: k arrays [n, classes], in the soup's order.

    Returns:
        [n, classes] float32.

    Raises:
        EvaluationError: another number of arrays, shapes that differ, NaN, or a result that float32 cannot hold.
        BlendError: coefficients by group, which mean nothing for logits.

    Example:
        >>> from stockpot.recipes import ensemble
        >>> soup = ensemble([Ingredient("a", "runs/a"), Ingredient("b", "runs/b")])
        >>> combine_logits(soup, [np.float32([[1.0, 0.0]]), np.float32([[0.0, 4.0]])])
        array([[0.5, 2. ]], dtype=float32)
    """
    if len(logits_by_ingredient) != len(soup.ingredients):
        raise EvaluationError(
            f"{len(logits_by_ingredient)} arrays of logits for {len(soup.ingredients)} ingredients",
            fix="give one array per ingredient, in the soup's order",
        )
    _check_shapes(soup.ingredients, logits_by_ingredient)
    _check_not_nan(soup.ingredients, logits_by_ingredient)
    return _rounded(soup, _weighted_sum(_weights(soup), logits_by_ingredient))


def ensemble_evaluate(predictions: Callable[[Soup], Predictions], metric: Scorer) -> Evaluate:
    """An Evaluate for soups with combine="logits", from the predictions of their ingredients alone.

    Args:
        predictions: logits and labels on the held-out split of a soup that is one ingredient with coefficient 1
            (combine="weights", so that the journal's entry of the individual is found).
        metric: (logits, labels) -> Score, from `stockpot.metrics.METRICS`.

    Returns:
        An Evaluate that never abandons: an ensemble costs no forward pass that could be saved. It owns the running sum
        of the last incumbent's logits, so a greedy step reads one ingredient's predictions, and one more after an
        acceptance; scores are those of `combine_logits` to the bit, whatever was asked before.

    Raises:
        EvaluationError: when called, for a soup that combines the weights of several ingredients, for ingredients whose
            labels or shapes differ, and for NaN among the logits.

    Example:
        >>> from stockpot.metrics import accuracy
        >>> from stockpot.recipes import greedy
        >>> logits = {"a": [[3, 0], [0, 1], [1, 0]], "b": [[0, 1], [0, 1], [0, 4]]}
        >>> def predictions(soup):
        ...     return Predictions(np.float32(logits[soup.ingredients[0].name]), np.array([0, 1, 1]))
        >>> runs = [Ingredient(name, f"runs/{name}") for name in logits]
        >>> soup = greedy(runs, ensemble_evaluate(predictions, accuracy), combine="logits")
        >>> soup.recipe, [step.score.value for step in soup.steps][-1]
        ('greedy_ensemble', 1.0)
    """
    cached = _RunningSum(predictions)

    def evaluate(soup: Soup, *, against: Incumbent | None = None) -> Score:
        del against  # nothing to save by abandoning
        _check_is_ensemble(soup)
        if soup.coefficients.is_equal:
            total = cached.of(soup.ingredients)
        else:
            total = _weighted_sum(_weights(soup), map(cached.read, soup.ingredients))
        return metric(_rounded(soup, total), cached.labels)

    return evaluate


class _RunningSum:
    """The float64 sum of logits over some ingredients, extended rather than repeated; one reader's own."""

    def __init__(self, predictions: Callable[[Soup], Predictions]) -> None:
        self._predictions = predictions
        self._first: tuple[Ingredient, Predictions] | None = None
        self._held: tuple[Ingredient, ...] = ()
        self._total: Array | None = None

    @property
    def labels(self) -> Array:
        """Labels of every ingredient read so far; they agree."""
        assert self._first is not None, "nothing was read"
        return self._first[1].labels

    def read(self, ingredient: Ingredient) -> Array:
        """Logits of one ingredient, known to belong with those read before."""
        predicted = self._predictions(single(ingredient))
        if self._first is None:
            self._first = (ingredient, predicted)
        first, reference = self._first
        _check_shapes((first, ingredient), (reference.logits, predicted.logits))
        _check_labels((first, ingredient), (reference.labels, predicted.labels))
        _check_not_nan((ingredient,), (predicted.logits,))
        return predicted.logits

    def of(self, ingredients: tuple[Ingredient, ...]) -> Array:
        """The sum over `ingredients`; what is held afterwards is all but the last, the next step's likely incumbent."""
        *incumbent, candidate = ingredients
        self._hold(tuple(incumbent))
        return _added(self._total, 1.0, self.read(candidate))

    def _hold(self, ingredients: tuple[Ingredient, ...]) -> None:
        """Adds in the order given, so the bytes are those of a sum from scratch."""
        if ingredients[: len(self._held)] != self._held:
            self._held, self._total = (), None
        for ingredient in ingredients[len(self._held) :]:
            self._total = _added(self._total, 1.0, self.read(ingredient))
            self._held = (*self._held, ingredient)


# --- arithmetic --------------------------------------------------------------------------------------------------


def _weights(soup: Soup) -> tuple[float, ...]:
    """What each ingredient's logits are multiplied with before the sum: equal shares are divided after it."""
    return (1.0,) * len(soup.ingredients) if soup.coefficients.is_equal else tuple(soup.coefficients)


def _weighted_sum(weights: Iterable[float], logits_by_ingredient: Iterable[Array]) -> Array:
    total: Array | None = None
    shape: tuple[int, ...] = ()
    for weight, logits in zip(weights, logits_by_ingredient, strict=True):
        shape = logits.shape
        if weight != 0:  # 0 times a masked class's -inf is NaN, and a leading 0 would lose the sign of -0.0
            total = _added(total, weight, logits)
    return np.zeros(shape) if total is None else total


def _added(total: Array | None, weight: float, logits: Array) -> Array:
    """total + weight * logits in a new float64 array."""
    term: Array = np.multiply(logits, weight, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # opposite infinities: the NaN is reported by the metric
        return term if total is None else np.add(total, term, out=term)


def _rounded(soup: Soup, total: Array) -> Array:
    """float32 of the sum, divided once where shares are equal."""
    mean = total / len(soup.ingredients) if soup.coefficients.is_equal else total
    try:
        with np.errstate(over="raise"):
            return (mean * soup.logit_scale).astype(np.float32)
    except FloatingPointError as exc:
        raise EvaluationError(
            f"the combined logits of {_names(soup.ingredients)} reach {np.abs(mean).max():.3g}, beyond float32",
            fix="give smaller coefficients, or drop the ingredient that diverged",
        ) from exc


# --- what must agree ---------------------------------------------------------------------------------------------


def _check_is_ensemble(soup: Soup) -> None:
    # One ingredient with coefficient 1 is the same model either way, so `best` can be asked for with this evaluate too.
    if soup.combine == "logits" or (soup.coefficients.is_equal and len(soup.ingredients) == 1):
        return
    raise EvaluationError(
        f"the soup of {_names(soup.ingredients)} combines weights; cached logits say nothing about it",
        fix='use a recipe with combine="logits", or the task\'s own evaluate',
    )


def _check_shapes(ingredients: Sequence[Ingredient], logits_by_ingredient: Sequence[Array]) -> None:
    first, reference = ingredients[0], logits_by_ingredient[0]
    problems = [
        f"{list(logits.shape)} in {ingredient.name!r} but {list(reference.shape)} in {first.name!r}"
        for ingredient, logits in zip(ingredients, logits_by_ingredient, strict=True)
        if logits.shape != reference.shape
    ]
    if problems:
        raise EvaluationError(
            "logits of different shapes cannot be combined",
            problems=problems,
            fix="evaluate every ingredient on the same split and with the same classes",
        )


def _check_not_nan(ingredients: Sequence[Ingredient], logits_by_ingredient: Sequence[Array]) -> None:
    pairs = zip(ingredients, logits_by_ingredient, strict=True)
    diverged = [ingredient for ingredient, logits in pairs if np.isnan(logits).any()]
    if diverged:
        raise EvaluationError(
            f"NaN among the logits of {_names(diverged)}",
            fix="drop the ingredients that diverged, or evaluate with precision: fp32",
        )


def _check_labels(ingredients: Sequence[Ingredient], labels: Sequence[Array]) -> None:
    (first, other), (expected, found) = ingredients, labels
    if not np.array_equal(expected, found):
        raise EvaluationError(
            f"{first.name!r} and {other.name!r} were not scored on the same labels: "
            f"{_label_difference(expected, found)}",
            fix="evaluate every ingredient on the same split, rows in the same order",
        )


def _label_difference(expected: Array, found: Array) -> str:
    if expected.shape != found.shape:
        return f"{list(expected.shape)} and {list(found.shape)}"
    return f"{int(np.count_nonzero(expected != found))} of {len(expected)} differ"


def _names(ingredients: Sequence[Ingredient]) -> str:
    shown = ", ".join(repr(ingredient.name) for ingredient in ingredients[:4])
    return shown + (f", ... ({len(ingredients)} in all)" if len(ingredients) > 4 else "")
