from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_references import predictions, textbook_nll
from stockpot.errors import ConfigError, DataError, EvaluationError, MissingExtraError
from stockpot.metrics import METRICS, accuracy, brier, f1, matthews, nll, per_example, top_k

often = settings(max_examples=50, deadline=None, derandomize=True)
CLASS_METRICS = [name for name, metric in METRICS.items() if metric.kind == "classes"]
MEANS = [name for name in CLASS_METRICS if METRICS[name].per_example]
TWO_CLASSES = ("f1", "accuracy_and_f1")
every_metric = pytest.mark.parametrize("metric", CLASS_METRICS)


def random_predictions(metric: str, n: int, seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    k = 2 if metric in TWO_CLASSES else 3
    return generator.normal(size=(n, k)).astype(np.float32), generator.integers(0, k, n)


# --- against references ------------------------------------------------------------------------------------------


def binomial_stderr(share: float, n: int) -> Any:
    return None if n == 1 else pytest.approx(math.sqrt(share * (1 - share) / n), abs=1e-15)


@often
@given(predictions())
def test_accuracy_counts_like_scikit_learn(drawn: Any) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = drawn
    score = accuracy(logits, labels)
    assert score.value == sklearn_metrics.accuracy_score(labels, logits.argmax(axis=1))
    assert score.stderr == binomial_stderr(score.value, len(labels))
    assert (score.n_examples, score.n_evaluated, score.metric) == (len(labels), len(labels), "accuracy")
    assert score.higher_is_better


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


@often
@given(predictions())
def test_brier_is_the_textbooks(drawn: Any) -> None:
    logits, labels = drawn
    each = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        powers = [math.exp(logit - max(row)) for logit in row]
        each.append(sum((power / sum(powers) - (k == label)) ** 2 for k, power in enumerate(powers)))
    score = brier(logits, labels)
    assert score.value == pytest.approx(sum(each) / len(each), rel=1e-12, abs=1e-15)
    assert 0 <= score.value <= 2
    assert not score.higher_is_better


def test_brier_of_two_classes_is_twice_scikit_learns() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = random_predictions("f1", 200, 0)
    positive = 1 / (1 + np.exp(logits[:, 0].astype(float) - logits[:, 1]))
    expected = sklearn_metrics.brier_score_loss(labels, positive)
    assert brier(logits, labels).value == pytest.approx(2 * expected, rel=1e-12)


@often
@given(predictions(), st.integers(1, 6))
def test_top_k_sorts_ties_by_class(drawn: Any, k: int) -> None:
    logits, labels = drawn
    first = [sorted(range(len(row)), key=lambda c, row=row: (-row[c], c))[:k] for row in logits]
    expected = sum(label in best for label, best in zip(labels, first, strict=True)) / len(labels)
    score = top_k(k)(logits, labels)
    assert (score.value, score.metric) == (expected, f"top_{k}")
    assert score.stderr == binomial_stderr(expected, len(labels))


@often
@given(predictions())
def test_top_1_is_the_accuracy(drawn: Any) -> None:
    logits, labels = drawn
    assert replace(top_k(1)(logits, labels), metric="accuracy") == accuracy(logits, labels)
    assert np.array_equal(top_k(1).per_example(logits, labels), per_example("accuracy")(logits, labels))


def test_top_k_agrees_with_scikit_learn() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(300, 9)), generator.integers(0, 9, 300)
    expected = sklearn_metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(9))
    assert METRICS["top_5"](logits, labels).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "5"])
def test_top_k_refuses(k: Any) -> None:
    with pytest.raises(ConfigError, match=r"k is .* not an integer of at least 1"):
        top_k(k)


def textbook_f1(labels: Any, predicted: Any, positive: int) -> float:
    both = sum((labels == positive) & (predicted == positive))
    named, true = sum(predicted == positive), sum(labels == positive)
    precision, recall = (both / named if named else 0.0), (both / true if true else 0.0)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def textbook_matthews(labels: Any, predicted: Any) -> float:
    """Pearson's correlation of one-hot vectors, summed over classes (Gorodkin 2004, as defined)."""
    classes = range(5)
    x, y = (np.array([answers == k for k in classes], float) for answers in (labels, predicted))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    norm = math.sqrt((x * x).sum() * (y * y).sum())
    return (x * y).sum() / norm if norm > 1e-9 else 0.0


