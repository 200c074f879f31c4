"""The schema of a task.yaml of causal language models whose questions are the lm-evaluation-harness's."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stockpot.config._problems import Problem, Settings, several
from stockpot.config.lm import CHOICE_METRIC_NAMES, ChoiceScore, LmEvaluationConfig, foreign_keys
from stockpot.config.task import TaskConfig

__all__ = ["HarnessDataConfig", "HarnessSplitConfig", "HarnessTaskConfig"]

_Name = Annotated[str, Field(min_length=1)]


class HarnessSplitConfig(Settings):
    """The questions of one split: a task of the lm-evaluation-harness, or questions drawn from it.

    Args:
        task: of the harness, or a group of its tasks.
        rows: number of questions to draw; None with fraction None takes all in order.
        fraction: share of the questions to draw, (0, 1].
        choice_score: None: as the whole task's.
    """

    task: _Name
    rows: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)
    choice_score: ChoiceScore | None = None

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.rows is not None and self.fraction is not None:
            raise several([((), f"got rows {self.rows} and fraction {self.fraction}; allowed: one of them")])
        return self


class HarnessDataConfig(Settings):
    """Tasks of the lm-evaluation-harness as splits.

    Args:
        tasks: folder of YAML tasks of your own; a name that is not there is one of the harness's.
        shots: examples before every question; None: as each task says.
        seed: of drawing questions, [0, 2**32).
        held_out: the only split recipes see.
        test: measured once, afterwards.
        shifts: name -> questions that are measured beside test.
        allow_overlap: whether held-out questions may be in others.
    """

    held_out: HarnessSplitConfig
    tasks: _Name | None = None
    shots: int | None = Field(default=None, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**32)
    test: HarnessSplitConfig | None = None
    shifts: dict[_Name, HarnessSplitConfig] = Field(default_factory=dict)
    allow_overlap: bool = False

    @property
    def splits(self) -> dict[str, HarnessSplitConfig]:
        """All of them, in the table's order.

        Example:
            >>> list(HarnessDataConfig(held_out=HarnessSplitConfig(task="arc_easy")).splits)
            ['held_out']
        """
        test = {} if self.test is None else {"test": self.test}
        return {"held_out": self.held_out, **test, **{f"shift:{name}": shift for name, shift in self.shifts.items()}}

    @model_validator(mode="after")
    def _sized_where_shared(self) -> Self:
        tasks = [split.task for split in self.splits.values()]
        problems: list[Problem] = [
            (_keys(name), f"is all of {split.task!r}, which other splits share; give it `rows` or `fraction`")
            for name, split in self.splits.items()
            if tasks.count(split.task) > 1 and split.rows is None and split.fraction is None
        ]
        if problems:
            raise several(problems)
        return self


def _keys(split: str) -> tuple[str, ...]:
    """Where a split stands under `data`."""
    kind, _, name = split.partition(":")
    return ("shifts", name) if name else (kind,)


class HarnessTaskConfig(TaskConfig):
    """What a soup of causal language models is judged by: multiple choice of the lm-evaluation-harness.

    Args:
        scoring: "harness".
        choice_score: "sum" makes accuracy the harness's `acc`, "characters" its `acc_norm`, "bytes" its `acc_bytes`.
        data: tasks of the harness as splits.
        metric: one of `CHOICE_METRIC_NAMES`.
        evaluation: how the network is run.
    """

    family: Literal["lm"]
    scoring: Literal["harness"]
    choice_score: ChoiceScore = "sum"
    data: HarnessDataConfig  # type: ignore[assignment]
    evaluation: LmEvaluationConfig = LmEvaluationConfig()

    @property
    def is_likelihood(self) -> bool:
        """Whether texts are given likelihoods: never here."""
        return False

    @model_validator(mode="after")
    def _of_language_models(self) -> Self:
        if problems := list(foreign_keys(self, self.scoring, CHOICE_METRIC_NAMES)):
            raise several(problems)
        return self
