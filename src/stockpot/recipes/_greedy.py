"""The greedy soup: keep an ingredient while the held-out score does not fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, get_args

from stockpot.errors import ConfigError
from stockpot.recipes._parts import (
    Combine,
    OnStep,
    add_share,
    listed,
    log,
    ranked,
    rule_problems,
    single,
    whole_score,
)
from stockpot.types import CurvePoint, Evaluate, Incumbent, Ingredient, Score, Soup, Step, as_evaluate

__all__ = ["Forecast", "Order", "Permutes", "greedy", "greedy_orders"]

Order: TypeAlias = Literal["score", "given", "random"]
#: (candidate soup, incumbent) -> the utility that is expected of it, without evaluating it; None: no idea.
Forecast: TypeAlias = Callable[[Soup, Incumbent], float | None]


class Permutes(Protocol):
    """The one method that is asked of a generator; `numpy.random.Generator` has it."""

    def permutation(self, x: int, /) -> Iterable[Any]:
        """The numbers 0 to x - 1 in random order."""


def greedy(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    *,
    order: Order = "score",
    generator: Permutes | None = None,
    minimum_gain: float = 0.0,
    strict: bool = False,
    significance: float | None = None,
    combine: Combine = "weights",
    max_evaluations: int | None = None,
    forecast: Forecast | None = None,
    on_step: OnStep | None = None,
) -> Soup:
    """Keeps an ingredient while the held-out score does not fall (Wortsman et al. 2022, "Model soups", Recipe 1).

    Start with the first ingredient, S = {1}; then for i = 2, 3, ...::

        S <- S + {i}   if   utility(mean(S + {i})) >= utility(mean(S)) + minimum_gain      (> when strict)

    Evaluations for k ingredients: 2k - 1 in order of score (k individuals, k - 1 candidates), k otherwise. Every
    candidate is scored `against` the incumbent, so an evaluator may abandon it once it provably cannot be accepted;
    the ingredients kept are the same either way. In order of score the result is never below the best ingredient.

    With fewer `max_evaluations` than candidates the result is approximate, and says so: the next candidate is the one
    with the highest forecast, and after so many the search ends. It is never below the best ingredient either.

    Args:
        ingredients: at least one; in order of score, ties keep this order.
        evaluate: held-out score of a soup, a float or a Score.
        order: by individual score (the paper's), as given, or random; the last two need no scores of individuals.
        generator: for the random order, a numpy Generator; otherwise not used.
        minimum_gain: what a candidate must add, in the metric's unit; 0 or more.
        strict: accept only what is better by more than minimum_gain (the paper accepts equal scores).
        significance: accept only gains whose paired test has at most this two-sided p, in (0, 1); None: no test.
            `evaluate` must compare by example then (a task does).
        combine: "weights" for a soup, "logits" for the greedy ensemble: put into every soup that is evaluated.
        max_evaluations: candidates to evaluate at most, >= 1, beside the individuals; None: all. Order "score" only.
        forecast: what orders the candidates then; without it, or where it has no idea, their own scores do.
        on_step: told of each step at once (individuals that are scored only for the order are no steps).

    Returns:
        Equal shares of the kept ingredients in the order of acceptance. The recipe's name says how to repeat it:
        "greedy", "greedy_given", "greedy_random", with combine="logits" "greedy_ensemble", "greedy_ensemble_given",
        "greedy_ensemble_random". k steps, the first ingredient's included; fewer where the soup is `approximate`.

    Raises:
        BlendError: no ingredients.
        ConfigError: an unknown order or way of combining, a random order without a generator, a negative gain, a budget
            of less than 1 or in another order than that of scores.
        EvaluationError: `evaluate` raised, or gave no finite number.

    Example:
        >>> accuracy = {"a": 0.71, "b": 0.74, "c": 0.73, "bc": 0.75, "bca": 0.72}
        >>> runs = [Ingredient(name, f"runs/{name}") for name in "abc"]
        >>> soup = greedy(runs, lambda soup: accuracy["".join(i.name for i in soup.ingredients)])
        >>> [(step.ingredient.name, step.score.value, step.accepted) for step in soup.steps]
        [('b', 0.74, True), ('c', 0.75, True), ('a', 0.72, False)]
    """
    _check_options(order, combine, minimum_gain, significance, max_evaluations)
    given = listed(ingredients)
    evaluate = as_evaluate(evaluate)
    alone = partial(single, recipe=_recipe_name(order, combine), combine=combine)
    if order == "score":
        scores = [whole_score(evaluate, alone(ingredient)) for ingredient in given]
        ranking: Sequence[int] = ranked(scores)
        score = scores[ranking[0]]
    else:
        ranking = range(len(given)) if order == "given" else _at_random(generator, len(given))
        score = whole_score(evaluate, alone(given[ranking[0]]))
    first, *rest = (given[position] for position in ranking)
    steps: list[Step] = []
    log(steps, Step(first, score, accepted=True), on_step)
    incumbent = Incumbent(alone(first), score, minimum_gain, strict, significance)
    is_short = max_evaluations is not None and max_evaluations < len(rest)
    for _ in range(max_evaluations if max_evaluations is not None and is_short else len(rest)):
        candidate = rest.pop(_likeliest(rest, incumbent, forecast) if is_short else 0)
        incumbent = _try(candidate, incumbent, evaluate, partial(log, steps, on_step=on_step))
    return replace(incumbent.soup, steps=tuple(steps), approximate=is_short)


def greedy_orders(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    *,
    generators: Iterable[Permutes],
    minimum_gain: float = 0.0,
    strict: bool = False,
    significance: float | None = None,
    on_step: OnStep | None = None,
) -> tuple[Soup, ...]:
    """Greedy in several random orders: how much the order matters (Wortsman et al. 2022, "Model soups", table 3).

    k evaluations for each order of k ingredients.

    Args:
        ingredients: at least one.
        evaluate: held-out score of a soup, a float or a Score.
        generators: one for each order, at least one; each is used once, so that an order depends on its own alone.
        minimum_gain, strict, significance: as for `greedy`.
        on_step: told of each step at once, labelled with its order.

    Returns:
        One soup for each order, named "greedy_random"; their steps carry the same labels.

    Raises:
        ConfigError: no generators; otherwise as `greedy`.

    Example:
        >>> import numpy as np
        >>> runs = [Ingredient(name, f"runs/{name}") for name in "ab"]
        >>> soups = greedy_orders(runs, lambda soup: 0.5, generators=map(np.random.default_rng, (0, 3)))
        >>> [step.label for soup in soups for step in soup.steps]
        ['order 1 of 2: + a', 'order 1 of 2: + b', 'order 2 of 2: + b', 'order 2 of 2: + a']
    """
    given, drawn = listed(ingredients), tuple(generators)
    if not drawn:
        raise ConfigError("greedy_orders was given no generators", fix="give one for each order, at least one")
    rule: dict[str, Any] = {"minimum_gain": minimum_gain, "strict": strict, "significance": significance}
    soups = []
    for number, generator in enumerate(drawn, start=1):
        label = partial(_labelled, f"order {number} of {len(drawn)}")
        tell = None if on_step is None else partial(_tell, on_step, label)
        soup = greedy(given, evaluate, order="random", generator=generator, on_step=tell, **rule)
        soups.append(replace(soup, steps=tuple(map(label, soup.steps))))
    return tuple(soups)


def _labelled(prefix: str, step: Step) -> Step:
    return replace(step, label=f"{prefix}: + {step.ingredient.name}")


def _tell(on_step: OnStep, label: Callable[[Step], Step], step: Step | CurvePoint) -> None:
    on_step(label(step) if isinstance(step, Step) else step)


def _try(candidate: Ingredient, incumbent: Incumbent, evaluate: Evaluate, report: OnStep) -> Incumbent:
    """The incumbent after the candidate had its chance."""
    soup = add_share(incumbent.soup, candidate)
    score = evaluate(soup, against=incumbent)
    accepted = incumbent.yields_to(score)
    report(Step(candidate, score, accepted))
    return replace(incumbent, soup=soup, score=score) if accepted else incumbent


def _likeliest(rest: Sequence[Ingredient], incumbent: Incumbent, forecast: Forecast | None) -> int:
    """Position of the candidate with the highest forecast; of equal ones, and of those without one, the first."""
    if forecast is None:
        return 0
    expected = [forecast(add_share(incumbent.soup, candidate), incumbent) for candidate in rest]
    return max(range(len(rest)), key=lambda n: -math.inf if (value := expected[n]) is None else value)


def _at_random(generator: Permutes | None, k: int) -> Sequence[int]:
    if generator is None or not hasattr(generator, "permutation"):
        raise ConfigError(
            f"greedy in random order needs a generator with a method `permutation`, not {generator!r}",
            fix="pass generator=numpy.random.default_rng(seed)",
        )
    positions = [int(position) for position in generator.permutation(k)]
    if sorted(positions) != list(range(k)):
        raise ConfigError(
            f"the generator's permutation({k}) is {positions}, not the numbers 0 to {k - 1} in some order",
            fix="pass generator=numpy.random.default_rng(seed)",
        )
    return positions


def _recipe_name(order: Order, combine: Combine) -> str:
    return "greedy" + ("_ensemble" if combine == "logits" else "") + ("" if order == "score" else f"_{order}")


def _check_options(
    order: str, combine: str, minimum_gain: float, significance: float | None, max_evaluations: int | None
) -> None:
    problems = [
        f"{name} is {value!r}, not one of {', '.join(get_args(allowed))}"
        for name, value, allowed in (("order", order, Order), ("combine", combine, Combine))
        if value not in get_args(allowed)
    ]
    problems += rule_problems(minimum_gain, significance)
    if max_evaluations is not None and max_evaluations < 1:
        problems.append(f"max_evaluations is {max_evaluations!r}, not at least 1, or None")
    if max_evaluations is not None and order != "score":
        problems.append(f"max_evaluations goes with order 'score', not {order!r}")
    if problems:
        raise ConfigError("greedy was given options it does not know", problems=problems, fix="correct them")
