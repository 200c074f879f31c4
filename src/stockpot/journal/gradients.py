"""Gradients of learned soups, kept step by step: a search that was killed repeats its steps from here in no time."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from stockpot.journal.keys import soup_key
from stockpot.journal.store import Journal
from stockpot.types import Coefficients, Gradient, Ingredient, LossAndGradient, Soup

__all__ = ["RememberedGradient"]

Array: TypeAlias = np.ndarray[Any, Any]


class RememberedGradient:
    """A Gradient that asks another only what the journal does not know.

    The optimiser is deterministic, so started again it asks the same questions in the same order and arrives where it
    was, to the bit.

    Args:
        gradient: answers new questions.
        ingredients: what it mixes, with digests.
        journal: keeps.
        identity: all that the answers depend on besides ingredients, coefficients, logit scale and batch number.

    Raises:
        EvaluationError: when called, if an ingredient has no digest.
        OutputError: when called, if the disk is full.
    """

    def __init__(
        self, gradient: Gradient, ingredients: tuple[Ingredient, ...], journal: Journal, identity: str
    ) -> None:
        self._gradient, self._ingredients, self._journal, self._identity = gradient, ingredients, journal, identity

    @property
    def groups(self) -> tuple[tuple[str, ...], ...] | None:
        """As the gradient's."""
        return self._gradient.groups

    @property
    def n_batches(self) -> int:
        """As the gradient's."""
        return self._gradient.n_batches

    def __call__(self, coefficients: Array, logit_scale: float, batch: int) -> LossAndGradient:
        """As the gradient's, or as it answered before."""
        key = self._key(coefficients, logit_scale, f"batch {batch}")
        kept = self._recall(key)
        if kept is None:
            found = self._gradient(coefficients, logit_scale, batch)
            scalars = np.array([found.loss, found.logit_scale_gradient])
            kept = {"scalars": scalars, "gradient": np.asarray(found.gradient, dtype=np.float64)}
            self._keep(key, kept, {"batch": batch})
        return LossAndGradient(float(kept["scalars"][0]), kept["gradient"], float(kept["scalars"][1]))

    def stopping_loss(self, coefficients: Array, logit_scale: float) -> float:
        """As the gradient's, or as it answered before."""
        key = self._key(coefficients, logit_scale, "stopping part")
        kept = self._recall(key)
        if kept is None:
            kept = {"scalars": np.array([self._gradient.stopping_loss(coefficients, logit_scale)])}
            self._keep(key, kept, {"batch": "stopping part"})
        return float(kept["scalars"][0])

    def _key(self, coefficients: Array, logit_scale: float, question: str) -> str:
        rows = tuple(tuple(float(value) for value in row) for row in coefficients)
        soup = Soup(self._ingredients, Coefficients(rows, self.groups), "learned", logit_scale=logit_scale)
        return soup_key(soup, f"{self._identity} {question}")

    def _recall(self, key: str) -> dict[str, Array] | None:
        kept = self._journal.predictions(key)
        self._journal.count(hit=kept is not None)
        return kept

    def _keep(self, key: str, arrays: dict[str, Array], about: dict[str, Any]) -> None:
        self._journal.keep_predictions(key, arrays, {"gradient": True, **about})
