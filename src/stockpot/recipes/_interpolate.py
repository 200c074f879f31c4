"""Between the initialisation and a fine-tune: the WiSE-FT line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from stockpot.errors import BlendError, ConfigError
from stockpot.recipes._best import best
from stockpot.recipes._parts import OnStep, Trial, first_of_the_best, listed
from stockpot.recipes._uniform import uniform
from stockpot.types import Coefficients, Evaluate, Ingredient, Score, Soup, as_evaluate

__all__ = ["ALPHAS", "End", "interpolate"]

#: Shares of the fine-tuned end that are tried by default: 0, 0.1, ..., 1.
ALPHAS: tuple[float, ...] = tuple(tenth / 10 for tenth in range(11))
End: TypeAlias = Literal["uniform", "best"]


def interpolate(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    *,
    initialisation: Ingredient,
    end: End | Soup = "uniform",
    alphas: Sequence[float] = ALPHAS,
    on_step: OnStep | None = None,
) -> Soup:
    """The best point between the initialisation and a soup (WiSE-FT).

    ::

        theta(alpha) = (1 - alpha) theta_0 + alpha sum_i c_i theta_i         c: the coefficients of the end

    Every alpha is tried from the largest down; a smaller one is taken only if it scores better, so of equal ones the
    largest wins. One evaluation for each alpha, and one for each ingredient where the end is "best"; all but the first
    alpha are scored `against` the best so far. With 1 among the alphas the result is never below the end.

    Args:
        ingredients: at least one; one alone is the end itself.
        evaluate: held-out score of a soup, a float or a Score.
        initialisation: theta_0, the checkpoint that all ingredients were fine-tuned from.
        end: where the line ends: "uniform" or "best" of the ingredients, or a soup of some of them (greedy's, say),
            whose groups and logit scale stay.
        alphas: shares of the end, distinct, each in [0, 1].
        on_step: told of each step at once; there, `accepted` means "leads so far".

    Returns:
        A soup of the end's ingredients and the initialisation, in this order, also where alpha is 0 or 1. Its steps are
        "alpha A", largest first, with the initialisation as ingredient; only the winner's is accepted.

    Raises:
        BlendError: no ingredients, or an end that combines logits.
        ConfigError: alphas out of range, given twice, or none; an end that is unknown, or made of other ingredients.
        EvaluationError: `evaluate` raised, or gave no finite number.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".

    Example:
        >>> runs, start = [Ingredient("a", "runs/a"), Ingredient("b", "runs/b")], Ingredient("start", "base")
        >>> far = lambda soup: -abs(list(soup.coefficients)[-1] - 0.3)  # best at 30 % of the initialisation
        >>> soup = interpolate(runs, far, initialisation=start)
        >>> [round(c, 2) for c in soup.coefficients], [step.label for step in soup.steps if step.accepted]
        ([0.35, 0.35, 0.3], ['alpha 0.7'])
    """
    _check_alphas(alphas)
    given, evaluate = listed(ingredients), as_evaluate(evaluate)
    target = _end(end, given, evaluate)
    trials = [
        Trial(_between(initialisation, target, alpha), initialisation, f"alpha {alpha:g}")
        for alpha in sorted(alphas, reverse=True)
    ]
    return first_of_the_best(trials, evaluate, on_step=on_step)


def _between(initialisation: Ingredient, end: Soup, alpha: float) -> Soup:
    # The start comes last: what is not blended, configuration and vocabulary too, is the first fine-tune's.
    rows = tuple((*(alpha * coefficient for coefficient in row), 1.0 - alpha) for row in end.coefficients.rows)
    return Soup(
        (*end.ingredients, initialisation),
        Coefficients(rows, end.coefficients.groups),
        "interpolate",
        logit_scale=end.logit_scale,
    )


def _end(end: End | Soup, given: tuple[Ingredient, ...], evaluate: Evaluate) -> Soup:
    if isinstance(end, Soup):
        _check_end(end, given)
        return end
    if end == "uniform":
        return uniform(given)
    if end == "best":
        return best(given, evaluate) if len(given) > 1 else uniform(given)
    raise ConfigError(f"interpolate does not know the end {end!r}", fix="give 'uniform', 'best' or a soup")


def _check_end(end: Soup, given: tuple[Ingredient, ...]) -> None:
    if end.combine != "weights":
        raise BlendError(
            f"{end.recipe!r} combines logits, so there is no line of weights to it", fix="give a soup that has weights"
        )
    strangers = [ingredient.name for ingredient in end.ingredients if ingredient not in given]
    if strangers:
        raise ConfigError(
            f"{len(strangers)} ingredients of the end are not among the ingredients",
            problems=strangers,
            fix="interpolate(end.ingredients, ..., end=end)",
        )


def _check_alphas(alphas: Sequence[float]) -> None:
    problems = [f"{alpha!r} is not a number from 0 to 1" for alpha in alphas if not 0 <= alpha <= 1]
    problems += [f"{alpha!r} is given twice" for alpha in sorted({a for a in alphas if list(alphas).count(a) > 1})]
    if problems or not alphas:
        raise ConfigError(
            "interpolate was given alphas that make no line" if problems else "interpolate was given no alphas",
            problems=problems,
            fix="give distinct numbers from 0 (the initialisation) to 1 (the end)",
        )
