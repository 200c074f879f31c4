"""Recipes applied to ingredients, and their rows side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stockpot.config import AcceptanceConfig
from stockpot.experiment.bench import Bench, experiment_cells
from stockpot.recipes import best, ensemble, greedy, single, uniform
from stockpot.records import METHODS, Comparison, Results, Row
from stockpot.reports.sentence import summary_sentence
from stockpot.types import Ingredient, Soup, Step

__all__ = ["Choices", "choose", "tabulate"]

OnStep = Callable[[str, Step], None]


@dataclass(frozen=True, slots=True)
class Choices:
    """Which recipes to compare, and how.

    Args:
        recipes: names beside the individuals, which are always there.
        random_orders: orders of greedy_random, >= 1.
        random_orders_seed: of these orders.
        acceptance: greedy's rule.
    """

    recipes: tuple[str, ...]
    random_orders: int = 3
    random_orders_seed: int = 0
    acceptance: AcceptanceConfig = field(default_factory=AcceptanceConfig)


def choose(
    ingredients: Sequence[Ingredient], bench: Bench, choices: Choices, *, on_step: OnStep | None = None
) -> dict[str, tuple[Soup, ...]]:
    """Cooks every recipe on the held-out split; nothing else is looked at.

    Args:
        ingredients: with digests.
        bench: scores.
        choices: which recipes.
        on_step: called with the method's name and every step.

    Returns:
        Method -> its soup; several where the row is a mean (individuals, random orders).
    """

    def report(method: str) -> Callable[[Step], None] | None:
        return None if on_step is None else lambda step: on_step(method, step)

    champion = best(ingredients, bench.evaluate, on_step=report("best"))
    rule: dict[str, Any] = {
        "minimum_gain": choices.acceptance.minimum_gain, "strict": choices.acceptance.strict,
        "significance": choices.acceptance.significance,
    }  # fmt: skip
    cooked: dict[str, tuple[Soup, ...]] = {"best": (champion,)}
    if len(ingredients) > 1:
        cooked["second_best"] = (_second_best(champion),)
    cooked["mean_individual"] = tuple(single(ingredient) for ingredient in ingredients)
    makers: Mapping[str, Callable[[], tuple[Soup, ...]]] = {
        "uniform": lambda: (uniform(ingredients),),
        "greedy": lambda: (greedy(ingredients, bench.evaluate, on_step=report("greedy"), **rule),),
        "greedy_random": lambda: _random_orders(ingredients, bench, choices, rule, report("greedy_random")),
        "ensemble": lambda: (ensemble(ingredients),) if bench.evaluate_ensemble else (),
        "greedy_ensemble": lambda: (
            (greedy(ingredients, bench.evaluate_ensemble, combine="logits", **rule),) if bench.evaluate_ensemble else ()
        ),
    }
    for name in sorted(choices.recipes, key=METHODS.index):
        if soups := makers[name]():
            cooked[name] = soups
    return cooked


def tabulate(
    cooked: Mapping[str, Sequence[Soup]],
    bench: Bench,
    *,
    initialisation: Soup | None = None,
    experiment: Mapping[str, Any] | str = "",
    notes: Sequence[str] = (),
) -> Results:
    """Measures every method on every split, once, after everything has been chosen.

    Args:
        cooked: from `choose`.
        bench: measures.
        initialisation: the start, as a row of its own.
        experiment: identity to record.
        notes: remarks under the table.

    Returns:
        Rows in the table's order, paired comparisons with the best individual, and the sentence that says it.
    """
    methods = {"initialisation": (initialisation,), **cooked} if initialisation is not None else dict(cooked)
    rows = tuple(_row(method, tuple(methods[method]), bench) for method in METHODS if method in methods)
    results = Results(
        metric=bench.metric,
        higher_is_better=bench.higher_is_better,
        rows=rows,
        comparisons=tuple(_comparisons(cooked, bench)),
        experiment=experiment,
        notes=tuple(notes),
    )
    return _with_sentence(results)


def _second_best(champion: Soup) -> Soup:
    """The runner-up of the individuals' scores; the first of equals, as for the best."""
    others = [step for step in champion.steps if not step.accepted]  # by step: an ingredient may be given twice
    return single(max(others, key=lambda step: step.score.utility).ingredient, recipe="second_best")


def _random_orders(
    ingredients: Sequence[Ingredient],
    bench: Bench,
    choices: Choices,
    rule: Mapping[str, Any],
    on_step: Callable[[Step], None] | None,
) -> tuple[Soup, ...]:
    return tuple(
        greedy(
            ingredients,
            bench.evaluate,
            order="random",
            generator=np.random.default_rng([choices.random_orders_seed, number]),
            on_step=on_step,
            **rule,
        )
        for number in range(choices.random_orders)
    )


def _row(method: str, soups: tuple[Soup, ...], bench: Bench) -> Row:
    cells = bench.cells(soups)
    if method == "greedy_random":
        by_order = [bench.cells([soup]) for soup in soups]
        spread = {
            split: statistics.stdev([order[split].value for order in by_order]) if len(soups) > 1 else 0.0
            for split in cells
        }
        cells = experiment_cells(cells, sd=spread, n_orders=len(soups))
    sizes = [len(soup.ingredients) for soup in soups]
    names = tuple(ingredient.name for ingredient in soups[0].ingredients) if len(soups) == 1 else ()
    return Row(
        method=method,
        n_ingredients=sum(sizes) / len(sizes) if len(set(sizes)) > 1 else sizes[0],
        inference_cost=sizes[0] if soups[0].combine == "logits" else 1,
        scores=cells,
        ingredients=names,
    )


def _comparisons(cooked: Mapping[str, Sequence[Soup]], bench: Bench) -> list[Comparison]:
    """Every single soup and ensemble against the best individual, and uniform against greedy."""
    champion = cooked["best"][0]
    pairs = [
        (method, cooked[method][0], "best", champion)
        for method in ("uniform", "greedy", "ensemble", "greedy_ensemble")
        if method in cooked
    ]
    if "uniform" in cooked and "greedy" in cooked:
        pairs.append(("uniform", cooked["uniform"][0], "greedy", cooked["greedy"][0]))
    return [comparison for pair in pairs for comparison in bench.comparisons(*pair)]


def _with_sentence(results: Results) -> Results:
    return replace(results, sentence=summary_sentence(results))
