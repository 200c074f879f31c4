"""Every evaluation and prediction, kept by content, so that nothing is computed twice and every command can be resumed.

An entry's key says everything its value depends on (`soup_key`): a changed file, coefficient or setting makes another
key, never a wrong answer. `remember` and `remember_predictions` wrap any evaluator with a journal.
"""

from __future__ import annotations

from stockpot.journal.gradients import RememberedGradient
from stockpot.journal.keys import identity_of_callable, soup_key
from stockpot.journal.remembering import Predict, known_predictions, remember, remember_predictions
from stockpot.journal.store import DigestMemory, Journal

__all__ = [
    "DigestMemory",
    "Journal",
    "Predict",
    "RememberedGradient",
    "identity_of_callable",
    "known_predictions",
    "remember",
    "remember_predictions",
    "soup_key",
]
