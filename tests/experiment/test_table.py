"""Choosing and tabulating, with scores made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from stockpot.config import LearnedConfig
from stockpot.experiment.table import Choices, choose, tabulate
from stockpot.records import Cell, Comparison
from stockpot.types import Evaluate, Ingredient, Score, Soup, as_evaluate


class Bench:
    """A soup's utility is that of its ingredients' names, by default their mean."""

    metric = "made up"
    forecast = None

    def __init__(self, values: Mapping[str, float], *, higher_is_better: bool = True) -> None:
        self.higher_is_better = higher_is_better

        def score(soup: Soup) -> Score:
            value = sum(values[i.name] for i in soup.ingredients) / len(soup.ingredients)
            return Score(value, 0.1, 10, higher_is_better=higher_is_better)

        self.evaluate: Evaluate = as_evaluate(score)
        self.evaluate_ensemble: Evaluate | None = self.evaluate
        self.has_logit_scale = True
        self.compared: list[tuple[str, str]] = []

    def open_gradient(self, ingredients: Sequence[Ingredient], learned: LearnedConfig) -> None:
        del ingredients, learned

    def folded(self, soup: Soup) -> Soup:
        return soup

    def cells(self, soups: Sequence[Soup]) -> dict[str, Cell]:
        scores = [self.evaluate(soup) for soup in soups]
        return {"held_out": Cell(sum(score.value for score in scores) / len(scores), 0.1, 10)}

    def comparisons(self, method: str, soup: Soup, against_method: str, against: Soup) -> list[Comparison]:
        self.compared.append((method, against_method))
        return []

    def calibration(self, soups: Sequence[Soup]) -> None:
        del soups

    def optimism(self, method: str, tried: Sequence[Soup]) -> None:
        del method, tried


def test_a_search_within_a_budget_is_called_approximate_everywhere() -> None:
    bench = Bench({"a": 0.5, "b": 0.4, "c": 0.3, "d": 0.2})
    cooked = choose(runs("abcd"), bench, Choices(("greedy", "uniform"), max_evaluations=2))
    (soup,) = cooked["greedy"]
    assert soup.approximate
    assert len(soup.steps) == 3
    results = tabulate(cooked, bench)
    assert [row.method for row in results.rows if row.approximate] == ["greedy"]
    assert "greedy is approximate: at most 2 candidates" in results.notes[-1]
    assert "greedy is approximate" in results.sentence
    plain = tabulate(choose(runs("abcd"), bench, Choices(("greedy",), max_evaluations=3)), bench)
    assert not plain.notes
    assert all(row.approximate is None for row in plain.rows)


def runs(names: str) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}", digest=name) for name in names]


def second(ingredients: Sequence[Ingredient], bench: Bench) -> str:
    (soup,) = choose(ingredients, bench, Choices(("uniform",)))["second_best"]
    return soup.ingredients[0].name


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ({"a": 1, "b": 3, "c": 2}, True, "c"),
        ({"a": 1, "b": 3, "c": 2}, False, "c"),
        ({"a": 3, "b": 1, "c": 2}, False, "c"),
        ({"a": 3, "b": 3, "c": 3}, True, "b"),  # the first of equals is best, the next is second
        ({"a": 2, "b": 3, "c": 3}, True, "c"),  # as good as the best, and second all the same
        ({"a": 2, "b": 3, "c": 2}, True, "a"),  # the first of equals
        ({"a": 1, "b": 2, "c": 3}, True, "b"),  # the leader was deposed twice
    ],
)
def test_second_best(values, higher, expected):
    assert second(runs("abc"), Bench(values, higher_is_better=higher)) == expected


def test_an_ingredient_given_twice_is_best_and_second_best():
    (once,) = runs("a")
    assert second([once, once], Bench({"a": 1})) == "a"
    assert second([*runs("b"), once, once], Bench({"a": 1, "b": 0})) == "a"


def test_one_ingredient_has_no_second():
    cooked = choose(runs("a"), Bench({"a": 1}), Choices(("uniform", "greedy", "greedy_random")))
    assert "second_best" not in cooked
    assert {len(soup.ingredients) for soups in cooked.values() for soup in soups} == {1}


def test_rows_come_in_the_tables_order_whatever_the_recipes():
    bench = Bench({"a": 1, "b": 3, "c": 2})
    cooked = choose(runs("abc"), bench, Choices(("greedy_ensemble", "greedy", "uniform")))
    results = tabulate(cooked, bench)
    assert [row.method for row in results.rows] == [
        "best", "second_best", "mean_individual", "uniform", "greedy", "greedy_ensemble",
    ]  # fmt: skip
    assert [row.n_ingredients for row in results.rows] == [1, 1, 1, 3, 1, 1]
    ranked = ["best", "greedy", "second_best", "uniform", "greedy_ensemble"]
    assert bench.compared == [(method, against) for n, against in enumerate(ranked) for method in ranked[n + 1 :]]


def test_the_cost_of_an_ensemble_is_its_members():
    bench = Bench(dict.fromkeys("abcd", 1.0))
    results = tabulate(choose(runs("abcd"), bench, Choices(("uniform", "ensemble", "greedy_ensemble"))), bench)
    assert {row.method: row.inference_cost for row in results.rows}["ensemble"] == 4
    assert {row.method: row.inference_cost for row in results.rows}["greedy_ensemble"] == 4
    assert {row.method: row.inference_cost for row in results.rows}["uniform"] == 1


def test_random_orders_depend_on_their_seed_and_number_alone():
    def kept(orders: int, seed: int = 0) -> list[tuple[str, ...]]:
        bench = Bench(dict.fromkeys("abcdef", 1.0))
        soups = choose(runs("abcdef"), bench, Choices(("greedy_random",), orders, seed))["greedy_random"]
        return [tuple(i.name for i in soup.ingredients) for soup in soups]

    assert kept(5)[:2] == kept(2)
    assert len(set(kept(5))) > 1
    assert kept(5, seed=1) != kept(5)


def test_sd_is_over_orders():
    values: dict[str, float] = {"a": 0.0, "b": 1.0}

    def only_first(soup: Soup) -> float:
        return values[soup.ingredients[0].name] - len(soup.ingredients)  # nothing is ever added

    bench = Bench(values)
    bench.evaluate = as_evaluate(only_first)
    cooked = choose(runs("ab"), bench, Choices(("greedy_random",), random_orders=4))
    found = [only_first(soup) for soup in cooked["greedy_random"]]
    cell = tabulate(cooked, bench).row("greedy_random").scores["held_out"]
    mean = sum(found) / 4
    assert cell.value == mean
    assert cell.sd == pytest.approx((sum((value - mean) ** 2 for value in found) / 3) ** 0.5)
    assert cell.n_orders == 4


def test_steps_are_reported_as_they_happen():
    heard: list[tuple[str, str, bool]] = []
    report: Callable[..., None] = lambda method, step: heard.append((method, step.ingredient.name, step.accepted))  # noqa: E731
    choose(runs("ab"), Bench({"a": 1, "b": 2}), Choices(("greedy",)), on_step=report)
    assert heard == [
        ("best", "a", True), ("best", "b", True), ("greedy", "b", True), ("greedy", "a", False),
    ]  # fmt: skip
