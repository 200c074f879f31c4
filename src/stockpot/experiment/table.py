"""Recipes applied to ingredients, and their rows side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from stockpot.assembly import inner_products
from stockpot.config import FOLLOW_UP_RECIPE_NAMES, AcceptanceConfig, LearnedConfig
from stockpot.experiment.bench import Bench, experiment_cells
from stockpot.experiment.calibrating import tried_soups
from stockpot.recipes import (
    RECIPES,
    LearningOptions,
    OnStep,
    Permutes,
    Supplies,
    best,
    ensemble,
    greedy,
    greedy_orders,
    pruned,
    single,
    uniform,
    used_ingredients,
)
from stockpot.records import METHODS, Comparison, Individual, Results, Row, SelectionOptimism
from stockpot.reports.sentence import summary_sentence
from stockpot.types import CurvePoint, Incumbent, Ingredient, Soup, Step

__all__ = ["Choices", "better_of", "choose", "n_ingredients", "supplies_of", "tabulate"]

#: Rows in the table's order.
_ROWS = (*METHODS, *FOLLOW_UP_RECIPE_NAMES)
OnMethodStep = Callable[[str, Step | CurvePoint], None]


@dataclass(frozen=True, slots=True)
class Choices:
    """Which recipes to compare, and how.

    Args:
        recipes: names beside the individuals, which are always there.
        random_orders: orders of greedy_random, >= 1.
        random_orders_seed: of these orders.
        acceptance: greedy's and pruned's rule.
        learned: how learned soups are learned.
        max_evaluations: candidates that greedy evaluates at most; None: all.
    """

    recipes: tuple[str, ...]
    random_orders: int = 3
    random_orders_seed: int = 0
    acceptance: AcceptanceConfig = field(default_factory=AcceptanceConfig)
    learned: LearnedConfig = field(default_factory=LearnedConfig)
    max_evaluations: int | None = None


def choose(
    ingredients: Sequence[Ingredient],
    bench: Bench,
    choices: Choices,
    *,
    initialisation: Ingredient | None = None,
    on_step: OnMethodStep | None = None,
) -> dict[str, tuple[Soup, ...]]:
    """Cooks every recipe on the held-out split; nothing else is looked at.

    Args:
        ingredients: with digests.
        bench: scores.
        choices: which recipes.
        initialisation: with digest; for the recipes that go back towards it.
        on_step: called with the method's name and every step.

    Returns:
        Method -> its soup; several where the row is a mean (individuals, random orders).

    Raises:
        ConfigError: a recipe lacks what it needs: gradients, the initialisation.
    """

    def report(method: str) -> OnStep | None:
        return None if on_step is None else lambda step: on_step(method, step)

    champion = best(ingredients, bench.evaluate, on_step=report("best"))
    rule = choices.acceptance.model_dump()
    budget: dict[str, Any] = {"max_evaluations": choices.max_evaluations, "forecast": bench.forecast}
    cooked: dict[str, tuple[Soup, ...]] = {"best": (champion,)}
    if len(ingredients) > 1:
        cooked["second_best"] = (_second_best(champion),)
    cooked["mean_individual"] = tuple(single(ingredient) for ingredient in ingredients)
    supplies = supplies_of(ingredients, bench, choices.learned, initialisation=initialisation)

    def by_table(name: str) -> tuple[Soup, ...]:
        return (RECIPES[name](ingredients, bench.evaluate, supplies, on_step=report(name)),)

    makers: Mapping[str, Callable[[], tuple[Soup, ...]]] = {
        "uniform": lambda: (uniform(ingredients),),
        "greedy": lambda: (greedy(ingredients, bench.evaluate, on_step=report("greedy"), **rule, **budget),),
        "greedy_random": lambda: greedy_orders(
            ingredients, bench.evaluate, generators=_generators(choices), on_step=report("greedy_random"), **rule
        ),
        "pruned": lambda: (pruned(ingredients, bench.evaluate, on_step=report("pruned"), **rule),),
        "ensemble": lambda: (ensemble(ingredients),) if bench.evaluate_ensemble else (),
        "greedy_ensemble": lambda: (
            (greedy(ingredients, bench.evaluate_ensemble, combine="logits", **rule),) if bench.evaluate_ensemble else ()
        ),
    }
    for name in sorted(choices.recipes, key=_ROWS.index):
        if soups := makers.get(name, partial(by_table, name))():
            cooked[name] = soups
    return cooked


def supplies_of(
    ingredients: Sequence[Ingredient],
    bench: Bench,
    learned: LearnedConfig,
    generator: Permutes | None = None,
    *,
    initialisation: Ingredient | None = None,
    max_evaluations: int | None = None,
    acceptance: AcceptanceConfig | None = None,
) -> Supplies:
    """What recipes need beside ingredients and evaluate."""
    learning = LearningOptions(
        parametrisation=learned.parametrisation,
        learning_rate=learned.learning_rate,
        weight_decay=learned.weight_decay,
        epochs=learned.epochs,
        least_steps=learned.least_steps,
        check_every=learned.check_every,
        patience=learned.patience,
        learn_logit_scale=learned.learn_logit_scale and bench.has_logit_scale,
    )
    return Supplies(
        generator,
        bench.open_gradient(ingredients, learned),
        learning,
        learned.layers,
        initialisation,
        None if initialisation is None else lambda: inner_products(ingredients, initialisation),
        max_evaluations,
        bench.forecast,
        {} if acceptance is None else acceptance.model_dump(),
    )


def better_of(soup: Soup, ingredients: Sequence[Ingredient], bench: Bench) -> tuple[Soup, str]:
    """The soup if it beats the best single ingredient beyond noise on the held-out split, else that one.

    Beyond noise is a paired test with p <= 0.05. What was chosen on the held-out split looks better there than it is,
    so a soup that fails this test has shown nothing.

    Args:
        soup: from any recipe.
        ingredients: among which the best is sought.
        bench: compares by example.

    Returns:
        The choice and one line that says why.

    Raises:
        EvaluationError: the evaluation gives scores alone.
    """
    champion = best(ingredients, bench.evaluate)
    rival = Incumbent(champion, bench.evaluate(champion), strict=True, significance=0.05)
    score = bench.evaluate(soup, against=rival)
    is_better = rival.yields_to(score)
    gain = score.paired
    assert gain is not None or not is_better  # yields_to has refused scores alone
    name = champion.ingredients[0].name
    measured = "" if gain is None else f" ({gain.difference:+.4f}, p = {'none' if gain.p is None else f'{gain.p:.2g}'})"
    if is_better:
        return soup, f"{soup.recipe} beats the best single model, {name}, beyond noise on held-out{measured}"
    return (
        champion,
        f"{soup.recipe} does not beat the best single model beyond noise on held-out{measured}: {name} it is",
    )


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
    start = None if initialisation is None else initialisation.ingredients[0]
    rows = tuple(_row(method, tuple(methods[method]), bench, start) for method in _ROWS if method in methods)
    results = Results(
        metric=bench.metric,
        higher_is_better=bench.higher_is_better,
        rows=rows,
        comparisons=tuple(_comparisons(cooked, bench)),
        experiment=experiment,
        notes=(*notes, *_approximations(cooked)),
        optimism=_optimism(cooked, bench),
        individuals=tuple(
            Individual(one.name, bench.cells([single(one)]), one.settings)
            for one in (soup.ingredients[0] for soup in cooked.get("mean_individual", ()))
        )
        or None,
    )
    return _with_sentence(results)


def _approximations(cooked: Mapping[str, Sequence[Soup]]) -> list[str]:
    return [
        f"{method} is approximate: at most {len(soup.steps) - 1} candidates were to be evaluated, those that promised "
        "most by the logits at hand."
        for method, (soup, *_) in cooked.items()
        if soup.approximate
    ]


def _second_best(champion: Soup) -> Soup:
    """The runner-up of the individuals' scores; the first of equals, as for the best."""
    others = [step for step in champion.steps if not step.accepted]  # by step: an ingredient may be given twice
    return single(max(others, key=lambda step: step.score.utility).ingredient, recipe="second_best")


