from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_references import simulated_shifts, splits, textbook_sandwich
from stockpot.errors import DataError
from stockpot.metrics import Difference, mcnemar_exact, paired_difference

often = settings(max_examples=60, deadline=None, derandomize=True)


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


def test_one_item_has_no_spread() -> None:
    assert paired_difference([[1.0]], [[0.0]], [["x"]]) == Difference(1.0, None, 1, 1)


def test_p_values_are_right_where_nothing_differs() -> None:
    generator = np.random.default_rng(8)
    p_values = [paired_difference(*simulated_shifts(generator, 150)).p_value for _ in range(10_000)]
    assert np.mean([p < 0.05 for p in p_values if p is not None]) == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize(("n_discordant", "alpha"), [(20, 0.05), (60, 0.05), (60, 0.01), (7, 0.05)])
def test_mcnemar_finds_nothing_where_nothing_is_too_often(n_discordant: int, alpha: float) -> None:
    """10,000 draws of methods that are right equally often; each example of 200 is discordant or not."""
    generator = np.random.default_rng(9)
    discordant = generator.binomial(200, n_discordant / 200, size=10_000)
    only_a = generator.binomial(discordant, 0.5)
    p_of = {}
    for m, a in set(zip(discordant.tolist(), only_a.tolist(), strict=True)):
        p_of[m, a] = mcnemar_exact([1] * a + [0] * (m - a), [0] * a + [1] * (m - a))
    rate = np.mean([p_of[m, a] <= alpha for m, a in zip(discordant.tolist(), only_a.tolist(), strict=True)])
    assert alpha / 10 < rate <= alpha + 2.5 * math.sqrt(alpha * (1 - alpha) / 10_000)


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
