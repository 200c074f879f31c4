from __future__ import annotations

import numpy as np
import pytest

from stockpot.errors import DataError, EvaluationError
from stockpot.metrics import METRICS, bootstrap, loss_by_example, text_nll, token_nll


def _drawn(n: int = 400):
    generator = np.random.default_rng(0)
    return -generator.gamma(4.0, 0.5, n).astype(np.float32), generator.integers(1, 60, n)


def test_means_over_texts_and_over_tokens() -> None:
    means, counts = _drawn()
    wide = means.astype(np.float64)
    assert text_nll(means, counts).value == pytest.approx(-wide.mean(), rel=1e-12)
    assert text_nll(means, counts).stderr == pytest.approx(wide.std(ddof=1) / 20, rel=1e-12)
    assert token_nll(means, counts).value == pytest.approx(-np.average(wide, weights=counts), rel=1e-12)
    assert text_nll(means, counts * 3) == text_nll(means, counts)
    assert token_nll(means, np.full(400, 7)).value == pytest.approx(text_nll(means, counts).value, rel=1e-12)


def test_the_bootstrap_is_that_of_a_ratio() -> None:
    means, counts = _drawn()
    wide, value = means.astype(np.float64), token_nll(means, counts).value
    delta = counts * (-wide - value) / counts.mean()  # the ratio's linear form
    assert token_nll(means, counts).stderr == pytest.approx(delta.std(ddof=1) / 20, rel=0.1)
    assert bootstrap(METRICS["token_nll"], means, counts) == token_nll(means, counts)
    assert METRICS["token_nll"].statistic(means, counts).value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("metric", ["text_nll", "token_nll"])
def test_a_column_is_as_good_as_a_vector_and_order_does_not_show(metric) -> None:
    means, counts = _drawn()
    order = np.random.default_rng(1).permutation(len(means))
    expected = METRICS[metric](means, counts)
    assert METRICS[metric](means[:, None], counts) == expected
    assert METRICS[metric](means[order], counts[order]) == expected
    assert not expected.higher_is_better


@pytest.mark.parametrize("metric", ["text_nll", "token_nll"])
def test_other_numbers_are_refused(metric) -> None:
    with pytest.raises(EvaluationError, match="1 of 2 log-likelihoods are above 0"):
        METRICS[metric]([-1.0, 0.5], [3, 4])
    with pytest.raises(DataError, match="1 of 2 texts have no scored token"):
        METRICS[metric]([-1.0, -0.5], [3, 0])
    with pytest.raises(DataError, match="do not fit"):
        METRICS[metric](np.zeros((2, 3)), [3, 4])
    with pytest.raises(EvaluationError, match="not finite"):
        METRICS[metric]([-1.0, -np.inf], [3, 4])
    with pytest.raises(DataError, match="outside"):
        METRICS["accuracy"](np.array([[-1.0], [-2.0]]), np.array([3, 4]))


def test_the_loss_of_every_kind() -> None:
    assert loss_by_example("token_nll")([-1.0, -2.0], [3, 4]).tolist() == [1.0, 2.0]
    assert loss_by_example("f1")([[0.0, 0.0]], [0]).tolist() == pytest.approx([np.log(2)])
