"""Rank correlations against scipy's, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.analysis.ranks import average_ranks, spearman, spearman_pairs

fast = settings(deadline=None, derandomize=True, max_examples=60)
#: Few different values: ties are the rule.
PAIRS = st.lists(st.tuples(st.integers(0, 6), st.floats(-1e3, 1e3) | st.sampled_from([0.0, 1.0])), max_size=30)


@fast
@given(PAIRS)
def test_equals_scipy(pairs: list[tuple[float, float]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    mine = spearman(a, b)
    if len(pairs) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        assert mine is None
        return
    assert mine == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert average_ranks(b).tolist() == stats.rankdata(b).tolist()


@fast
@given(PAIRS)
def test_laws(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    value = spearman(a, b)
    assert value == spearman(b, a)
    if value is None:
        return
    assert -1 <= value <= 1
    assert spearman(a, a) == 1.0
    assert spearman([-x for x in a], b) == -value
    assert spearman([math.atan(x) for x in a], b) == value
    order = np.random.default_rng(0).permutation(len(a))
    assert spearman(np.array(a)[order], np.array(b)[order]) == value


def test_a_large_perfect_correlation_is_one_exactly() -> None:
    values = np.random.default_rng(0).standard_normal(100_000)
    assert spearman(values, 3 * values) == 1.0
    assert spearman(values, -values) == -1.0


@pytest.mark.parametrize(("a", "b"), [([1, 2, math.nan], [1, 2, 3]), ([1, 2, 3], [1, 2]), ([[1, 2, 3]], [1, 2, 3])])
def test_what_makes_no_pairs_is_refused(a, b) -> None:
    with pytest.raises(ValueError, match=r"ranks need|no pairs"):
        spearman(a, b)


def test_pairs_are_named_in_the_order_of_the_columns() -> None:
    columns = {"held_out": [1, 2, 3, 4], "test": [1, 3, 2, 4], "shift_mean": [5, 5, 5, 5]}
    found = spearman_pairs(columns)
    assert list(found) == ["held_out~test", "held_out~shift_mean", "test~shift_mean"]
    assert found["held_out~test"] == spearman(columns["held_out"], columns["test"])
    assert found["test~shift_mean"] is None
