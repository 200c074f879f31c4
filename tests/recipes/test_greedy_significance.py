"""Acceptance by a paired test: a gain is kept only where the evaluation believes it."""

from __future__ import annotations

import pytest

from stockpot.errors import ConfigError, EvaluationError
from stockpot.recipes import greedy
from stockpot.types import Incumbent, Ingredient, PairedGain, Score, Soup

RUNS = [Ingredient(name, f"runs/{name}") for name in "abc"]
SCORES = {"a": 0.70, "b": 0.60, "c": 0.50, "ab": 0.72, "abc": 0.73, "ac": 0.75}
P = {"ab": 0.20, "abc": 0.01, "ac": 0.01}


def evaluate(soup: Soup, *, against: Incumbent | None = None) -> Score:
    name = "".join(ingredient.name for ingredient in soup.ingredients)
    paired = None if against is None else PairedGain(SCORES[name] - against.score.value, 0.01, P[name], 3)
    return Score(SCORES[name], paired=paired)


def names(soup: Soup) -> str:
    return "".join(ingredient.name for ingredient in soup.ingredients)


def test_a_gain_that_is_not_believed_is_left_out() -> None:
    assert names(greedy(RUNS, evaluate)) == "abc"
    assert names(greedy(RUNS, evaluate, significance=0.05)) == "ac"
    assert names(greedy(RUNS, evaluate, significance=0.5)) == "abc"


def test_a_loss_is_never_kept_however_sure() -> None:
    def falling(soup: Soup, *, against: Incumbent | None = None) -> Score:
        return Score(1.0 / len(soup.ingredients), paired=PairedGain(-0.5, 0.01, 0.001) if against else None)

    assert names(greedy(RUNS, falling, significance=0.05)) == "a"


def test_scores_without_examples_are_refused_where_a_test_is_wanted() -> None:
    with pytest.raises(EvaluationError, match="paired test needs an evaluation by example"):
        greedy(RUNS, lambda soup: float(len(soup.ingredients)), significance=0.05)


@pytest.mark.parametrize("significance", [0.0, 1.0, -0.1, float("nan")])
def test_a_significance_out_of_range_is_refused(significance: float) -> None:
    with pytest.raises(ConfigError, match="options"):
        greedy(RUNS, evaluate, significance=significance)


def test_steps_say_how_sure_they_are() -> None:
    first, *others = greedy(RUNS, evaluate).steps
    assert first.score.paired is None
    assert [step.score.paired.p for step in others] == [0.20, 0.01]
