from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.ensembles import combine_logits, ensemble_evaluate
from stockpot.errors import BlendError, EvaluationError
from stockpot.metrics import METRICS, accuracy, nll
from stockpot.recipes import add_share, best, ensemble, greedy, single, uniform
from stockpot.types import Coefficients, Ingredient, Predictions, Soup

often = settings(max_examples=150, deadline=None, derandomize=True)


def runs(k: int) -> list[Ingredient]:
    return [Ingredient(str(number), f"runs/{number}") for number in range(k)]


class Kitchen:
    """Random logits of k ingredients on n examples; counts what is read."""

    def __init__(self, seed: int, k: int, n: int = 12, n_classes: int = 3) -> None:
        generator = np.random.default_rng(seed)
        self.labels = generator.integers(0, n_classes, n)
        self.logits = generator.normal(size=(k, n, n_classes)).astype(np.float32)
        self.asked: list[Soup] = []

    def predictions(self, soup: Soup) -> Predictions:
        self.asked.append(soup)
        return Predictions(self.logits[int(soup.ingredients[0].name)], self.labels)


def with_coefficients(soup: Soup, values: Sequence[float]) -> Soup:
    return replace(soup, coefficients=Coefficients.of(values))


# --- combine_logits ----------------------------------------------------------------------------------------------


@often
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_equal_shares_are_summed_wide_divided_once_rounded_once(seed: int, k: int) -> None:
    logits = Kitchen(seed, k).logits
    expected = np.empty(logits.shape[1:], np.float32)
    for place in np.ndindex(*expected.shape):
        total = float(logits[(0, *place)])
        for number in range(1, k):
            total += float(logits[(number, *place)])
        expected[place] = np.float32(total / k)
    combined = combine_logits(ensemble(runs(k)), list(logits))
    assert combined.dtype == np.float32
    assert combined.tobytes() == expected.tobytes()


@pytest.mark.parametrize("k", [1, 2, 3, 7, 10])
def test_copies_combine_to_the_original_to_the_bit(k: int) -> None:
    logits = Kitchen(1, 1).logits[0]
    logits[0, 0] = -0.0
    assert combine_logits(ensemble(runs(k)), [logits] * k).tobytes() == logits.tobytes()


@pytest.mark.parametrize("position", range(3))
def test_a_single_coefficient_of_1_is_the_identity_to_the_bit(position: int) -> None:
    logits = Kitchen(2, 3).logits
    logits[position, 0, 0] = -0.0
    logits[(position + 1) % 3, 0, 1] = -np.inf  # 0 times infinity must not show
    soup = with_coefficients(ensemble(runs(3)), np.eye(3)[position])
    assert combine_logits(soup, list(logits)).tobytes() == logits[position].tobytes()


def test_unequal_coefficients_and_logit_scale() -> None:
    logits = Kitchen(3, 3).logits
    soup = replace(with_coefficients(ensemble(runs(3)), [0.5, -0.25, 0.75]), logit_scale=2.5)
    expected = 2.5 * np.einsum("i,inc->nc", np.array([0.5, -0.25, 0.75]), logits.astype(np.float64))
    np.testing.assert_allclose(combine_logits(soup, list(logits)), expected, rtol=1e-6)


def test_coefficients_of_0_alone_give_0() -> None:
    combined = combine_logits(with_coefficients(ensemble(runs(2)), [0.0, 0.0]), list(Kitchen(4, 2).logits))
    assert combined.shape == (12, 3)
    assert not combined.any()


def test_logits_that_float32_cannot_hold_are_refused() -> None:
    soup = with_coefficients(ensemble(runs(2)), [2.0, 1.0])
    with pytest.raises(EvaluationError, match="'0', '1' reach 9e\\+38, beyond float32"):
        combine_logits(soup, [np.full((1, 2), 3e38, np.float32)] * 2)


def test_another_number_of_arrays_is_refused() -> None:
    with pytest.raises(EvaluationError, match="1 arrays of logits for 2 ingredients"):
        combine_logits(ensemble(runs(2)), [np.zeros((1, 2), np.float32)])


def test_every_shape_that_differs_is_listed() -> None:
    shapes = [(2, 3), (2, 4), (2, 3), (1, 3)]
    with pytest.raises(EvaluationError, match="different shapes") as raised:
        combine_logits(ensemble(runs(4)), [np.zeros(shape, np.float32) for shape in shapes])
    assert raised.value.problems == ("[2, 4] in '1' but [2, 3] in '0'", "[1, 3] in '3' but [2, 3] in '0'")


def test_nan_is_refused_by_ingredient_even_at_coefficient_0() -> None:
    logits = Kitchen(5, 3).logits
    logits[1, 0, 0] = np.nan
    with pytest.raises(EvaluationError, match="NaN among the logits of '1'"):
        combine_logits(with_coefficients(ensemble(runs(3)), [0.5, 0.0, 0.5]), list(logits))


def test_coefficients_by_group_mean_nothing_for_logits() -> None:
    by_group = Coefficients(((0.5, 0.5), (0.2, 0.8)), (("body",), ("head",)))
    with pytest.raises(BlendError, match="by group"):
        combine_logits(replace(ensemble(runs(2)), coefficients=by_group), list(Kitchen(6, 2).logits))


# --- ensemble_evaluate -------------------------------------------------------------------------------------------


def brute_force_greedy(logits: Any, labels: Any, metric: str) -> list[int]:
    """The greedy ensemble over arrays: no soups, no incumbents, every mean from scratch."""

    def utility(chosen: list[int]) -> float:
        mean = sum(logits[i].astype(np.float64) for i in chosen) / len(chosen)
        return METRICS[metric](mean.astype(np.float32), labels).utility

    first, *rest = sorted(range(len(logits)), key=lambda i: -utility([i]))
    chosen = [first]
    for candidate in rest:
        if utility([*chosen, candidate]) >= utility(chosen):
            chosen.append(candidate)
    return chosen