@often
@given(predictions())
def test_f1_and_matthews_are_the_textbooks(drawn: Any) -> None:
    logits, labels = drawn
    predicted = logits.argmax(axis=1)
    present = sorted({*labels.tolist(), *predicted.tolist()})
    macro = sum(textbook_f1(labels, predicted, k) for k in present) / len(present)
    assert METRICS["f1_macro"](logits, labels).value == pytest.approx(macro, abs=1e-12)
    assert METRICS["matthews"](logits, labels).value == pytest.approx(textbook_matthews(labels, predicted), abs=1e-9)
    if logits.shape[1] == 2:
        binary = textbook_f1(labels, predicted, 1)
        assert METRICS["f1"](logits, labels).value == pytest.approx(binary, abs=1e-12)
        both = (binary + np.mean(predicted == labels)) / 2
        assert METRICS["accuracy_and_f1"](logits, labels).value == pytest.approx(both, abs=1e-12)


@often
@given(predictions())
def test_what_resamples_are_scored_with_is_scikit_learns_value(drawn: Any) -> None:
    logits, labels = drawn
    for name in ("f1", "f1_macro", "matthews", "accuracy_and_f1"):
        if name not in TWO_CLASSES or logits.shape[1] == 2:
            metric = METRICS[name]
            assert metric.statistic(logits, labels).value == pytest.approx(metric.function(logits, labels), abs=1e-12)


@pytest.mark.parametrize("metric", MEANS)
def test_a_metric_is_the_mean_of_its_values_per_example(metric: str) -> None:
    logits, labels = random_predictions(metric, 300, 1)
    values = per_example(metric)(logits, labels)
    assert values.shape == (300,)
    assert values.dtype == np.float64
    score = METRICS[metric](logits, labels)
    assert score.value == METRICS[metric].function(logits, labels) == math.fsum(values) / 300
    if bounds := METRICS[metric].bounds:
        assert bounds[0] <= values.min() <= values.max() <= bounds[1]


@every_metric
def test_the_order_of_the_rows_does_not_show(metric: str) -> None:
    logits, labels = random_predictions(metric, 500, 2)
    logits = np.round(logits, 1)  # with ties
    order = np.random.default_rng(2).permutation(500)
    assert METRICS[metric](logits, labels) == METRICS[metric](logits[order], labels[order])


@pytest.mark.parametrize("metric", ["accuracy", "nll", "brier", "f1"])
def test_stderr_is_the_spread_of_the_score_over_fresh_samples(metric: str) -> None:
    generator = np.random.default_rng(3)
    scores = []
    for _ in range(400 if METRICS[metric].per_example else 150):
        labels = generator.integers(0, 2, 150)
        logits = generator.normal(size=(150, 2)) + 0.8 * np.eye(2)[labels]
        scores.append(METRICS[metric](logits, labels))
    assert np.mean([score.stderr for score in scores]) == pytest.approx(np.std([s.value for s in scores]), rel=0.12)


# --- degenerate input --------------------------------------------------------------------------------------------


def test_ties_go_to_the_first_class() -> None:
    assert accuracy([[1.0, 1.0], [1.0, 1.0]], [0, 1]).value == 0.5


@pytest.mark.parametrize(("label", "value"), [(0, 1.0), (1, 0.0)])
@pytest.mark.parametrize("n", [2, 3, 49])
def test_all_or_none_right_has_a_binomial_stderr_of_exactly_0(label: int, value: float, n: int) -> None:
    score = accuracy([[2.0, 1.0]] * n, [label] * n)
    assert (score.value, score.stderr) == (value, 0.0)


def test_one_example_has_no_spread() -> None:
    assert accuracy([[0.0, 1.0]], [1]).stderr is None
    assert nll([[0.0, 0.0]], [0]).stderr is None
    assert brier([[0.0, 0.0]], [0]).stderr is None
    assert f1([[0.0, 1.0]], [1]).stderr is None


def test_one_class_is_always_right() -> None:
    assert accuracy([[3.0], [-1.0]], [0, 0]).value == 1.0
    assert nll([[3.0], [-1.0]], [0, 0]).value == 0.0
    assert brier([[3.0], [-1.0]], [0, 0]).value == 0.0


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize(("label", "answer", "value"), [(0, 0, 0.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)])
def test_f1_and_matthews_of_one_class(label: int, answer: int, value: float, n: int) -> None:
    logits = np.eye(2)[[answer] * n]
    assert f1(logits, [label] * n).value == value
    assert matthews(logits, [label] * n).value == 0.0  # nothing varies: no correlation
    assert METRICS["f1_macro"](logits, [label] * n).value == float(label == answer)
    assert f1(logits, [label] * n).stderr == (None if n == 1 else 0.0)


@pytest.mark.parametrize("metric", TWO_CLASSES)
@pytest.mark.parametrize("n_classes", [1, 3])
def test_f1_of_class_1_needs_two_classes(metric: str, n_classes: int) -> None:
    for call in (METRICS[metric], METRICS[metric].statistic):
        with pytest.raises(DataError, match=f"two classes, not {n_classes}\nfix: use f1_macro"):
            call(np.zeros((2, n_classes)), [0, 0])


