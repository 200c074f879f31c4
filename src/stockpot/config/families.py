"""Which schema a task's mapping has: its family says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockpot.config.clip import ClipTaskConfig
from stockpot.config.custom import CustomTaskConfig
from stockpot.config.images import ImageTaskConfig
from stockpot.config.lm import LmTaskConfig
from stockpot.config.seq2seq import Seq2SeqTaskConfig
from stockpot.config.task import TaskConfig

__all__ = ["schema_of"]

_SCHEMAS: Mapping[str, type[TaskConfig]] = {
    "image-classification": ImageTaskConfig,
    "clip": ClipTaskConfig,
    "seq2seq-classification": Seq2SeqTaskConfig,
    "custom": CustomTaskConfig,
    "lm": LmTaskConfig,
}


def schema_of(content: Mapping[str, Any]) -> type[TaskConfig]:
    """The schema of a task's mapping; that of texts where it names no family, or an unknown one.

    Example:
        >>> schema_of({"family": "seq2seq-classification"}).__name__
        'Seq2SeqTaskConfig'
    """
    family = content.get("family")
    return _SCHEMAS.get(family, TaskConfig) if isinstance(family, str) else TaskConfig