@often
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from(["accuracy", "brier", "nll"]))
def test_the_greedy_ensemble_equals_brute_force(seed: int, k: int, metric: str) -> None:
    kitchen = Kitchen(seed, k)
    evaluate = ensemble_evaluate(kitchen.predictions, METRICS[metric])
    soup = greedy(runs(k), evaluate, combine="logits")
    expected = brute_force_greedy(kitchen.logits, kitchen.labels, metric)
    assert [int(ingredient.name) for ingredient in soup.ingredients] == expected
    final = METRICS[metric](combine_logits(soup, [kitchen.logits[i] for i in expected]), kitchen.labels)
    assert [step.score for step in soup.steps if step.accepted][-1] == final


@often
@given(st.integers(0, 2**32), st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=8))
def test_the_running_sum_never_shows(seed: int, questions: list[list[int]]) -> None:
    """Whatever was asked before, in any order, with duplicates: the score is that of a fresh combination."""
    kitchen, pantry = Kitchen(seed, 5), runs(5)
    evaluate = ensemble_evaluate(kitchen.predictions, nll)
    for question in questions:
        soup = ensemble([pantry[i] for i in question])
        fresh = nll(combine_logits(soup, [kitchen.logits[i] for i in question]), kitchen.labels)
        assert evaluate(soup) == fresh


def test_a_step_reads_one_ingredient_and_one_more_after_an_acceptance() -> None:
    kitchen, pantry = Kitchen(7, 6), runs(6)
    evaluate = ensemble_evaluate(kitchen.predictions, accuracy)
    soup = single(pantry[0], combine="logits")
    evaluate(soup)
    for candidate in pantry[1:]:
        kitchen.asked.clear()
        evaluate(add_share(soup, candidate))
        assert [asked.ingredients[0] for asked in kitchen.asked] == [soup.ingredients[-1], candidate]
        kitchen.asked.clear()
        evaluate(add_share(soup, pantry[0]))
        assert len(kitchen.asked) == 1
        soup = add_share(soup, candidate)


def test_predictions_are_asked_for_individuals_as_the_journal_knows_them() -> None:
    kitchen, pantry = Kitchen(8, 3), runs(3)
    ensemble_evaluate(kitchen.predictions, accuracy)(ensemble(pantry))
    assert kitchen.asked == [single(ingredient) for ingredient in pantry]
    assert {soup.combine for soup in kitchen.asked} == {"weights"}


def test_unequal_coefficients_are_scored_too() -> None:
    kitchen = Kitchen(9, 2)
    soup = with_coefficients(ensemble(runs(2)), [0.9, 0.1])
    expected = nll(combine_logits(soup, list(kitchen.logits)), kitchen.labels)
    assert ensemble_evaluate(kitchen.predictions, nll)(soup) == expected


def test_the_logits_in_the_cache_are_left_alone() -> None:
    kitchen = Kitchen(10, 5)
    before = kitchen.logits.tobytes()
    greedy(runs(5), ensemble_evaluate(kitchen.predictions, accuracy), combine="logits")
    assert kitchen.logits.tobytes() == before


def test_best_may_be_asked_for_with_the_same_evaluate() -> None:
    kitchen = Kitchen(11, 4)
    soup = best(runs(4), ensemble_evaluate(kitchen.predictions, accuracy))
    scores = [accuracy(logits, kitchen.labels).value for logits in kitchen.logits]
    assert soup.ingredients[0].name == str(int(np.argmax(scores)))


def test_a_soup_of_weights_is_refused() -> None:
    evaluate = ensemble_evaluate(Kitchen(12, 2).predictions, accuracy)
    with pytest.raises(EvaluationError, match="'0', '1' combines weights") as raised:
        evaluate(uniform(runs(2)))
    assert 'combine="logits"' in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1, 1], "1 of 3 differ"), ([0, 1], r"\[3\] and \[2\]")], ids=["values", "length"]
)
def test_labels_must_agree(labels: list[int], message: str) -> None:
    def predictions(soup: Soup) -> Predictions:
        mine = [0, 1, 0] if soup.ingredients[0].name == "0" else labels
        return Predictions(np.zeros((3, 2), np.float32), np.array(mine))

    with pytest.raises(EvaluationError, match="'0' and '1' were not scored on the same labels: .*" + message):
        ensemble_evaluate(predictions, accuracy)(ensemble(runs(2)))


def test_shapes_must_agree() -> None:
    def predictions(soup: Soup) -> Predictions:
        return Predictions(np.zeros((3, 2 + int(soup.ingredients[0].name)), np.float32), np.array([0, 1, 0]))

    with pytest.raises(EvaluationError, match=r"\[3, 3\] in '1' but \[3, 2\] in '0'"):
        ensemble_evaluate(predictions, accuracy)(ensemble(runs(2)))


def test_nan_names_its_ingredient() -> None:
    kitchen = Kitchen(13, 3)
    kitchen.logits[2, 0, 0] = np.nan
    with pytest.raises(EvaluationError, match="NaN among the logits of '2'"):
        greedy(runs(3), ensemble_evaluate(kitchen.predictions, accuracy), combine="logits")


def test_opposite_infinities_are_refused_by_the_metric() -> None:
    kitchen = Kitchen(14, 2)
    kitchen.logits[0, 0, 0], kitchen.logits[1, 0, 0] = np.inf, -np.inf
    with pytest.raises(EvaluationError, match="logits of 1 of 12 examples are NaN"):
        ensemble_evaluate(kitchen.predictions, accuracy)(ensemble(runs(2)))
