"""The pruned soup: start from all ingredients, drop one while the held-out score does not fall."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from stockpot.errors import ConfigError
from stockpot.recipes._parts import OnStep, equal_soup, listed, log, ranked, rule_problems, single, whole_score
from stockpot.types import Evaluate, Incumbent, Ingredient, Score, Soup, Step, as_evaluate

__all__ = ["pruned"]


def pruned(
    ingredients: Iterable[Ingredient],
    evaluate: Callable[..., float | Score],
    *,
    minimum_gain: float = 0.0,
    strict: bool = False,
    significance: float | None = None,
    passes: int | None = 1,
    on_step: OnStep | None = None,
) -> Soup:
    """Drops an ingredient while the held-out score does not fall: greedy from the other end.

    Start with all, S = {1, ..., k}; then for i from the worst individual held-out score to the best::

        S <- S - {i}   if   utility(mean(S - {i})) >= utility(mean(S)) + minimum_gain      (> when strict)

    The last one is never dropped. Evaluations: k individuals for the order, the mean of all, at most k candidates a
    pass (1 in all for one ingredient). Candidates are scored `against` the incumbent, so an evaluator may abandon them.
    The result is never below the uniform soup; unlike greedy's it may be below the best ingredient.

    Args:
        ingredients: at least one; of equal individuals the last given is tried first.
        evaluate: held-out score of a soup, a float or a Score.
        minimum_gain: what dropping must add, in the metric's unit; 0 or more.
        strict: drop only for a score that is better by more than minimum_gain.
        significance: drop only for gains whose paired test has at most this two-sided p, in (0, 1); None: no test.
        passes: how often to go through the ingredients, >= 1; None: until a pass drops nothing. Nothing is tried
            twice against the same soup, so passes after the last drop cost nothing.
        on_step: told of each step at once.

    Returns:
        Equal shares of what is left, in the order given. Steps: the mean of all (its ingredient is the one that is
        tried first), then "without NAME", accepted where NAME was dropped.

    Raises:
        BlendError: no ingredients.
        ConfigError: a negative gain, a significance that is none, no passes.
        EvaluationError: `evaluate` raised, or gave no finite number.

    Source: the pruned soups of the work that followed Wortsman et al. 2022, "Model soups". Published variants differ in
    order and passes; ours is the one above.

    Example:
        >>> accuracy = {"a": 0.7, "b": 0.8, "c": 0.6, "abc": 0.75, "ab": 0.82, "bc": 0.7, "ac": 0.6}
        >>> runs = [Ingredient(name, f"runs/{name}") for name in "abc"]
        >>> soup = pruned(runs, lambda soup: accuracy["".join(i.name for i in soup.ingredients)])
        >>> [(step.label, step.score.value, step.accepted) for step in soup.steps]
        [('all 3', 0.75, True), ('without c', 0.82, True), ('without a', 0.8, False), ('without b', 0.7, False)]
    """
    _check_options(minimum_gain, significance, passes)
    given, evaluate = listed(ingredients), as_evaluate(evaluate)
    queue = deque(_worst_first(given, evaluate))
    everything = equal_soup(given, recipe="pruned")
    score = whole_score(evaluate, everything)
    steps: list[Step] = []
    log(steps, Step(given[queue[0]], score, accepted=True, label=f"all {len(given)}"), on_step)
    incumbent = Incumbent(everything, score, minimum_gain, strict, significance)
    incumbent = _prune(given, queue, incumbent, evaluate, partial(log, steps, on_step=on_step), passes)
    return replace(incumbent.soup, steps=tuple(steps))


def _worst_first(given: Sequence[Ingredient], evaluate: Evaluate) -> Sequence[int]:
    """Positions in the order in which they are tried; a single one needs no score."""
    if len(given) == 1:
        return [0]
    return ranked([whole_score(evaluate, single(ingredient, recipe="pruned")) for ingredient in given])[::-1]


def _prune(
    given: Sequence[Ingredient],
    queue: deque[int],
    incumbent: Incumbent,
    evaluate: Evaluate,
    report: OnStep,
    passes: int | None,
) -> Incumbent:
    """The incumbent after every position in the queue had its chances; the queue holds those that are still in."""
    n_refused_since_drop = 0
    for _ in count() if passes is None else range(passes):
        for _ in range(len(queue)):
            if len(queue) == 1 or n_refused_since_drop == len(queue):
                return incumbent
            position = queue.popleft()
            soup = equal_soup((given[left] for left in sorted(queue)), recipe="pruned")
            score = evaluate(soup, against=incumbent)
            dropped = incumbent.yields_to(score)
            report(Step(given[position], score, dropped, label=f"without {given[position].name}"))
            if dropped:
                incumbent, n_refused_since_drop = replace(incumbent, soup=soup, score=score), 0
            else:
                queue.append(position)
                n_refused_since_drop += 1
    return incumbent


def _check_options(minimum_gain: float, significance: float | None, passes: int | None) -> None:
    problems = rule_problems(minimum_gain, significance)
    if passes is not None and passes < 1:
        problems.append(f"passes is {passes!r}, not at least 1, or None")
    if problems:
        raise ConfigError("pruned was given options out of range", problems=problems, fix="correct them")
