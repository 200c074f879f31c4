"""The schema of a task.yaml of a user's own network: who makes it, who loads the data, which splits there are."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stockpot.config._problems import Settings, several
from stockpot.config.images import ImageEvaluationConfig
from stockpot.config.task import DRAWN_SPLITS, TaskConfig

__all__ = ["CustomDataConfig", "CustomTaskConfig"]

_Name = Annotated[str, Field(min_length=1)]
#: What the loader gets with a split's name: anything that YAML can hold.
_Given = dict[str, Any]


class CustomDataConfig(Settings):
    """Splits and what the loader is told of each; the keys inside are the loader's own.

    Args:
        held_out: settings of the only split recipes see; may be empty (`{}`).
        train: of the rows that running statistics are made anew over.
        test: of the split that is measured once, afterwards.
        shifts: name -> settings of a shifted test set; with `of: test` its rows are test's, in order, the first ones
            where there are fewer.
        seed: of the training rows that are drawn, [0, 2**32).
        allow_overlap: whether splits may share rows.
    """

    held_out: _Given
    train: _Given | None = None
    test: _Given | None = None
    shifts: dict[_Name, _Given] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, lt=2**32)
    allow_overlap: bool = False

    @property
    def splits(self) -> dict[str, _Given]:
        """Settings by split: train, held_out, test where they are given, then "shift:NAME".

        Example:
            >>> CustomDataConfig(held_out={"rows": 5}, shifts={"dark": {"gamma": 2}}).splits
            {'held_out': {'rows': 5}, 'shift:dark': {'gamma': 2}}
        """
        found = {name: getattr(self, name) for name in DRAWN_SPLITS}
        given = {name: settings for name, settings in found.items() if settings is not None}
        return given | {f"shift:{name}": settings for name, settings in self.shifts.items()}

    @model_validator(mode="after")
    def _of_what_is_there(self) -> Self:
        problems = []
        for name, settings in self.shifts.items():
            if "of" in settings and settings["of"] != "test":
                problems.append((("shifts", name, "of"), f"got {settings['of']!r}; allowed: 'test'"))
            elif "of" in settings and self.test is None:
                problems.append((("shifts", name, "of"), "got 'test', but there is no test split; add `test`"))
        if problems:
            raise several(problems)
        return self


class CustomTaskConfig(TaskConfig):
    """What a soup of a user's own networks is judged by; the keys that are not here are those of every task.

    Args:
        factory: `module:function` that returns the network, an nn.Module.
        loader: `module:function` that returns a split's inputs and labels.
        data: the splits.
        evaluation: how the network is run.
    """

    family: Literal["custom"]
    factory: _Name
    loader: _Name
    data: CustomDataConfig  # type: ignore[assignment]
    evaluation: ImageEvaluationConfig = ImageEvaluationConfig()  # type: ignore[assignment]

    @model_validator(mode="after")
    def _no_folder(self) -> Self:
        if self.model is not None:
            raise several([(("model",), f"got {self.model!r}; `factory` makes the network, remove it")])
        return self
