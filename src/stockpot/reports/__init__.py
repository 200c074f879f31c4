"""Reports: tables, sentences and model cards, from records alone. Never imports torch."""

from __future__ import annotations

from stockpot.reports.card import model_card
from stockpot.reports.sentence import summary_sentence
from stockpot.reports.table import markdown, terminal

__all__ = ["markdown", "model_card", "summary_sentence", "terminal"]
