from __future__ import annotations

import pytest

from stockpot.recipes import ensemble, uniform
from stockpot.types import Coefficients, Ingredient


@pytest.mark.parametrize("k", [1, 2, 3, 7, 72])
def test_equal_shares_in_the_callers_order(k: int) -> None:
    runs = [Ingredient(str(number), f"runs/{number}") for number in reversed(range(k))]
    for soup in (uniform(runs), ensemble(runs)):
        assert soup.ingredients == tuple(runs)
        assert soup.coefficients == Coefficients.equal(k)
        assert soup.steps == ()
    assert uniform(runs).combine == "weights"
    assert ensemble(runs).combine == "logits"
