from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.recipes import best
from stockpot.types import Ingredient, Score

RUNS = [Ingredient(name, f"runs/{name}") for name in "abcd"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=8), st.booleans())
def test_is_the_first_of_the_highest(utilities: list[int], higher_is_better: bool) -> None:
    runs = [Ingredient(str(position), "") for position in range(len(utilities))]
    sign = 1 if higher_is_better else -1
    soup = best(
        runs,
        lambda soup: Score(sign * utilities[int(soup.ingredients[0].name)], higher_is_better=higher_is_better),
    )
    winner = utilities.index(max(utilities))
    assert soup.ingredients == (runs[winner],)
    assert [step.accepted for step in soup.steps] == [position == winner for position in range(len(runs))]


def test_listener_hears_who_leads_so_far_and_the_record_keeps_the_winner() -> None:
    accuracy = {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.6}
    heard: list[tuple[str, bool]] = []
    soup = best(
        RUNS,
        lambda soup: accuracy[soup.ingredients[0].name],
        on_step=lambda step: heard.append((step.ingredient.name, step.accepted)),
    )
    assert heard == [("a", True), ("b", False), ("c", True), ("d", False)]
    assert [step.ingredient.name for step in soup.steps if step.accepted] == ["c"]
