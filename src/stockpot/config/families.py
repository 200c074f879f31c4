"""Which schema a task's mapping has: its family says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import ConfigDict

from stockpot.config._problems import Settings
from stockpot.config.clip import ClipTaskConfig
from stockpot.config.custom import CustomTaskConfig
from stockpot.config.harness import HarnessTaskConfig
from stockpot.config.images import ImageTaskConfig
from stockpot.config.lm import LmTaskConfig
from stockpot.config.seq2seq import Seq2SeqTaskConfig
from stockpot.config.task import TaskConfig

__all__ = ["schema_of"]

_SCHEMAS: Mapping[str, type[TaskConfig]] = {
    "text-classification": TaskConfig,
    "image-classification": ImageTaskConfig,
    "clip": ClipTaskConfig,
    "seq2seq-classification": Seq2SeqTaskConfig,
    "custom": CustomTaskConfig,
    "lm": LmTaskConfig,
}


class _UnknownFamily(Settings):
    """Only the family is looked at: what else may stand there depends on it."""

    model_config = ConfigDict(extra="ignore")

    family: Literal[
        "text-classification", "image-classification", "seq2seq-classification", "clip", "custom", "lm"
    ]  # fmt: skip


def schema_of(content: Mapping[str, Any]) -> type[TaskConfig]:
    """The schema of a task's mapping; where it names no family, or an unknown one, a schema that tells that alone.

    Example:
        >>> schema_of({"family": "seq2seq-classification"}).__name__
        'Seq2SeqTaskConfig'
    """
    family = content.get("family")
    if family == "lm" and content.get("scoring") == "harness":
        return HarnessTaskConfig
    known = _SCHEMAS.get(family) if isinstance(family, str) else None
    return known or cast("type[TaskConfig]", _UnknownFamily)
