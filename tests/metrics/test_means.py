from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stockpot.errors import ConfigError, DataError, EvaluationError
from stockpot.metrics import (
    METRICS,
    Difference,
    accuracy,
    mcnemar_exact,
    mean_of_scores,
    nll,
    paired_difference,
    per_example,
    shift_mean,
)
from stockpot.types import Score

often = settings(max_examples=150, deadline=None, derandomize=True)
every_metric = pytest.mark.parametrize("metric", list(METRICS))


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Any, Any]:
    """Logits with many ties and some extremes, and labels that fit them."""
    n, n_classes = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    values = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e4, 1e4, width=32))
    logits = draw(hnp.arrays(np.float32, (n, n_classes), elements=values))
    return logits, draw(hnp.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)))


# --- against references ------------------------------------------------------------------------------------------


@often
@given(predictions())
def test_accuracy_counts_like_scikit_learn(drawn: Any) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = drawn
    score = accuracy(logits, labels)
    assert score.value == sklearn_metrics.accuracy_score(labels, logits.argmax(axis=1))
    assert score.stderr == pytest.approx(math.sqrt(score.value * (1 - score.value) / len(labels)), abs=1e-15)
    assert (score.n_examples, score.n_evaluated, score.metric) == (len(labels), len(labels), "accuracy")
    assert score.higher_is_better


def textbook_nll(row: Any, label: int) -> float:
    """In Python's own numbers, with the sum over classes exactly rounded."""
    top = max(map(float, row))
    return math.log(math.fsum(math.exp(float(logit) - top) for logit in row)) - (float(row[label]) - top)


@often
@given(predictions())
def test_nll_is_the_textbooks(drawn: Any) -> None:
    logits, labels = drawn
    each = [textbook_nll(row, label) for row, label in zip(logits, labels, strict=True)]
    score = nll(logits, labels)
    assert score.value == pytest.approx(math.fsum(each) / len(each), rel=1e-12, abs=1e-12)
    assert score.value >= 0
    assert not score.higher_is_better
    if len(each) > 1:
        assert score.stderr == pytest.approx(np.std(each, ddof=1) / math.sqrt(len(each)), rel=1e-9, abs=1e-12)


def test_nll_agrees_with_scikit_learn() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(200, 4)), generator.integers(0, 4, 200)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = sklearn_metrics.log_loss(labels, probabilities, labels=range(4))
    assert nll(logits, labels).value == pytest.approx(expected, rel=1e-12)


@every_metric
def test_a_metric_is_the_mean_of_its_values_per_example(metric: str) -> None:
    generator = np.random.default_rng(1)
    logits, labels = generator.normal(size=(300, 3)).astype(np.float32), generator.integers(0, 3, 300)
    values = per_example(metric)(logits, labels)
    assert values.shape == (300,)
    assert values.dtype == np.float64
    assert METRICS[metric](logits, labels).value == math.fsum(values) / 300
    assert METRICS[metric](logits, labels).metric == metric


@every_metric
def test_the_order_of_the_rows_does_not_show(metric: str) -> None:
    generator = np.random.default_rng(2)
    logits, labels = generator.normal(size=(500, 3)).astype(np.float32), generator.integers(0, 3, 500)
    order = generator.permutation(500)
    assert METRICS[metric](logits, labels) == METRICS[metric](logits[order], labels[order])


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_stderr_is_the_spread_of_the_score_over_fresh_samples(metric: str) -> None:
    generator = np.random.default_rng(3)
    scores = []
    for _ in range(600):
        labels = generator.integers(0, 2, 150)
        logits = generator.normal(size=(150, 2)) + 0.8 * np.eye(2)[labels]
        scores.append(METRICS[metric](logits, labels))
    assert np.mean([score.stderr for score in scores]) == pytest.approx(np.std([s.value for s in scores]), rel=0.08)


# --- degenerate input --------------------------------------------------------------------------------------------


def test_ties_go_to_the_first_class() -> None:
    assert accuracy([[1.0, 1.0], [1.0, 1.0]], [0, 1]).value == 0.5


@pytest.mark.parametrize(("label", "value"), [(0, 1.0), (1, 0.0)])
@pytest.mark.parametrize("n", [1, 2, 3, 49])
def test_all_or_none_right_has_a_binomial_stderr_of_exactly_0(label: int, value: float, n: int) -> None:
    score = accuracy([[2.0, 1.0]] * n, [label] * n)
    assert (score.value, score.stderr) == (value, 0.0)


def test_one_example_has_no_spread() -> None:
    assert nll([[0.0, 0.0]], [0]).stderr is None
    assert shift_mean([[1.0]], [[0]]).stderr is None
    assert paired_difference([[1.0]], [[0.0]], [["x"]]) == Difference(1.0, None, 1, 1)


