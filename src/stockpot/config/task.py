"""The schema of task.yaml: model family, data, metric, evaluation settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, Strict, field_validator, model_validator

from stockpot.config._problems import Problem, Settings, several, shown

__all__ = [
    "CORRUPTION_NAMES",
    "DRAWN_SPLITS",
    "LIKELIHOOD_METRIC_NAMES",
    "METRIC_NAMES",
    "VALUE_METRIC_NAMES",
    "DataConfig",
    "EvaluationConfig",
    "LabelNames",
    "ShiftConfig",
    "SplitConfig",
    "TaskConfig",
]

#: Metrics of predicted numbers; with one of these the label column holds numbers and the model has one output.
VALUE_METRIC_NAMES = ("mse", "r2", "spearman")
#: Metrics of texts that a language model gives likelihoods: the family `lm` alone has them.
LIKELIHOOD_METRIC_NAMES = ("text_nll", "token_nll")
#: What `metric` may be: every metric in `stockpot.metrics`, which is above this room (a test compares).
METRIC_NAMES = (
    "accuracy", "top_5", "f1", "f1_macro", "matthews", "accuracy_and_f1", "nll", "brier", "ece", "ece_equal_width",
    *VALUE_METRIC_NAMES, *LIKELIHOOD_METRIC_NAMES,
)  # fmt: skip
#: What a shift's `corrupt` may be; `stockpot.tasks.corruptions` does them.
CORRUPTION_NAMES = ("typos", "word_drop", "casing", "truncation")
#: The splits that may be drawn from one file, in the order in which they are drawn.
DRAWN_SPLITS = ("train", "held_out", "test")


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _label_names(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    return tuple(str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in value)


_Name = Annotated[str, Field(min_length=1)]
#: One or two column names; a plain string is one.
_Columns = Annotated[tuple[_Name, ...], BeforeValidator(_as_list), Strict(False), Field(min_length=1, max_length=2)]
LabelNames = Annotated[tuple[_Name, ...], BeforeValidator(_label_names), Strict(False), Field(min_length=2)]


class SplitConfig(Settings):
    """Where one split comes from: a whole file, or rows drawn from it.

    Args:
        file: None takes the data's default file.
        rows: number of rows to draw; None with fraction None takes the whole file in order.
        fraction: share of the file's rows to draw, (0, 1].
        text: column or columns, where they differ from the data's.
        label: column, where it differs from the data's.
    """

    file: _Name | None = None
    rows: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)
    text: _Columns | None = None
    label: _Name | None = None

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.rows is not None and self.fraction is not None:
            raise several([((), f"got rows {self.rows} and fraction {self.fraction}; allowed: one of them")])
        return self


class ShiftConfig(Settings):
    """A distribution-shifted test set: derived from the test split, or a file of its own.

    Args:
        of: "test" for a shift that perturbs test items, and shares their ids.
        file: a file of its own instead.
        first: take this many rows from the start; None takes all.
        text: the column or columns to read instead.
        label: only with a file.
        corrupt: name of a corruption of the texts.
        rate: share of characters or words it touches, (0, 1].
    """

    of: Literal["test"] | None = None
    file: _Name | None = None
    first: int | None = Field(default=None, ge=1)
    text: _Columns | None = None
    label: _Name | None = None
    corrupt: Literal["typos", "word_drop", "casing", "truncation"] | None = None
    rate: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if (self.of is None) == (self.file is None):
            problems.append(f"got of {self.of!r} and file {self.file!r}; allowed: exactly one of them")
        if (self.corrupt is None) != (self.rate is None):
            problems.append(f"got corrupt {self.corrupt!r} and rate {self.rate!r}; allowed: both or neither")
        if self.of is not None and self.label is not None:
            problems.append(f"got label {self.label!r}; a shift of test keeps test's labels, remove it")
        if self.of is not None and self.text is None and self.corrupt is None:
            problems.append("changes nothing about test; allowed: text, or corrupt and rate")
        if problems:
            raise several([((), problem) for problem in problems])
        return self


class DataConfig(Settings):
    """Files, columns and splits.

    Args:
        file: default file of every split.
        columns: names of the columns of files without a header (CoLA's); None: the first line is the header.
        text: default text column or columns (one or two).
        label: default label column.
        seed: of drawing rows and of corruptions, [0, 2**32).
        train: needed by sweeps only.
        held_out: the only split recipes see.
        test: measured once, afterwards; None where nothing is to be reported on it.
        shifts: name -> shifted test set.
        allow_overlap: whether training and evaluation splits may share texts.
    """

    text: _Columns
    label: _Name
    held_out: SplitConfig
    file: _Name | None = None
    columns: Annotated[tuple[_Name, ...], Strict(False), Field(min_length=2)] | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    train: SplitConfig | None = None
    test: SplitConfig | None = None
    shifts: dict[_Name, ShiftConfig] = Field(default_factory=dict)
    allow_overlap: bool = False

    @property
    def splits(self) -> dict[str, SplitConfig]:
        """The splits given, in the order in which they are drawn.

        Example:
            >>> list(DataConfig(text=("t",), label="l", file="a.csv", held_out=SplitConfig(rows=2)).splits)
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


class EvaluationConfig(Settings):
    """How the network is run; part of the task's identity.

    Args:
        batch_size: rows of every batch, >= 1.
        max_length: tokens of the longest bucket; longer texts are cut, >= 1.
        precision: "auto" takes bf16 where it helps.
        device: "auto" takes an accelerator where there is one.
        recalibrate: training batches that running statistics (BatchNorm) are made anew over, for every model; 0: none.
    """

    batch_size: int = Field(default=64, ge=1)
    max_length: int = Field(default=128, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    recalibrate: int = Field(default=0, ge=0)


class TaskConfig(Settings):
    """What a soup is judged by.

    Args:
        family: kind of model.
        data: files, columns, splits.
        model: folder, `package:NAME/sub/folder` or hub id of configuration and tokenizer; None takes the first
            ingredient's.
        labels: order of the label names (at least 2); None takes the model's, else the sorted labels of the data.
        metric: one of `METRIC_NAMES`; those of `VALUE_METRIC_NAMES` make it a regression task.
        evaluation: how the network is run.
    """

    # All but the first have schemas of their own: `stockpot.config.families` chooses by this key.
    family: Literal["text-classification", "image-classification", "seq2seq-classification", "clip", "custom", "lm"]
    data: DataConfig
    model: _Name | None = None
    labels: LabelNames | None = None
    metric: Literal[
        "accuracy", "top_5", "f1", "f1_macro", "matthews", "accuracy_and_f1", "nll", "brier", "ece", "ece_equal_width",
        "mse", "r2", "spearman", "text_nll", "token_nll",
    ] = "accuracy"  # fmt: skip
    evaluation: EvaluationConfig = EvaluationConfig()

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """What relative paths are relative to: the folder of the file, or the one given."""
        return self._folder

    @field_validator("family")
    @classmethod
    def _of_this_schema(cls, family: str) -> str:
        if cls is TaskConfig and family != "text-classification":
            raise several([((), f"got {family!r}; a mapping of that family is read by `task_config`")])
        return family

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: Any) -> Any:
        if isinstance(labels, str):  # the name of a known list
            return labels
        twice = sorted({name for name in labels or () if (labels or ()).count(name) > 1})
        if twice:
            raise several([((), f"got {shown(twice)} more than once; allowed: distinct names")])
        return labels

    @property
    def is_regression(self) -> bool:
        """Whether the model predicts a number, not a class."""
        return self.metric in VALUE_METRIC_NAMES

    @model_validator(mode="after")
    def _likelihoods_of_texts(self) -> Self:
        if self.metric in LIKELIHOOD_METRIC_NAMES and self.family != "lm":
            raise several([(("metric",), f"got {self.metric!r}, a metric of language models; {self.family} has none")])
        return self

    @model_validator(mode="after")
    def _no_labels_of_numbers(self) -> Self:
        if self.is_regression and self.labels is not None:
            raise several([(("labels",), f"given, but {self.metric} is a metric of numbers; remove one of the two")])
        return self

    def model_post_init(self, context: Any, /) -> None:
        """Remembers the folder, which is no setting: the same task in another folder is the same task."""
        if isinstance(context, dict) and "folder" in context:
            self._folder = context["folder"]
