"""The schema of a task.yaml of text-to-text classifiers: prompt template, label words, scoring."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from stockpot.config._problems import Problem, nearest, several, shown
from stockpot.config.task import DataConfig, TaskConfig

__all__ = ["Seq2SeqTaskConfig", "fill_template", "placeholders"]

#: An escaped brace, a placeholder, or a brace that is neither.
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def placeholders(template: str) -> tuple[str, ...]:
    """The columns that a template names, in order; `{{` and `}}` are braces.

    Raises:
        ValueError: a single brace; a placeholder without a name.

    Example:
        >>> placeholders("mrpc sentence1: {sentence1} sentence2: {sentence2}")
        ('sentence1', 'sentence2')
    """
    found = []
    for part in _PART.finditer(template):
        if part[1] is not None and not part[1].strip():
            raise ValueError(f"{part[0]} at position {part.start()} names no column; write {{COLUMN}}")
        if part[0] in ("{", "}"):
            raise ValueError(f"a single {part[0]} at position {part.start()}; write {part[0] * 2} for a brace")
        if part[1] is not None:
            found.append(part[1])
    return tuple(found)


def fill_template(template: str, columns: dict[str, str]) -> str:
    """A template with its placeholders replaced; braces inside the columns stay what they are.

    Args:
        template: one that `placeholders` accepts.
        columns: text by name.

    Example:
        >>> fill_template("cola {{s}}: {text}", {"text": "so {what}?"})
        'cola {s}: so {what}?'
    """
    return _PART.sub(lambda part: part[0][0] if part[1] is None else columns[part[1]], template)


def _words_by_name(value: object) -> object:
    """Labels and words that YAML takes for numbers."""
    if not isinstance(value, dict):
        return value
    return {_as_name(label): _as_name(word) for label, word in value.items()}


def _as_name(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Text = Annotated[str, Field(min_length=1)]


class Seq2SeqTaskConfig(TaskConfig):
    """What a soup of text-to-text classifiers is judged by; the keys that are not here are those of every task.

    Args:
        template: the prompt, with placeholders named after the columns of `data.text`; a split that reads other columns
            fills them by position. None: the columns joined by a space.
        label_words: label -> the text the model answers with, one or more words; None: the labels' own names.
        scoring: "likelihood" of every label's words, or the one answer that "generation" (greedy decoding) gives.
        normalise: whether a label's log-likelihood is the "sum" or the "mean" over its tokens.
    """

    family: Literal["seq2seq-classification"]
    template: _Text | None = None
    label_words: Annotated[dict[_Text, _Text], BeforeValidator(_words_by_name), Field(min_length=2)] | None = None
    scoring: Literal["likelihood", "generation"] = "likelihood"
    normalise: Literal["sum", "mean"] = "sum"

    @field_validator("label_words")
    @classmethod
    def _not_blank(cls, words: dict[str, str] | None) -> dict[str, str] | None:
        blank: list[Problem] = [
            ((label,), f"got {word!r}; allowed: at least one word") for label, word in (words or {}).items()
            if not word.strip()
        ]  # fmt: skip
        if blank:
            raise several(blank)
        return words

    @field_validator("template")
    @classmethod
    def _fits_columns(cls, template: str | None, info: ValidationInfo) -> str | None:
        data = info.data.get("data")  # absent where it is wrong itself
        if template is None or data is None:
            return template
        try:
            named = placeholders(template)
        except ValueError as exc:
            raise several([((), f"got {shown(template)}; {exc}")]) from exc
        problems = [
            f"{{{name}}} is no text column{nearest(name, data.text)}; allowed: {', '.join(data.text)}"
            for name in dict.fromkeys(named)
            if name not in data.text
        ]
        problems += [f"lacks {{{name}}}, a text column of the data" for name in data.text if name not in named]
        problems += [
            f"has {len(data.text)} columns, but {where} reads {n}" for where, n in _widths(data) if n != len(data.text)
        ]
        if problems:
            raise several([((), problem) for problem in problems])
        return template

    @model_validator(mode="after")
    def _classes_alone(self) -> Self:
        problems: list[Problem] = []
        if self.is_regression:
            problems.append((("metric",), f"got {self.metric!r}, a metric of numbers; label words name classes"))
        if self.scoring == "generation":
            if self.normalise != "sum":
                problems.append((("normalise",), "got 'mean', but generation adds up no likelihoods; remove it"))
            if self.metric in ("f1", "accuracy_and_f1"):
                problems.append(
                    (("metric",), f"got {self.metric!r}, which is about two classes; generation has one more, any "
                     "other text; allowed: f1_macro, accuracy, or `scoring: likelihood`")
                )  # fmt: skip
        if problems:
            raise several(problems)
        return self


def _widths(data: DataConfig) -> list[tuple[str, int]]:
    """How many text columns each split reads that names its own."""
    own: dict[str, Any] = {**data.splits, **{f"shifts.{name}": shift for name, shift in data.shifts.items()}}
    return [(where, len(split.text)) for where, split in own.items() if split.text is not None]