def test_one_class_is_always_right() -> None:
    assert accuracy([[3.0], [-1.0]], [0, 0]).value == 1.0
    assert nll([[3.0], [-1.0]], [0, 0]).value == 0.0


def test_nll_of_huge_logits_neither_overflows_nor_vanishes() -> None:
    assert nll(np.float32([[3e38, -3e38]]), [0]).value == 0.0
    assert nll(np.float32([[3e38, 0.0]]), [1]).value == pytest.approx(3e38, rel=1e-6)
    assert nll([[1e4, 0.0]], [1]).value == 1e4


def test_a_masked_class_is_no_obstacle() -> None:
    logits = [[0.0, -math.inf, 0.0]]
    assert accuracy(logits, [0]).value == 1.0
    assert nll(logits, [2]).value == pytest.approx(math.log(2))


@pytest.mark.parametrize("logits", [[[0.0, -math.inf]], [[-math.inf, -math.inf]], [[math.inf, math.inf]]])
def test_a_label_of_probability_0_is_refused(logits: Any) -> None:
    with pytest.raises(EvaluationError, match="1 of 2 examples: infinite logits"):
        nll([[0.0, 0.0], *logits], [0, 1])


@every_metric
@pytest.mark.parametrize("function", [METRICS.__getitem__, per_example], ids=["metric", "per example"])
class TestBadInput:
    def test_nan_is_counted(self, metric: str, function: Any) -> None:
        with pytest.raises(EvaluationError, match="the logits of 2 of 3 examples are NaN"):
            function(metric)([[math.nan, 0.0], [0.0, 1.0], [math.nan, math.nan]], [0, 0, 0])

    @pytest.mark.parametrize("logits", [[], np.zeros((0, 3))])
    def test_no_examples(self, metric: str, function: Any, logits: Any) -> None:
        with pytest.raises(DataError, match="no examples to score"):
            function(metric)(logits, [])

    @pytest.mark.parametrize(
        ("logits", "labels"),
        [
            (np.zeros((3, 2)), [0, 1]),
            (np.zeros(3), [0, 0, 0]),
            (np.zeros((2, 0)), [0, 0]),
            (np.zeros((2, 2)), [[0], [1]]),
            (np.zeros((2, 2, 2)), [0, 1]),
        ],
    )
    def test_shapes_show_both_sides(self, metric: str, function: Any, logits: Any, labels: Any) -> None:
        with pytest.raises(DataError, match="do not fit") as raised:
            function(metric)(logits, labels)
        assert str(list(np.shape(logits))) in str(raised.value)
        assert str(list(np.shape(labels))) in str(raised.value)

    @pytest.mark.parametrize("label", [-1, 2])
    def test_labels_out_of_range(self, metric: str, function: Any, label: int) -> None:
        with pytest.raises(DataError, match=rf"1 of 3 labels lie outside 0 .. 1, the first is {label} in row 2"):
            function(metric)(np.zeros((3, 2)), [0, 1, label])

    def test_labels_that_are_no_integers(self, metric: str, function: Any) -> None:
        with pytest.raises(DataError, match="labels are float64, not integers"):
            function(metric)(np.zeros((2, 2)), [0.0, 1.0])


def test_an_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="use one of: accuracy, nll"):
        per_example("f1")


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


def textbook_sandwich(values_by_split: list[Any], ids_by_split: list[Any]) -> tuple[float, float]:
    """(X'WX)^-1 (sum_g X_g'W_g e_g e_g'W_g X_g) (X'WX)^-1 G/(G-1) of a regression on split dummies, then the mean."""
    n_splits = len(values_by_split)
    y = np.concatenate(values_by_split)
    split_of = np.repeat(np.arange(n_splits), [len(values) for values in values_by_split])
    x = np.eye(n_splits)[split_of]
    ids = np.concatenate(ids_by_split)
    bread = np.linalg.inv(x.T @ x)
    means = bread @ x.T @ y
    residuals = y - x @ means
    clusters = sorted(set(ids.tolist()))
    meat = np.zeros((n_splits, n_splits))
    for cluster in clusters:
        score = x[ids == cluster].T @ residuals[ids == cluster]
        meat += np.outer(score, score)
    covariance = bread @ meat @ bread * len(clusters) / (len(clusters) - 1)
    weights = np.full(n_splits, 1 / n_splits)
    return float(weights @ means), float(np.sqrt(weights @ covariance @ weights))


