"""The learned soup: coefficients that minimise the loss on the held-out split, found by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from stockpot.errors import ConfigError, EvaluationError, MissingExtraError
from stockpot.recipes._parts import listed
from stockpot.types import Coefficients, CurvePoint, Gradient, Ingredient, Soup

__all__ = ["LearningOptions", "OnPoint", "Parametrisation", "learned"]

Array: TypeAlias = np.ndarray[Any, Any]
Parametrisation: TypeAlias = Literal["softmax", "sum_to_one", "free"]
OnPoint: TypeAlias = Callable[[CurvePoint], None]


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """How coefficients are learned; the defaults are the published settings.

    Args:
        parametrisation: "softmax": positive coefficients that sum to one, as published; "sum_to_one": any sign; "free".
        learning_rate: of AdamW, > 0.
        weight_decay: of AdamW, >= 0.
        epochs: passes over the training part, >= 1.
        least_steps: steps however small the held-out split is (5 passes over 1,000 examples are 20 steps, which move
            the coefficients hardly at all), >= 1.
        check_every: steps between two looks at the stopping part, >= 1.
        patience: ends after so many looks without a better one (8 of 25 steps each); None: all steps are made.
        learn_logit_scale: whether beta is learned; otherwise it stays 1.

    Raises:
        ConfigError: values outside their ranges, all of them named.
    """

    parametrisation: Parametrisation = "softmax"
    learning_rate: float = 0.05
    weight_decay: float = 0.0
    epochs: int = 5
    least_steps: int = 500
    check_every: int = 25
    patience: int | None = 8
    learn_logit_scale: bool = True

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}, not {allowed}"
            for name, value, allowed, is_right in (
                ("parametrisation", self.parametrisation, f"one of {', '.join(get_args(Parametrisation))}",
                 self.parametrisation in get_args(Parametrisation)),
                ("learning_rate", self.learning_rate, "a number > 0", 0 < self.learning_rate < math.inf),
                ("weight_decay", self.weight_decay, "a number >= 0", 0 <= self.weight_decay < math.inf),
                ("epochs", self.epochs, "at least 1", self.epochs >= 1),
                ("least_steps", self.least_steps, "at least 1", self.least_steps >= 1),
                ("check_every", self.check_every, "at least 1", self.check_every >= 1),
                ("patience", self.patience, "at least 1, or None", self.patience is None or self.patience >= 1),
            )
            if not is_right
        ]  # fmt: skip
        if problems:
            raise ConfigError("the learned soup was given options out of range", problems=problems, fix="correct them")


def learned(
    ingredients: Iterable[Ingredient],
    gradient: Gradient,
    options: LearningOptions | None = None,
    *,
    recipe: str = "learned",
    on_point: OnPoint | None = None,
) -> Soup:
    """Learns the coefficients and a scale of the logits on the held-out split (Wortsman et al. 2022, section 2).

    ::

        argmin over alpha [groups, k], beta of  sum_j loss(beta f(x_j, theta(alpha)), y_j),
        theta_t(alpha) = sum_i alpha_{g(t), i} theta_{i, t}          g(t): the row of tensor t

    by AdamW on `alpha = softmax(raw)` and beta, from equal shares and beta = 1. The uniform soup and every single
    ingredient are looked at first, then the point reached every `check_every` steps: the one with the lowest loss on
    the stopping part is returned, so on that part none of them is better.

    Args:
        ingredients: k of them, those that `gradient` mixes.
        gradient: loss and gradient on batches of the training part, loss on the stopping part.
        options: see `LearningOptions`.
        recipe: name of the soup that comes out.
        on_point: told of each point of the curve at once.

    Returns:
        A soup with one row of coefficients, or one per group of the gradient; its `logit_scale` is beta and its `curve`
        holds all points that were compared.

    Raises:
        ConfigError: options out of range.
        EvaluationError: a loss that is not finite before anything was learned.
        MissingExtraError: torch is not installed (the optimiser is torch's).

    Example:
        >>> from stockpot.types import LossAndGradient
        >>> class Parabola:  # the best share of the first ingredient is 0.8
        ...     groups, n_batches = None, 1
        ...     def stopping_loss(self, coefficients, logit_scale):
        ...         return float((coefficients[0, 0] - 0.8) ** 2 + (logit_scale - 1) ** 2)
        ...     def __call__(self, coefficients, logit_scale, batch):
        ...         slope = np.array([[2 * (coefficients[0, 0] - 0.8), 0.0]])
        ...         return LossAndGradient(self.stopping_loss(coefficients, logit_scale), slope, 2 * (logit_scale - 1))
        >>> soup = learned([Ingredient("a", "runs/a"), Ingredient("b", "runs/b")], Parabola())
        >>> [round(c, 3) for c in soup.coefficients], round(soup.logit_scale, 3)
        ([0.8, 0.2], 1.0)
    """
    given = listed(ingredients)
    options = options or LearningOptions()
    search = _Search(given, gradient, recipe, on_point)
    for label, row in _starting_points(given):
        search.look(label, _rows(row, gradient), 1.0)
    if not math.isfinite(search.best_loss):
        raise EvaluationError(
            "no single ingredient and not their mean has a finite loss on the stopping part",
            fix="drop the runs that diverged, or evaluate with precision: fp32",
        )
    search.n_looks_since_best = 0  # patience is about steps
    for step, point in enumerate(_descent(len(given), gradient, options), start=1):
        search.trained(point.loss)
        if not math.isfinite(point.loss):
            break
        if step % options.check_every == 0:
            search.look(f"step {step}", point.coefficients, point.logit_scale)
            if options.patience is not None and search.n_looks_since_best >= options.patience:
                break
    return search.soup()


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """Where a step has led, and the loss it started from."""

    coefficients: Array
    logit_scale: float
    loss: float


def _descent(k: int, gradient: Gradient, options: LearningOptions) -> Iterator[_Point]:
    """The points after each step of the schedule; ends early when the loss is no number any more."""
    torch = _import_torch()
    to_coefficients, pull_back, start = _PARAMETRISATIONS[options.parametrisation]
    n_rows = 1 if gradient.groups is None else len(gradient.groups)
    raw = torch.full((n_rows, k), start(k), dtype=torch.float64)
    beta = torch.ones((), dtype=torch.float64)
    optimiser = torch.optim.AdamW([raw, beta], lr=options.learning_rate, weight_decay=options.weight_decay)
    n_steps = max(options.least_steps, options.epochs * gradient.n_batches)
    for batch in range(_whole_checks(n_steps, options.check_every)):
        coefficients = to_coefficients(raw.numpy())
        found = gradient(coefficients, float(beta), batch)
        if not math.isfinite(found.loss):
            yield _Point(coefficients, float(beta), math.nan)
            return
        raw.grad = torch.from_numpy(pull_back(coefficients, np.asarray(found.gradient, dtype=np.float64)))
        beta.grad = torch.tensor(found.logit_scale_gradient if options.learn_logit_scale else 0.0, dtype=torch.float64)
        optimiser.step()
        yield _Point(to_coefficients(raw.numpy()), float(beta), found.loss)


def _whole_checks(n_steps: int, check_every: int) -> int:
    """So many steps that the last one is looked at."""
    return math.ceil(n_steps / check_every) * check_every


class _Search:
    """The points compared so far and the best of them."""

    def __init__(
        self, ingredients: tuple[Ingredient, ...], gradient: Gradient, recipe: str, on_point: OnPoint | None
    ) -> None:
        self.best_loss = math.inf
        self.n_looks_since_best = 0
        self._gradient = gradient
        self._on_point = on_point
        self._curve: list[CurvePoint] = []
        self._training_losses: list[float] = []
        self._best = Soup(ingredients, Coefficients.equal(len(ingredients)), recipe)

    def trained(self, loss: float) -> None:
        """Counts a training loss towards the next point."""
        self._training_losses.append(loss)

    def look(self, label: str, coefficients: Array, logit_scale: float) -> None:
        """Compares one point with the best; of equal ones the earlier stays."""
        loss = self._gradient.stopping_loss(coefficients, logit_scale)
        is_better = loss < self.best_loss
        self.n_looks_since_best = 0 if is_better else self.n_looks_since_best + 1
        if is_better:
            self.best_loss = loss
            rows = tuple(tuple(float(value) for value in row) for row in coefficients)
            mixing = Coefficients(rows, self._gradient.groups)
            self._best = replace(self._best, coefficients=mixing, logit_scale=logit_scale)
        if math.isfinite(loss):
            self._note(CurvePoint(label, loss, self._mean_training_loss(), is_better))

    def soup(self) -> Soup:
        """The best point, with all that were compared."""
        return replace(self._best, curve=tuple(self._curve))

    def _note(self, point: CurvePoint) -> None:
        self._curve.append(point)
        if self._on_point is not None:
            self._on_point(point)

    def _mean_training_loss(self) -> float | None:
        losses, self._training_losses = self._training_losses, []
        return math.fsum(losses) / len(losses) if losses else None


def _starting_points(ingredients: Sequence[Ingredient]) -> Iterator[tuple[str, Array]]:
    k = len(ingredients)
    yield "uniform", np.full(k, 1.0 / k)
    for position, ingredient in enumerate(ingredients):
        yield f"only {ingredient.name}", np.eye(k)[position]


def _rows(row: Array, gradient: Gradient) -> Array:
    return np.tile(row, (1 if gradient.groups is None else len(gradient.groups), 1))


# --- parametrisations: raw numbers -> coefficients, a gradient back, where to start --------------------------------


def _softmax(raw: Array) -> Array:
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _through_softmax(shares: Array, gradient: Array) -> Array:
    pulled: Array = shares * (gradient - (shares * gradient).sum(axis=1, keepdims=True))
    return pulled


def _centred(raw: Array) -> Array:
    centred: Array = raw - raw.mean(axis=1, keepdims=True) + 1.0 / raw.shape[1]
    return centred


def _through_centring(_: Array, gradient: Array) -> Array:
    pulled: Array = gradient - gradient.mean(axis=1, keepdims=True)
    return pulled


_PARAMETRISATIONS: dict[
    str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array], Callable[[int], float]]
] = {
    "softmax": (_softmax, _through_softmax, lambda k: 0.0),  # noqa: ARG005
    "sum_to_one": (_centred, _through_centring, lambda k: 1.0 / k),
    "free": (np.copy, lambda _, gradient: gradient.copy(), lambda k: 1.0 / k),
}


def _import_torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as exc:
        if exc.name != "torch":
            raise
        raise MissingExtraError("torch", extra="torch", needed_for="the learned soup") from exc
    return torch
