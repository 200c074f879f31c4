"""The greedy soup: keep an ingredient while the held-out score does not fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, get_args

from stockpot.errors import ConfigError
from stockpot.recipes._parts import Combine, OnStep, add_share, listed, log, single, whole_score
from stockpot.types import Evaluate, Incumbent, Ingredient, Score, Soup, Step, as_evaluate

__all__ = ["Order", "Permutes", "greedy"]

Order: TypeAlias = Literal["score", "given", "random"]


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
    on_step: OnStep | None = None,
) -> Soup:
    """Keeps an ingredient while the held-out score does not fall (Wortsman et al. 2022, "Model soups", Recipe 1).

    Start with the first ingredient, S = {1}; then for i = 2, 3, ...::

        S <- S + {i}   if   utility(mean(S + {i})) >= utility(mean(S)) + minimum_gain      (> when strict)

    Evaluations for k ingredients: 2k - 1 in order of score (k individuals, k - 1 candidates), k otherwise. Every
    candidate is scored `against` the incumbent, so an evaluator may abandon it once it provably cannot be accepted;
    the ingredients kept are the same either way. In order of score the result is never below the best ingredient.

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
        on_step: told of each step at once (individuals that are scored only for the order are no steps).

    Returns:
        Equal shares of the kept ingredients in the order of acceptance. The recipe's name says how to repeat it:
        "greedy", "greedy_given", "greedy_random", with combine="logits" "greedy_ensemble", "greedy_ensemble_given",
        "greedy_ensemble_random". k steps, the first ingredient's included.

    Raises:
        BlendError: no ingredients.
        ConfigError: an unknown order or way of combining, a random order without a generator, a negative gain.
        EvaluationError: `evaluate` raised, or gave no finite number.

    Example:
        >>> accuracy = {"a": 0.71, "b": 0.74, "c": 0.73, "bc": 0.75, "bca": 0.72}
        >>> runs = [Ingredient(name, f"runs/{name}") for name in "abc"]
        >>> soup = greedy(runs, lambda soup: accuracy["".join(i.name for i in soup.ingredients)])
        >>> [(step.ingredient.name, step.score.value, step.accepted) for step in soup.steps]
        [('b', 0.74, True), ('c', 0.75, True), ('a', 0.72, False)]
    """
    _check_options(order, combine, minimum_gain, significance)
    given = listed(ingredients)
    evaluate = as_evaluate(evaluate)
    alone = partial(single, recipe=_recipe_name(order, combine), combine=combine)
    if order == "score":
        scores = [whole_score(evaluate, alone(ingredient)) for ingredient in given]
        ranking = _by_utility(scores)
        score = scores[ranking[0]]
    else:
        ranking = range(len(given)) if order == "given" else _at_random(generator, len(given))
        score = whole_score(evaluate, alone(given[ranking[0]]))
    first, *rest = (given[position] for position in ranking)
    steps: list[Step] = []
    log(steps, Step(first, score, accepted=True), on_step)
    incumbent = Incumbent(alone(first), score, minimum_gain, strict, significance)
    for candidate in rest:
        incumbent = _try(candidate, incumbent, evaluate, partial(log, steps, on_step=on_step))
    return replace(incumbent.soup, steps=tuple(steps))


def _try(candidate: Ingredient, incumbent: Incumbent, evaluate: Evaluate, report: OnStep) -> Incumbent:
    """The incumbent after the candidate had its chance."""
    soup = add_share(incumbent.soup, candidate)
    score = evaluate(soup, against=incumbent)
    accepted = incumbent.yields_to(score)
    report(Step(candidate, score, accepted))
    return replace(incumbent, soup=soup, score=score) if accepted else incumbent


def _by_utility(scores: Sequence[Score]) -> Sequence[int]:
    """Positions, best first; the sort is stable when reversed, so ties keep the caller's order."""
    return sorted(range(len(scores)), key=lambda position: scores[position].utility, reverse=True)


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


def _check_options(order: str, combine: str, minimum_gain: float, significance: float | None) -> None:
    problems = [
        f"{name} is {value!r}, not one of {', '.join(get_args(allowed))}"
        for name, value, allowed in (("order", order, Order), ("combine", combine, Combine))
        if value not in get_args(allowed)
    ]
    # A negative gain would let the score drift below that of the best ingredient, one step at a time.
    if not (math.isfinite(minimum_gain) and minimum_gain >= 0):
        problems.append(f"minimum_gain is {minimum_gain!r}, not a finite number of at least 0")
    if significance is not None and not 0 < significance < 1:
        problems.append(f"significance is {significance!r}, not a number between 0 and 1")
    if problems:
        raise ConfigError("greedy was given options it does not know", problems=problems, fix="correct them")