def _generators(choices: Choices) -> list[Permutes]:
    return [np.random.default_rng([choices.random_orders_seed, number]) for number in range(choices.random_orders)]


def n_ingredients(soup: Soup, initialisation: Ingredient | None = None) -> int:
    """Fine-tunes in a soup: the checkpoints whose coefficient is not 0 everywhere, the initialisation left out.

    The initialisation on its own counts as one checkpoint.

    Example:
        >>> start, a = Ingredient("initialisation", "base"), Ingredient("a", "runs/a")
        >>> n_ingredients(uniform([start, a]), start), n_ingredients(single(start), start)
        (1, 1)
    """
    used = used_ingredients(soup)
    if used == (initialisation,):
        return 1
    return sum(ingredient != initialisation for ingredient in used)


def _row(method: str, soups: tuple[Soup, ...], bench: Bench, initialisation: Ingredient | None) -> Row:
    cells = bench.cells(soups)
    if method == "greedy_random":
        by_order = [bench.cells([soup]) for soup in soups]
        spread = {
            split: statistics.stdev([order[split].value for order in by_order]) if len(soups) > 1 else 0.0
            for split in cells
        }
        cells = experiment_cells(cells, sd=spread, n_orders=len(soups))
    calibration = bench.calibration(soups)
    sizes = [n_ingredients(soup, initialisation) for soup in soups]
    names = tuple(ingredient.name for ingredient in used_ingredients(soups[0])) if len(soups) == 1 else ()
    return Row(
        method=method,
        n_ingredients=sum(sizes) / len(sizes) if len(set(sizes)) > 1 else sizes[0],
        inference_cost=len(soups[0].ingredients) if soups[0].combine == "logits" else 1,
        scores=cells,
        ingredients=names,
        metrics=calibration[0] if calibration else None,
        temperature=calibration[1] if calibration else None,
        approximate=any(soup.approximate for soup in soups) or None,
    )


def _comparisons(cooked: Mapping[str, Sequence[Soup]], bench: Bench) -> list[Comparison]:
    """Any two methods that are one soup or ensemble, first against the best individual, then against greedy."""
    means = {"mean_individual", "greedy_random"}
    soups = {method: cooked[method][0] for method in _ROWS if method in cooked and method not in means}
    ranked = sorted(soups, key=lambda method: ("best", "greedy").index(method) if method in {"best", "greedy"} else 2)
    pairs = [
        (method, soups[method], against, soups[against])
        for position, against in enumerate(ranked)
        for method in ranked[position + 1 :]
    ]
    return [comparison for pair in pairs for comparison in bench.comparisons(*pair)]


def _optimism(cooked: Mapping[str, Sequence[Soup]], bench: Bench) -> tuple[SelectionOptimism, ...] | None:
    """For the best individual: a choice among individuals; for greedy: among all that it has scored."""
    individuals = [single(step.ingredient) for step in cooked["best"][0].steps]
    tried = {"best": individuals}
    if "greedy" in cooked:
        tried["greedy"] = [*individuals, *tried_soups(cooked["greedy"][0])[1:]]
    found = [bench.optimism(method, soups) for method, soups in tried.items()]
    return tuple(one for one in found if one is not None) or None


def _with_sentence(results: Results) -> Results:
    return replace(results, sentence=summary_sentence(results))
