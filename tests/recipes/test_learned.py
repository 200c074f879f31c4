"""The learned soup as a pure function: laws on made gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stockpot.errors import ConfigError, EvaluationError
from stockpot.recipes import LearningOptions, learned, tensor_groups
from stockpot.types import CurvePoint, Ingredient, LossAndGradient

RUNS = [Ingredient(name, f"runs/{name}") for name in "abc"]


class Quadratic:
    """L = sum over rows |alpha_row - target|^2 + (beta - 1.2)^2, training and stopping part alike."""

    def __init__(self, target: list[float], groups: tuple[tuple[str, ...], ...] | None = None) -> None:
        self.target, self.groups, self.n_batches = np.array(target), groups, 3
        self.batches: list[int] = []

    def stopping_loss(self, coefficients: np.ndarray, logit_scale: float) -> float:
        return float(((coefficients - self.target) ** 2).sum() + (logit_scale - 1.2) ** 2)

    def __call__(self, coefficients: np.ndarray, logit_scale: float, batch: int) -> LossAndGradient:
        self.batches.append(batch)
        loss = self.stopping_loss(coefficients, logit_scale)
        return LossAndGradient(loss, 2 * (coefficients - self.target), 2 * (logit_scale - 1.2))


@pytest.mark.parametrize(
    ("parametrisation", "target", "expected"),
    [
        ("softmax", [0.7, 0.2, 0.1], [0.7, 0.2, 0.1]),
        ("sum_to_one", [1.4, -0.3, -0.1], [1.4, -0.3, -0.1]),
        ("free", [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]),
        # Not reachable: the nearest point of the plane where coefficients sum to one.
        ("sum_to_one", [0.9, 0.5, 0.1], [0.9 - 0.5 / 3, 0.5 - 0.5 / 3, 0.1 - 0.5 / 3]),
    ],
)
def test_each_parametrisation_finds_its_minimum(parametrisation: str, target, expected) -> None:
    options = LearningOptions(parametrisation, learning_rate=0.02, least_steps=1500, check_every=100)
    soup = learned(RUNS, Quadratic(target), options)
    np.testing.assert_allclose(list(soup.coefficients), expected, atol=2e-3)
    assert soup.logit_scale == pytest.approx(1.2, abs=2e-3)


def test_each_group_has_its_own_row() -> None:
    groups = (("a.weight", "a.bias"), ("b.weight",))
    gradient = Quadratic([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], groups)
    soup = learned(RUNS, gradient, recipe="learned_by_layer")
    assert soup.coefficients.groups == groups
    assert soup.recipe == "learned_by_layer"
    assert soup.coefficients.row_of("a.bias")[0] == pytest.approx(0.8, abs=0.02)
    assert soup.coefficients.row_of("b.weight")[2] == pytest.approx(0.8, abs=0.02)


def test_nothing_compared_is_better_and_equal_points_keep_the_first() -> None:
    seen: list[CurvePoint] = []
    soup = learned(RUNS, Quadratic([0.0, 1.0, 0.0]), on_point=seen.append)
    assert soup.curve == tuple(seen)
    loss = Quadratic([0.0, 1.0, 0.0]).stopping_loss(np.array([list(soup.coefficients)]), soup.logit_scale)
    assert loss == min(point.stopping_loss for point in soup.curve)
    kept = [point.stopping_loss for point in soup.curve if point.kept]
    assert kept == sorted(kept, reverse=True)

    class Flat(Quadratic):
        def stopping_loss(self, coefficients: np.ndarray, logit_scale: float) -> float:
            return 0.5

    flat = learned(RUNS, Flat([1, 0, 0]))
    assert list(flat.coefficients) == pytest.approx([1 / 3] * 3)
    assert [point.label for point in flat.curve if point.kept] == ["uniform"]


def test_a_single_ingredient_that_is_best_is_returned_whole() -> None:
    class Corner(Quadratic):
        """Only the corners are good; the way down leads elsewhere."""

        def stopping_loss(self, coefficients: np.ndarray, logit_scale: float) -> float:
            return 0.0 if coefficients[0].tolist() == [0.0, 0.0, 1.0] else 1.0

    soup = learned(RUNS, Corner([1.0, 0.0, 0.0]))
    assert list(soup.coefficients) == [0.0, 0.0, 1.0]
    assert [ingredient.name for ingredient in soup.ingredients] == ["a", "b", "c"]


def test_the_schedule_is_at_least_500_steps_and_five_passes() -> None:
    gradient = Quadratic([0.4, 0.3, 0.3])
    learned(RUNS, gradient)
    assert gradient.batches == list(range(500))
    gradient = Quadratic([0.4, 0.3, 0.3])
    gradient.n_batches = 130
    learned(RUNS, gradient)
    assert gradient.batches == list(range(650))


def test_patience_ends_early_and_none_does_not() -> None:
    class Worse(Quadratic):
        def stopping_loss(self, coefficients: np.ndarray, logit_scale: float) -> float:
            return 1.0 + abs(logit_scale - 1.0) + abs(coefficients[0, 0] - 1 / 3)

    patient, stubborn = Worse([1, 0, 0]), Worse([1, 0, 0])
    learned(RUNS, patient, LearningOptions(check_every=10, patience=3))
    learned(RUNS, stubborn, LearningOptions(check_every=10, patience=None))
    # Three ingredients were looked at after uniform, all worse; they do not count against the steps.
    assert len(patient.batches) == 30
    assert len(stubborn.batches) == 500


def test_a_search_that_diverges_keeps_what_it_had() -> None:
    class Diverges(Quadratic):
        def __call__(self, coefficients: np.ndarray, logit_scale: float, batch: int) -> LossAndGradient:
            found = super().__call__(coefficients, logit_scale, batch)
            return LossAndGradient(math.nan, found.gradient, 0.0) if batch == 40 else found

    gradient = Diverges([0.7, 0.2, 0.1])
    soup = learned(RUNS, gradient, LearningOptions(check_every=20))
    assert gradient.batches[-1] == 40
    assert [point.label for point in soup.curve][-1] == "step 40"
    assert any(point.kept for point in soup.curve if point.label.startswith("step"))


def test_no_finite_start_is_an_error() -> None:
    class Broken(Quadratic):
        def stopping_loss(self, coefficients: np.ndarray, logit_scale: float) -> float:
            return math.nan

    with pytest.raises(EvaluationError, match="finite loss"):
        learned(RUNS, Broken([1, 0, 0]))


def test_the_same_question_gets_the_same_answer() -> None:
    assert learned(RUNS, Quadratic([0.7, 0.2, 0.1])) == learned(RUNS, Quadratic([0.7, 0.2, 0.1]))


def test_the_logit_scale_can_be_left_alone() -> None:
    assert learned(RUNS, Quadratic([0.7, 0.2, 0.1]), LearningOptions(learn_logit_scale=False)).logit_scale == 1.0


def test_one_ingredient_is_itself() -> None:
    soup = learned(RUNS[:1], Quadratic([1.0]), LearningOptions(least_steps=25, learn_logit_scale=False))
    assert list(soup.coefficients) == [1.0]


def test_all_bad_options_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        LearningOptions("hardmax", learning_rate=0, weight_decay=-1, epochs=0, least_steps=0, check_every=0, patience=0)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 7


def test_groups_by_block_follow_the_names() -> None:
    names = ["m.embed.word.weight", "m.layer.0.q.weight", "m.layer.0.q.bias", "m.layer.10.q.weight", "head.weight", "x"]
    assert tensor_groups(names, "block") == (
        ("m.embed.word.weight",), ("m.layer.0.q.weight", "m.layer.0.q.bias"), ("m.layer.10.q.weight",),
        ("head.weight",), ("x",),
    )  # fmt: skip
    assert tensor_groups(names, "tensor") == tuple((name,) for name in names)
    with pytest.raises(ConfigError, match="granularity is 'layer'"):
        tensor_groups(names, "layer")  # type: ignore[arg-type]