@pytest.mark.parametrize("metric", ["f1", "f1_macro", "matthews", "accuracy_and_f1"])
def test_without_scikit_learn_the_extra_is_named(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError, match=r"needs 'scikit-learn'.*\n.*stockpot\[eval\]"):
        METRICS[metric](np.eye(2), [0, 1])


@pytest.mark.parametrize("metric", ["accuracy", "top_5", "nll", "brier", "ece", "ece_equal_width"])
def test_numpy_is_enough(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sklearn", "sklearn.metrics", "scipy", "scipy.stats"):
        monkeypatch.setitem(sys.modules, module, None)
    assert METRICS[metric](np.eye(2), [0, 1]).value >= 0


def test_nll_of_huge_logits_neither_overflows_nor_vanishes() -> None:
    assert nll(np.float32([[3e38, -3e38]]), [0]).value == 0.0
    assert nll(np.float32([[3e38, 0.0]]), [1]).value == pytest.approx(3e38, rel=1e-6)
    assert nll([[1e4, 0.0]], [1]).value == 1e4


def test_a_masked_class_is_no_obstacle() -> None:
    logits = [[0.0, -math.inf, 0.0]]
    assert accuracy(logits, [0]).value == 1.0
    assert nll(logits, [2]).value == pytest.approx(math.log(2))
    assert brier(logits, [2]).value == 0.5
    assert brier(logits, [1]).value == 1.5  # a label of probability 0 is no obstacle here
    assert top_k(2)(logits, [1]).value == 0.0


@pytest.mark.parametrize("metric", ["brier", "ece", "ece_equal_width"])
@pytest.mark.parametrize("row", [[-math.inf, -math.inf], [math.inf, 0.0]])
def test_undefined_probabilities_are_refused(metric: str, row: Any) -> None:
    with pytest.raises(EvaluationError, match="undefined in 1 of 2 examples: infinite logits"):
        METRICS[metric]([[0.0, 0.0], row], [0, 1])


@every_metric
def test_probabilities_of_exactly_0_and_1(metric: str) -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0], [1000.0, 0.0], [0.0, 1000.0]])
    right, half = METRICS[metric](logits, [0, 1, 0, 1]), METRICS[metric](logits, [0, 1, 1, 0])
    assert right.value == (1.0 if right.higher_is_better else 0.0)
    assert half.value == {"top_5": 1.0, "matthews": 0.0, "nll": 500.0, "brier": 1.0}.get(metric, 0.5)


@pytest.mark.parametrize("logits", [[[0.0, -math.inf]], [[-math.inf, -math.inf]], [[math.inf, math.inf]]])
def test_a_label_of_probability_0_is_refused(logits: Any) -> None:
    with pytest.raises(EvaluationError, match="1 of 2 examples: infinite logits"):
        nll([[0.0, 0.0], *logits], [0, 1])


@pytest.mark.parametrize(
    "call",
    [*(METRICS[name] for name in CLASS_METRICS), *map(per_example, MEANS)],
    ids=[*CLASS_METRICS, *(f"{name} per example" for name in MEANS)],
)
class TestBadInput:
    def test_nan_is_counted(self, call: Any) -> None:
        with pytest.raises(EvaluationError, match="the logits of 2 of 3 examples are NaN"):
            call([[math.nan, 0.0], [0.0, 1.0], [math.nan, math.nan]], [0, 0, 0])

    @pytest.mark.parametrize("logits", [[], np.zeros((0, 3))])
    def test_no_examples(self, call: Any, logits: Any) -> None:
        with pytest.raises(DataError, match="no examples to score"):
            call(logits, [])

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
    def test_shapes_show_both_sides(self, call: Any, logits: Any, labels: Any) -> None:
        with pytest.raises(DataError, match="do not fit") as raised:
            call(logits, labels)
        assert str(list(np.shape(logits))) in str(raised.value)
        assert str(list(np.shape(labels))) in str(raised.value)

    @pytest.mark.parametrize("label", [-1, 2])
    def test_labels_out_of_range(self, call: Any, label: int) -> None:
        with pytest.raises(DataError, match=rf"1 of 3 labels lie outside 0 .. 1, the first is {label} in row 2"):
            call(np.zeros((3, 2)), [0, 1, label])

    def test_labels_that_are_no_integers(self, call: Any) -> None:
        with pytest.raises(DataError, match="labels are float64, not integers"):
            call(np.zeros((2, 2)), [0.0, 1.0])
