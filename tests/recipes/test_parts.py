from __future__ import annotations

from dataclasses import replace

from stockpot.recipes import add_share, single, uniform
from stockpot.types import Coefficients, Ingredient

RUNS = [Ingredient(name, f"runs/{name}") for name in "abcd"]


def test_adding_shares_one_by_one_is_the_uniform_soup() -> None:
    soup = single(RUNS[0], recipe="uniform")
    for ingredient in RUNS[1:]:
        soup = add_share(soup, ingredient)
    assert soup == uniform(RUNS)


def test_a_share_of_what_is_in_already_counts_twice() -> None:
    soup = add_share(uniform(RUNS[:2]), RUNS[0])
    assert soup.ingredients == (RUNS[0], RUNS[1], RUNS[0])
    assert soup.coefficients == Coefficients.equal(3)


def test_a_share_keeps_recipe_and_way_of_combining() -> None:
    soup = add_share(replace(single(RUNS[0], recipe="greedy_ensemble", combine="logits"), logit_scale=2.0), RUNS[1])
    assert (soup.recipe, soup.combine, soup.logit_scale) == ("greedy_ensemble", "logits", 2.0)
