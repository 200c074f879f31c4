"""The model card: whole, true to the record, and every user string literal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import yaml

from stockpot.records import Cell, Row, SoupRecord
from stockpot.reports.card import model_card
from stockpot.reports.text import escape
from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

RUNS = tuple(
    Ingredient(f"run-{index}", f"org/run-{index}", {"learning_rate": 1e-4 * (index + 1), "epochs": 3}, "ab" * 32)
    for index in range(3)
)
STEPS = (
    Step(RUNS[1], Score(0.75, 0.01, 1000, metric="accuracy"), True),
    Step(RUNS[0], Score(0.76, 0.01, 1000, metric="accuracy"), True),
    Step(RUNS[2], Score(math.nan, n_examples=1000, n_evaluated=312, at_most=0.74, metric="accuracy"), False),
)
SOUP = Soup((RUNS[1], RUNS[0]), Coefficients.equal(2), "greedy", steps=STEPS)
ROW = Row("greedy", 2, 1, {"held_out": Cell(0.76, 0.0135, 1000), "shift:typos": Cell(0.62, 0.02, 500)})


def card(soup: Soup = SOUP, row: Row | None = ROW, output: dict[str, object] | None = None, **options) -> str:
    return model_card(SoupRecord(soup, output or {}), row, **{"title": "A soup", "metric": "accuracy", **options})


def front(text: str) -> dict[str, object]:
    return yaml.safe_load(text.split("---\n")[1])


def tables(text: str) -> list[list[str]]:
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [block for block in blocks if block[0].startswith("|")]


def test_every_table_is_well_formed(n_cells) -> None:
    found = tables(card())
    assert [len(table) for table in found] == [4, 4, 5]
    assert all(len({n_cells(line) for line in table}) == 1 for table in found)


def test_front_matter() -> None:
    assert front(card()) == {"tags": ["model-soup", "stockpot"]}
    assert front(card(output={"side_files": ["config.json"]}))["library_name"] == "transformers"
    assert front(card(output={"files": {"config.json": "ab"}}))["library_name"] == "transformers"
    assert front(card(task_family="text-classification", base_model="org/base: x"))["base_model"] == "org/base: x"


def test_loading_follows_the_task() -> None:
    assert "AutoModelForSequenceClassification.from_pretrained" in card(task_family="text-classification")
    assert "AutoModelForSeq2SeqLM.from_pretrained" in card(task_family="seq2seq-classification")
    assert front(card(task_family="seq2seq-classification"))["pipeline_tag"] == "text2text-generation"
    assert "load_file(file)" in card()


def test_the_loading_lines_are_python() -> None:
    for family in (None, "text-classification", "seq2seq-classification"):
        compile(card(task_family=family).split("```python\n")[1].split("```")[0], "card", "exec")


def test_ingredients_show_what_differs_and_say_what_does_not() -> None:
    (table, *_) = tables(card())
    assert "learning_rate" in table[0]
    assert "epochs" not in table[0]
    assert "Shared by all: epochs = 3." in card()
    assert "0.5" in table[2]
    assert "abababababab" in table[2]


def test_scores_in_percent_with_errors_and_n() -> None:
    (_, table, _) = tables(card())
    assert [cell.strip() for cell in table[3].split("|")[1:-1]] == ["typos", "62.0", "2.0", "500"]
    assert "optimistic" in card()


def test_the_log_tells_an_abandoned_candidate() -> None:
    assert "abandoned after 312 examples, at most 0.7400" in card()


def test_without_results_and_steps() -> None:
    text = card(replace(SOUP, steps=()), row=None)
    assert "## Scores" not in text
    assert "What was tried" not in text


def test_coefficients_by_group() -> None:
    soup = Soup(RUNS[:2], Coefficients(((0.2, 0.8), (0.4, 0.6)), (("a",), ("b",))), "learned_by_layer")
    assert "0.3 (0.2 to 0.4)" in card(soup)


def test_a_logit_scale_is_said() -> None:
    assert "Multiply the logits by 1.5" in card(replace(SOUP, logit_scale=1.5))


@pytest.mark.parametrize("recipe", ["best", "uniform", "greedy", "greedy_given", "greedy_random"])
def test_known_recipes_are_explained_and_the_paper_is_named(recipe: str) -> None:
    text = card(replace(SOUP, recipe=recipe))
    assert f"Recipe *{recipe}*. " in text
    assert "arXiv:2203.05482" in text


def test_one_ingredient_is_no_soup() -> None:
    assert "no other ingredient" in card(Soup(RUNS[:1], Coefficients.equal(1), "best"))


def test_user_strings_are_text(n_cells) -> None:
    evil = "<script>|`\n# x"
    hostile = (Ingredient(evil, evil, {evil: evil, "other": 1}, evil), Ingredient("b", "b", {evil: 2}))
    steps = (Step(hostile[0], Score(0.5, metric=evil), True),)
    soup = Soup(hostile, Coefficients.equal(2), evil, steps=steps)
    row = Row("greedy", 2, 1, {f"shift:{evil}": Cell(0.5, None, None)})
    text = card(soup, row, {"dtype": evil}, title=evil, metric=evil)
    assert "<script>" not in text.replace("\\", "")
    assert all(len({n_cells(line) for line in table}) == 1 for table in tables(text))
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# " + escape(evil)]


def test_equal_records_give_equal_cards() -> None:
    assert card() == card(Soup(tuple(SOUP.ingredients), SOUP.coefficients, "greedy", steps=STEPS))
