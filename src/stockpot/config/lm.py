"""The schema of a task.yaml of causal language models: texts to give likelihoods, or questions with choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Strict, model_validator

from stockpot.config._problems import Problem, Settings, several
from stockpot.config.task import DRAWN_SPLITS, LIKELIHOOD_METRIC_NAMES, EvaluationConfig, TaskConfig

__all__ = [
    "CHOICE_METRIC_NAMES",
    "ChoiceScore",
    "LmDataConfig",
    "LmEvaluationConfig",
    "LmShiftConfig",
    "LmSplitConfig",
    "LmTaskConfig",
    "foreign_keys",
]

#: What a choice's logit is: the sum of its tokens' log-likelihoods, or that by their number, or by the choice's length.
ChoiceScore = Literal["sum", "mean", "characters", "bytes"]

#: Metrics of multiple choice: those that know no class by its number, which is a mere position here.
CHOICE_METRIC_NAMES = ("accuracy", "nll", "brier", "ece", "ece_equal_width")

_Name = Annotated[str, Field(min_length=1)]


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


#: A column that holds lists, or one column per choice.
_Choices = Annotated[tuple[_Name, ...], BeforeValidator(_several), Strict(False), Field(min_length=1)]


class LmSplitConfig(Settings):
    """Where one split comes from: a whole file, or rows drawn from it.

    Args:
        file: None takes the data's default file.
        rows: number of rows to draw; None with fraction None takes the whole file in order.
        fraction: share of the file's rows to draw, (0, 1].
    """

    file: _Name | None = None
    rows: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.rows is not None and self.fraction is not None:
            raise several([((), f"got rows {self.rows} and fraction {self.fraction}; allowed: one of them")])
        return self


class LmShiftConfig(Settings):
    """A distribution-shifted test set: test with corrupted texts (or contexts), or a file of its own.

    Args:
        of: "test" for a shift that corrupts test rows, and shares their ids.
        file: a file of its own instead.
        first: take this many rows from the start; None takes all.
        corrupt: name of a corruption.
        rate: share of characters or words it touches, (0, 1].
    """

    of: Literal["test"] | None = None
    file: _Name | None = None
    first: int | None = Field(default=None, ge=1)
    corrupt: Literal["typos", "word_drop", "casing", "truncation"] | None = None
    rate: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if (self.of is None) == (self.file is None):
            problems.append(f"got of {self.of!r} and file {self.file!r}; allowed: exactly one of them")
        if (self.corrupt is None) != (self.rate is None):
            problems.append(f"got corrupt {self.corrupt!r} and rate {self.rate!r}; allowed: both or neither")
        if self.of is not None and self.corrupt is None:
            problems.append("changes nothing about test; allowed: corrupt and rate")
        if problems:
            raise several([((), problem) for problem in problems])
        return self


class LmDataConfig(Settings):
    """Files, columns and splits.

    Args:
        file: default file of every split.
        text: column of the texts (likelihood).
        context: column of what stands before the choices (multiple-choice).
        choices: column that holds lists of texts, or one column per choice (multiple-choice).
        answer: column of the right choice's number, from 0 (multiple-choice).
        separator: what joins a context and a choice.
        seed: of drawing rows and of corruptions, [0, 2**32).
        train: what held-out and test may not share rows with.
        held_out, test, shifts, allow_overlap: as for texts.
    """

    held_out: LmSplitConfig
    file: _Name | None = None
    text: _Name | None = None
    context: _Name | None = None
    choices: _Choices | None = None
    answer: _Name | None = None
    separator: str = " "
    seed: int = Field(default=0, ge=0, lt=2**32)
    train: LmSplitConfig | None = None
    test: LmSplitConfig | None = None
    shifts: dict[_Name, LmShiftConfig] = Field(default_factory=dict)
    allow_overlap: bool = False

    @property
    def splits(self) -> dict[str, LmSplitConfig]:
        """The splits given, in the order in which they are drawn.

        Example:
            >>> list(LmDataConfig(file="a.jsonl", text="text", held_out=LmSplitConfig(rows=2)).splits)
            ['held_out']
        """
        found = {name: getattr(self, name) for name in DRAWN_SPLITS}
        return {name: split for name, split in found.items() if split is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[Problem] = []
        if self.file is None:
            problems += [
                ((name,), "has no file; give `file` here or in `data`")
                for name, split in self.splits.items()
                if split.file is None
            ]
        if self.test is None:
            problems += [
                (("shifts", name, "of"), "got 'test', but there is no test split; add `test`")
                for name, shift in self.shifts.items()
                if shift.of is not None
            ]
        if problems:
            raise several(problems)
        return self


class LmEvaluationConfig(EvaluationConfig):
    """How the network is run; part of the task's identity.

    Args:
        batch_size: rows of every batch, >= 1. Their logits over the whole vocabulary are held at once.
        max_length: tokens of the longest text or of a context with its choice, >= 2.
    """

    batch_size: int = Field(default=8, ge=1)
    max_length: int = Field(default=1024, ge=2)


class LmTaskConfig(TaskConfig):
    """What a soup of causal language models is judged by; the keys that are not here are those of every task.

    Args:
        scoring: "likelihood": mean log-likelihood per token of every text; "multiple-choice": the likeliest choice.
            "harness" has a schema of its own, `HarnessTaskConfig`.
        choice_score: what a choice's logit is: the "sum" of its tokens' log-likelihoods, their "mean", or the sum by
            the number of the choice's "characters" or "bytes".
        data: files, columns, splits.
        metric: one of `LIKELIHOOD_METRIC_NAMES` (default text_nll) or of `CHOICE_METRIC_NAMES` (default accuracy).
        evaluation: how the network is run.
    """

    family: Literal["lm"]
    scoring: Literal["likelihood", "multiple-choice", "harness"]
    choice_score: ChoiceScore = "sum"
    data: LmDataConfig  # type: ignore[assignment]
    evaluation: LmEvaluationConfig = LmEvaluationConfig()

    @property
    def is_likelihood(self) -> bool:
        """Whether texts are given likelihoods; otherwise one of several choices is right."""
        return self.scoring == "likelihood"

    @model_validator(mode="before")
    @classmethod
    def _default_metric(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("scoring") == "likelihood" and "metric" not in content:
            return {**content, "metric": LIKELIHOOD_METRIC_NAMES[0]}
        return content

    @model_validator(mode="after")
    def _of_the_scoring(self) -> Self:
        if self.scoring == "harness":
            raise several([(("scoring",), "got 'harness'; a mapping of that scoring is read by `task_config`")])
        needed = ("text",) if self.is_likelihood else ("context", "choices", "answer")
        columns = {key: getattr(self.data, key) for key in ("text", "context", "choices", "answer")}
        missing, given = f"is missing; {self.scoring} needs it", f"given, but {self.scoring} has no such column"
        problems: list[Problem] = [
            (("data", key), missing if key in needed else given)
            for key, column in columns.items()
            if (column is None) == (key in needed)
        ]
        problems += foreign_keys(
            self, self.scoring, LIKELIHOOD_METRIC_NAMES if self.is_likelihood else CHOICE_METRIC_NAMES
        )
        if problems:
            raise several(problems)
        return self


def foreign_keys(config: TaskConfig, scoring: str, metrics: Sequence[str]) -> Iterator[Problem]:
    """What is given, and other families alone have."""
    if config.metric not in metrics:
        yield ("metric",), f"got {config.metric!r}; allowed for {scoring}: {', '.join(metrics)}"
    if config.labels is not None:
        yield ("labels",), "given, but a language model's answers have no names; remove it"
    if config.evaluation.recalibrate:
        yield ("evaluation", "recalibrate"), "language models have no running statistics; remove it"
