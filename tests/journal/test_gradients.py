"""A learned soup that is started again: no step is computed twice, and it ends where it would have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stockpot.errors import EvaluationError
from stockpot.journal import Journal, RememberedGradient
from stockpot.recipes import LearningOptions, learned
from stockpot.types import Ingredient, LossAndGradient

RUNS = (Ingredient("a", "runs/a", digest="1a"), Ingredient("b", "runs/b", digest="1b"))
OPTIONS = LearningOptions(least_steps=60, check_every=10)


class Counted:
    """A parabola with noise by batch, that may be killed."""

    groups, n_batches = (("x",), ("y",)), 4

    def __init__(self, *, killed_at: int | None = None) -> None:
        self.n_calls, self._killed_at = 0, killed_at

    def stopping_loss(self, coefficients: np.ndarray, logit_scale: float) -> float:
        self.n_calls += 1
        return float(((coefficients - 0.3) ** 2).sum() + (logit_scale - 0.9) ** 2)

    def __call__(self, coefficients: np.ndarray, logit_scale: float, batch: int) -> LossAndGradient:
        self.n_calls += 1
        if batch == self._killed_at:
            raise KeyboardInterrupt
        return LossAndGradient(1.0, 2 * (coefficients - 0.3) + 0.01 * batch, 2 * (logit_scale - 0.9))


def cook(folder: Path, gradient: Counted, identity: str = "task"):
    with Journal(folder) as journal:
        return learned(RUNS, RememberedGradient(gradient, RUNS, journal, identity), OPTIONS)


def test_a_killed_search_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    whole = learned(RUNS, Counted(), OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        cook(tmp_path, Counted(killed_at=37))
    again = Counted()
    assert cook(tmp_path, again) == whole
    assert again.n_calls == 60 - 37 + 3, "the steps from 37 on, and the looks after 40, 50 and 60"
    third = Counted()
    assert cook(tmp_path, third) == whole
    assert third.n_calls == 0


def test_another_task_is_another_question(tmp_path: Path) -> None:
    cook(tmp_path, Counted())
    other = Counted()
    cook(tmp_path, other, identity="another task")
    assert other.n_calls > 0


def test_ingredients_without_digests_cannot_be_remembered(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, pytest.raises(EvaluationError, match="no digest"):
        learned(RUNS, RememberedGradient(Counted(), (Ingredient("a", "a"), Ingredient("b", "b")), journal, "task"))