@st.composite
def splits(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """1 to 4 splits of unequal size whose items overlap in part; an item may occur twice in a split."""
    sizes = draw(st.lists(st.integers(2, 9), min_size=1, max_size=4))
    values = [draw(hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0, 0.25]))) for n in sizes]
    ids = [draw(hnp.arrays(np.int64, n, elements=st.integers(0, 11))) for n in sizes]
    ids[0][0], ids[0][1] = 12, 13  # at least two items
    return values, ids


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


def simulated_shifts(generator: np.random.Generator, n_items: int, *, gap: float = 0.0) -> Any:
    """Right or wrong under 3 shifts of two methods on the same items, whose difficulty they share."""
    difficulty = generator.normal(size=n_items)
    kept = [generator.random(n_items) < share for share in (1.0, 0.8, 0.6)]
    ids = [np.flatnonzero(chosen) for chosen in kept]
    a, b = (
        [(difficulty[i] + 0.7 * generator.normal(size=len(i)) + offset > 0).astype(float) for i in ids]
        for offset in (0.4 + gap, 0.4)
    )
    return a, b, ids


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


# --- paired comparison -------------------------------------------------------------------------------------------


@often
@given(splits(), st.randoms(use_true_random=False))
def test_paired_difference_is_the_clustered_mean_of_differences(drawn: Any, random: Any) -> None:
    a, ids = drawn
    b = [np.array([random.choice([0.0, 1.0]) for _ in values]) for values in a]
    difference = paired_difference(a, b, ids)
    mirrored = paired_difference(b, a, ids)
    value, stderr = textbook_sandwich([x - y for x, y in zip(a, b, strict=True)], ids)
    assert difference.value == pytest.approx(value, abs=1e-12)
    assert difference.stderr == pytest.approx(stderr, abs=1e-12)
    assert difference.n_items == len(set(np.concatenate(ids).tolist()))
    assert (mirrored.value, mirrored.stderr) == (-difference.value, difference.stderr)


def test_a_method_against_itself_differs_by_nothing() -> None:
    difference = paired_difference([[1, 0, 1]], [[1, 0, 1]], [[0, 1, 2]])
    assert (difference.value, difference.stderr, difference.p_value) == (0.0, 0.0, 1.0)


def test_what_the_data_cannot_judge_has_no_p_value() -> None:
    assert Difference(1.0, 0.0, 2, 2).p_value is None  # two examples, the same difference on both
    assert Difference(1.0, None, 1, 1).p_value is None
    assert Difference(0.0, None, 1, 1).p_value is None


def test_p_values_are_right_where_nothing_differs() -> None:
    generator = np.random.default_rng(8)
    p_values = [paired_difference(*simulated_shifts(generator, 150)).p_value for _ in range(1000)]
    assert np.mean([p < 0.05 for p in p_values if p is not None]) == pytest.approx(0.05, abs=0.02)


def test_paired_difference_refuses_other_examples() -> None:
    with pytest.raises(DataError, match=r"have \[2\] and \[3\] examples"):
        paired_difference([[1, 0]], [[1, 0, 1]], [[0, 1]])


@pytest.mark.parametrize("only_a", range(7))
@pytest.mark.parametrize("only_b", range(7))
def test_mcnemar_counts_every_outcome(only_a: int, only_b: int) -> None:
    """Of all ways to toss the discordant examples: the share at least as lopsided as what was seen."""
    n = only_a + only_b
    seen = abs(only_a - only_b)
    tosses = list(itertools.product((-1, 1), repeat=n))
    expected = sum(abs(sum(toss)) >= seen for toss in tosses) / len(tosses)
    a = [1] * only_a + [0] * only_b + [1, 0, 1]
    b = [0] * only_a + [1] * only_b + [1, 0, 1]
    assert mcnemar_exact(a, b) == expected
    assert mcnemar_exact(np.array(a, bool), np.array(b, bool)) == expected


def test_mcnemar_of_many_discordant_examples_matches_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n, rarer in ((1000, 460), (5000, 2400), (3000, 3), (3001, 1500)):
        a = np.arange(n) < rarer
        assert mcnemar_exact(a, ~a) == pytest.approx(stats.binomtest(rarer, n).pvalue, rel=1e-9)


@pytest.mark.parametrize("right", [[], [0, 0], [1, 0, 1]])
def test_mcnemar_without_disagreement_is_exactly_1(right: list[int]) -> None:
    assert mcnemar_exact(right, right) == 1.0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([1, 0], [1], r"\[2\] and \[1\]"), ([0.5], [1.0], "right .1. or wrong .0."), ([math.nan], [1.0], "right")],
)
def test_mcnemar_refuses(a: Any, b: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mcnemar_exact(a, b)
