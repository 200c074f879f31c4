"""Recipes applied to ingredients, and their rows side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stockpot.config import AcceptanceConfig, LearnedConfig
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
    single,
    uniform,
)
from stockpot.records import METHODS, Comparison, Results, Row, SelectionOptimism
from stockpot.reports.sentence import summary_sentence
from stockpot.types import CurvePoint, Incumbent, Ingredient, Soup, Step

__all__ = ["Choices", "choose", "tabulate"]

OnMethodStep = Callable[[str, Step | CurvePoint], None]


@dataclass(frozen=True, slots=True)
class Choices:
    """Which recipes to compare, and how.

    Args:
        recipes: names beside the individuals, which are always there.
        random_orders: orders of greedy_random, >= 1.
        random_orders_seed: of these orders.
        acceptance: greedy's rule.
        learned: how learned soups are learned.
    """

    recipes: tuple[str, ...]
    random_orders: int = 3
    random_orders_seed: int = 0
    acceptance: AcceptanceConfig = field(default_factory=AcceptanceConfig)
    learned: LearnedConfig = field(default_factory=LearnedConfig)


def choose(
    ingredients: Sequence[Ingredient], bench: Bench, choices: Choices, *, on_step: OnMethodStep | None = None
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

    def report(method: str) -> OnStep | None:
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
    supplies = supplies_of(ingredients, bench, choices.learned)
    makers: Mapping[str, Callable[[], tuple[Soup, ...]]] = {
        "uniform": lambda: (uniform(ingredients),),
        "greedy": lambda: (greedy(ingredients, bench.evaluate, on_step=report("greedy"), **rule),),
        "greedy_random": lambda: _random_orders(ingredients, bench, choices, rule, report("greedy_random")),
        "learned": lambda: (RECIPES["learned"](ingredients, bench.evaluate, supplies, on_step=report("learned")),),
        "learned_by_layer": lambda: (
            RECIPES["learned_by_layer"](ingredients, bench.evaluate, supplies, on_step=report("learned_by_layer")),
        ),
        "ensemble": lambda: (ensemble(ingredients),) if bench.evaluate_ensemble else (),
        "greedy_ensemble": lambda: (
            (greedy(ingredients, bench.evaluate_ensemble, combine="logits", **rule),) if bench.evaluate_ensemble else ()
        ),
    }
    for name in sorted(choices.recipes, key=METHODS.index):
        if soups := makers[name]():
            cooked[name] = soups
    return cooked


def supplies_of(
    ingredients: Sequence[Ingredient], bench: Bench, learned: LearnedConfig, generator: Permutes | None = None
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
        learn_logit_scale=learned.learn_logit_scale,
    )
    return Supplies(generator, bench.open_gradient(ingredients, learned), learning, learned.layers)


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
    rows = tuple(_row(method, tuple(methods[method]), bench) for method in METHODS if method in methods)
    results = Results(
        metric=bench.metric,
        higher_is_better=bench.higher_is_better,
        rows=rows,
        comparisons=tuple(_comparisons(cooked, bench)),
        experiment=experiment,
        notes=tuple(notes),
        optimism=_optimism(cooked, bench),
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
    on_step: OnStep | None,
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
    calibration = bench.calibration(soups)
    sizes = [len(soup.ingredients) for soup in soups]
    names = tuple(ingredient.name for ingredient in soups[0].ingredients) if len(soups) == 1 else ()
    return Row(
        method=method,
        n_ingredients=sum(sizes) / len(sizes) if len(set(sizes)) > 1 else sizes[0],
        inference_cost=sizes[0] if soups[0].combine == "logits" else 1,
        scores=cells,
        ingredients=names,
        metrics=calibration[0] if calibration else None,
        temperature=calibration[1] if calibration else None,
    )


def _comparisons(cooked: Mapping[str, Sequence[Soup]], bench: Bench) -> list[Comparison]:
    """Every single soup and ensemble against the best individual, and uniform against greedy."""
    champion = cooked["best"][0]
    pairs = [
        (method, cooked[method][0], "best", champion)
        for method in METHODS
        if method in cooked and method not in {"best", "second_best", "mean_individual", "greedy_random"}
    ]
    if "uniform" in cooked and "greedy" in cooked:
        pairs.append(("uniform", cooked["uniform"][0], "greedy", cooked["greedy"][0]))
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
