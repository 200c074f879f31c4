"""The mean of the k best individuals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from stockpot.errors import ConfigError
from stockpot.recipes._parts import (
    OnStep,
    Trial,
    add_share,
    equal_soup,
    first_of_the_best,
    listed,
    log,
    ranked,
    single,
    whole_score,
)
from stockpot.types import Evaluate, Ingredient, Score, Soup, Step, as_evaluate

__all__ = ["top_k"]


def top_k(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    *,
    k: int | None = None,
    on_step: OnStep | None = None,
) -> Soup:
    """The uniform soup of the k ingredients with the highest held-out utility.

    ``theta = (1/k) sum of the k best theta_i``; without a k, every k from 1 to n is tried and the one with the best
    held-out score taken, of equal ones the smallest. Evaluations for n ingredients: n, or 2n - 1 without a k; then the
    larger soups are scored `against` the best so far, and the result is below neither the best ingredient nor, but for
    rounding, the uniform soup.

    Args:
        ingredients: at least one; of equal individuals the first given ranks first.
        evaluate: held-out score of a soup, a float or a Score.
        k: how many, 1 to n; None: tried on the held-out set.
        on_step: told of each step at once.

    Returns:
        Equal shares of the k best, best first. Steps with k: all individuals, best first, accepted where they are in.
        Without: "top 1" to "top n", each with the ingredient that came in, only the winner accepted.

    Raises:
        BlendError: no ingredients.
        ConfigError: a k that is not between 1 and n.
        EvaluationError: `evaluate` raised, or gave no finite number.

    Source: the plain mean of the best checkpoints, as trainers keep them.

    Example:
        >>> accuracy = {"a": 0.7, "b": 0.8, "c": 0.6, "ba": 0.81, "bac": 0.75}
        >>> runs = [Ingredient(name, f"runs/{name}") for name in "abc"]
        >>> soup = top_k(runs, lambda soup: accuracy["".join(i.name for i in soup.ingredients)])
        >>> [(step.label, step.score.value, step.accepted) for step in soup.steps]
        [('top 1', 0.8, False), ('top 2', 0.81, True), ('top 3', 0.75, False)]
    """
    given, evaluate = listed(ingredients), as_evaluate(evaluate)
    if k is not None and not 1 <= k <= len(given):
        raise ConfigError(f"top_k was asked for the best {k} of {len(given)}", fix=f"give a k from 1 to {len(given)}")
    scores = [whole_score(evaluate, single(ingredient, recipe="top_k")) for ingredient in given]
    ranking = ranked(scores)
    best_first, scores = [given[position] for position in ranking], [scores[position] for position in ranking]
    if k is None:
        return _tried(best_first, scores[0], evaluate, on_step)
    steps: list[Step] = []
    for rank, (ingredient, score) in enumerate(zip(best_first, scores, strict=True), start=1):
        log(steps, Step(ingredient, score, accepted=rank <= k), on_step)
    return replace(equal_soup(best_first[:k], recipe="top_k"), steps=tuple(steps))


def _tried(best_first: Sequence[Ingredient], best_score: Score, evaluate: Evaluate, on_step: OnStep | None) -> Soup:
    first, *others = best_first
    soups = accumulate(others, add_share, initial=single(first, recipe="top_k"))
    trials = [Trial(soup, soup.ingredients[-1], f"top {len(soup.ingredients)}") for soup in soups]
    return first_of_the_best(trials, evaluate, first_score=best_score, on_step=on_step)
