from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from metric_references import simulated_shifts, splits, textbook_sandwich
from stockpot.errors import DataError, EvaluationError
from stockpot.metrics import mean_of_scores, nll, paired_difference, shift_mean
from stockpot.types import Score

often = settings(max_examples=60, deadline=None, derandomize=True)


# --- means of scores ---------------------------------------------------------------------------------------------


def test_mean_of_scores_weighs_splits_not_examples() -> None:
    mean = mean_of_scores([Score(0.2, 0.3, 10, 10, metric="m"), Score(0.8, 0.4, 1000, 1000, metric="m")])
    assert mean.value == 0.5
    assert mean.stderr == pytest.approx(0.25)
    assert (mean.n_examples, mean.n_evaluated, mean.metric) == (1010, 1010, "m")


def test_mean_of_one_score_is_that_score() -> None:
    score = nll([[0.3, 0.1], [0.2, 0.4]], [0, 0])
    assert mean_of_scores([score]) == score


def test_mean_of_scores_has_no_stderr_or_n_where_one_is_unknown() -> None:
    mean = mean_of_scores([Score(0.5, 0.1, 10), Score(0.7)])
    assert (mean.stderr, mean.n_examples) == (None, None)


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        ([], DataError, "no scores"),
        ([Score(math.nan, at_most=0.4)], EvaluationError, "abandoned"),
        ([Score(0.5, metric="accuracy"), Score(0.5, metric="nll")], EvaluationError, "different metrics"),
        ([Score(0.5), Score(0.5, higher_is_better=False)], EvaluationError, "score, lower is better"),
    ],
)
def test_mean_of_scores_refuses(scores: list[Score], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mean_of_scores(scores)


# --- clustered standard errors -----------------------------------------------------------------------------------


@often
@given(splits())
def test_shift_mean_is_the_sandwich_of_a_regression_on_splits(drawn: Any) -> None:
    values, ids = drawn
    score = shift_mean(values, ids)
    value, stderr = textbook_sandwich(values, ids)
    assert score.value == pytest.approx(value, abs=1e-12)
    assert score.stderr == pytest.approx(stderr, abs=1e-12)
    assert score.n_examples == sum(map(len, values))


def test_one_shift_of_distinct_items_is_sd_over_root_n() -> None:
    values = np.random.default_rng(4).random(50)
    score = shift_mean([values], [np.arange(50)])
    assert score.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(50), rel=1e-12)


def test_one_item_has_no_spread() -> None:
    assert shift_mean([[1.0]], [[0]]).stderr is None
    assert shift_mean([[1.0, 0.0], [1.0]], [["x", "x"], ["x"]]).stderr is None


def test_the_same_answers_under_every_shift_are_no_new_evidence() -> None:
    values, ids = np.random.default_rng(5).integers(0, 2, 40), np.arange(40)
    once = shift_mean([values], [ids])
    five_times = shift_mean([values] * 5, [ids] * 5)
    assert five_times.value == pytest.approx(once.value)
    assert five_times.stderr == pytest.approx(once.stderr)


def test_shifts_without_a_common_item_are_independent() -> None:
    generator = np.random.default_rng(6)
    values = [generator.random(400), generator.random(300)]
    apart = shift_mean(values, [np.arange(400), 1000 + np.arange(300)])
    alone = [shift_mean([v], [np.arange(len(v))]) for v in values]
    assert apart.stderr == pytest.approx(mean_of_scores(alone).stderr, rel=2e-3)  # G/(G-1) is taken once, not per split


def test_ids_may_be_strings_and_their_order_does_not_matter() -> None:
    values = [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    numbered = shift_mean(values, [[0, 1, 2], [0, 1, 2]])
    named = shift_mean(values, [["z", "y", "x"], ["z", "y", "x"]])
    assert named.stderr == pytest.approx(numbered.stderr)


def test_clustered_stderr_is_the_spread_over_fresh_samples_of_items() -> None:
    generator = np.random.default_rng(7)
    samples = [simulated_shifts(generator, 120) for _ in range(600)]
    scores = [shift_mean(a, ids) for a, _, ids in samples]
    differences = [paired_difference(a, b, ids) for a, b, ids in samples]
    for results in (scores, differences):
        spread = np.std([result.value for result in results])
        assert np.mean([result.stderr for result in results]) == pytest.approx(spread, rel=0.08)
    naive = [mean_of_scores([shift_mean([v], [i]) for v, i in zip(a, ids, strict=True)]) for a, _, ids in samples]
    assert np.mean([score.stderr for score in naive]) < 0.85 * np.std([score.value for score in naive])


@pytest.mark.parametrize(
    ("values", "ids", "error", "message"),
    [
        ([], [], DataError, "no splits"),
        ([[]], [[]], DataError, "no examples"),
        ([[1.0, 0.0]], [[1]], DataError, r"ids of shapes \[\[1\]\] do not fit values of lengths \[2\]"),
        ([[1.0], [0.0]], [[1]], DataError, "do not fit"),
        ([[1.0, math.nan]], [[1, 2]], EvaluationError, "1 of 2 values are not finite"),
    ],
)
def test_shift_mean_refuses(values: Any, ids: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        shift_mean(values, ids)
