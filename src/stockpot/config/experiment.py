"""The schema of experiment.yaml: task, initialisation, sweep, recipes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from stockpot.config._problems import Problem, Settings, several, shown, validated_part
from stockpot.config.analysis import AnalysisConfig
from stockpot.config.clip import ClipTaskConfig
from stockpot.config.families import schema_of
from stockpot.config.images import ImageTaskConfig
from stockpot.config.learned import LearnedConfig
from stockpot.config.seq2seq import Seq2SeqTaskConfig
from stockpot.config.space import IMAGE_SETTINGS, Choice, entry_as_written, parse_space
from stockpot.config.task import TaskConfig

__all__ = [
    "FINE_TUNED_FAMILIES",
    "FOLLOW_UP_RECIPE_NAMES",
    "PAPER_RECIPE_NAMES",
    "RECIPE_NAMES",
    "AcceptanceConfig",
    "ExperimentConfig",
    "SweepConfig",
]

#: What `stockpot.sweeps` can fine-tune.
FINE_TUNED_FAMILIES = ("text-classification", "image-classification", "seq2seq-classification", "clip")

RecipeName = Literal[
    "uniform", "greedy", "greedy_random", "learned", "learned_by_layer", "ensemble", "greedy_ensemble",
    "pruned", "top_k", "interpolate", "model_stock",
]  # fmt: skip
#: What an experiment compares by default, besides the initialisation and the individuals.
RECIPE_NAMES: tuple[RecipeName, ...] = ("uniform", "greedy", "greedy_random", "ensemble", "greedy_ensemble")
#: The rows of Wortsman et al. 2022, Table 3; the learned ones cost hundreds of training steps.
PAPER_RECIPE_NAMES: tuple[RecipeName, ...] = (*RECIPE_NAMES[:3], "learned", "learned_by_layer", *RECIPE_NAMES[3:])
#: From the work that followed; only where asked for.
FOLLOW_UP_RECIPE_NAMES: tuple[RecipeName, ...] = ("pruned", "top_k", "interpolate", "model_stock")


#: Of these the families without a classifier head.
_HEADLESS = frozenset({"seq2seq-classification"})


def _family(task: object) -> object:
    return task.get("family") if isinstance(task, Mapping) else getattr(task, "family", None)


def _parse_grid(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise several([((), f"got {shown(given)}; allowed: a mapping of `setting: [values]`")])
    problems: list[Problem] = [
        ((str(name),), f"got {shown(values)}; allowed: a list of values")
        for name, values in given.items()
        if not isinstance(values, list | tuple)
    ]
    if problems:
        raise several(problems)
    entries = parse_space({name: {"choice": list(values)} for name, values in given.items()})
    return {name: entries[name] for name in given}  # in the file's order, which is that of the runs


def _grid_as_written(grid: dict[str, Any]) -> dict[str, Any]:
    return {name: list(choice.options) for name, choice in grid.items()}


def _space_as_written(space: dict[str, Any]) -> dict[str, Any]:
    return {name: entry_as_written(entry) for name, entry in space.items()}


class SweepConfig(Settings):
    """Random search: `runs` fine-tunings, run i drawn from (seed, i) alone; or every point of a grid.

    Args:
        runs: number of ingredients to make, >= 1; may be left out where there is a grid, whose points it counts.
        seed: of the draws, [0, 2**32).
        space: setting -> Entry; see `parse_space` for how it is written.
        grid: setting -> its values; every combination is a run, the last setting changing fastest. All other settings,
            and each run's own seed, are drawn as the space says.
        rows_at_once: examples of a step that pass through the network at once, on each GPU, >= 1; the gradients of the
            parts of a step add up. For networks whose whole batches do not fit into the memory; null: all of them.

    Example:
        >>> SweepConfig(runs=2, space={"learning_rate": {"log_uniform": [1e-5, 1e-3]}}).space
        {'learning_rate': LogUniform(low=1e-05, high=0.001)}
        >>> SweepConfig(grid={"learning_rate": [1e-5, 1e-4], "epochs": [2, 4, 8]}).runs
        6
    """

    runs: int = Field(ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    space: Annotated[dict[str, Any], BeforeValidator(parse_space), PlainSerializer(_space_as_written)] = Field(
        default_factory=dict
    )
    grid: Annotated[dict[str, Choice], BeforeValidator(_parse_grid), PlainSerializer(_grid_as_written)] = Field(
        default_factory=dict
    )

    rows_at_once: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, given: Any) -> Any:
        grid = given.get("grid") if isinstance(given, Mapping) else None
        if not grid:
            return given
        if not isinstance(grid, Mapping) or not all(isinstance(one, list | tuple) for one in grid.values()):
            return {"runs": 1, **given}  # the grid itself is what is wrong
        n_points = math.prod(len(values) for values in grid.values())
        if given.get("runs", n_points) != n_points:
            raise several([(("runs",), f"got {given['runs']!r}, but the grid has {n_points} points; leave one out")])
        return {**given, "runs": n_points}

    @model_serializer(mode="wrap")
    def _as_written(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not there: experiments from before there were grids or parts of steps stay the same ones."""
        settings: dict[str, Any] = as_usual(self)
        for name in ("grid", "rows_at_once"):
            if not getattr(self, name):
                settings.pop(name, None)
        return settings


class AcceptanceConfig(Settings):
    """When greedy keeps a candidate, and pruned drops one.

    Args:
        minimum_gain: in the metric's unit, >= 0.
        strict: whether the score must rise (>) instead of not fall (>=, as in Recipe 1 of Wortsman et al. 2022).
        significance: largest two-sided p of the paired test at which a gain is believed, (0, 1); null: no test.
    """

    minimum_gain: float = Field(default=0.0, ge=0)
    strict: bool = False
    significance: float | None = Field(default=None, gt=0, lt=1)


class ExpectedConfig(Settings):
    """Sizes that `--dry-run` takes where it finds none.

    Args:
        examples: split ("train", "held_out", "test", "shift:NAME") -> examples, >= 1.
        parameters: of the network that is fine-tuned, >= 1.
    """

    examples: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    parameters: int | None = Field(default=None, ge=1)


class ExperimentConfig(Settings):
    """One experiment: from an initialisation to a table.

    Args:
        name: title of the results.
        task: what is fine-tuned for and judged by; it needs a train split.
        initialisation: folder, `package:NAME/sub/folder` or hub id of the pre-trained network.
        sweep: the runs.
        head: where the classifier head of all runs comes from: fitted once on the initialisation's features, made by
            the text tower of a CLIP-like model, one random draw, or the checkpoint's own; text-to-text models have none
            but their own, which is their default.
        recipes: what to compare, without repetition.
        random_orders: orders tried by greedy_random, >= 1.
        random_orders_seed: of these orders, [0, 2**32).
        acceptance: greedy's and pruned's rule.
        max_evaluations: candidates that greedy evaluates at most, >= 1; its soup is approximate then. null: all.
        learned: how learned soups are learned.
        analysis: what is looked at beside the table (landscape, angles, pairs, number of models, ...); null: nothing.
        tiny: keys of a configuration that shrinks the architecture, with `model_type` (transformers) or `architecture`
            (timm); `stockpot run --tiny` needs it, nothing else looks at it.
        expected: published sizes, for `--dry-run` where the data or the network are not on this disk.
    """

    name: Annotated[str, Field(min_length=1)]
    task: SerializeAsAny[TaskConfig]
    initialisation: Annotated[str, Field(min_length=1)]
    sweep: SweepConfig
    head: Literal["linear-probe", "zero-shot", "random", "own"] = "linear-probe"
    recipes: Annotated[tuple[RecipeName, ...], Strict(False), Field(min_length=1)] = RECIPE_NAMES
    random_orders: int = Field(default=3, ge=1)
    random_orders_seed: int = Field(default=0, ge=0, lt=2**32)
    acceptance: AcceptanceConfig = AcceptanceConfig()
    max_evaluations: int | None = Field(default=None, ge=1)
    learned: LearnedConfig = LearnedConfig()
    analysis: AnalysisConfig | None = None
    tiny: dict[str, Any] | None = None
    expected: ExpectedConfig | None = None

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """What a relative initialisation is relative to: the folder of the file, or the one given."""
        return self._folder

    @model_validator(mode="before")
    @classmethod
    def _own_head_by_default(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "head" not in given and _family(given.get("task")) in _HEADLESS:
            return {**given, "head": "own"}
        return given

    @field_validator("task", mode="before")
    @classmethod
    def _by_family(cls, task: Any, info: ValidationInfo) -> Any:
        if not isinstance(task, Mapping):
            return task
        return validated_part(schema_of(task), task, context=info.context or {})

    @field_validator("task")
    @classmethod
    def _trainable(cls, task: TaskConfig) -> TaskConfig:
        if task.family not in FINE_TUNED_FAMILIES:
            wrong = f"got {task.family!r}; an experiment fine-tunes {', '.join(FINE_TUNED_FAMILIES)} only"
            raise several([(("family",), f"{wrong}; fine-tune by your own means, then `stockpot compare`")])
        if task.data.train is None:
            raise several([(("data", "train"), "is missing; an experiment fine-tunes, so it needs a train split")])
        return task

    @field_validator("tiny")
    @classmethod
    def _one_library(cls, tiny: dict[str, Any] | None) -> dict[str, Any] | None:
        if tiny is not None and ("model_type" in tiny) == ("architecture" in tiny):
            raise several([((), "needs either model_type (transformers) or architecture (timm)")])
        return tiny

    @model_validator(mode="after")
    def _followed_by_family(self) -> Self:
        problems = [
            *_problems_of_heads(self),
            *_problems_of_augmentation(self.sweep, self.task),
            *_problems_of_analysis(self.analysis, self.task),
        ]
        if problems:
            raise several(problems)
        return self

    @field_validator("recipes")
    @classmethod
    def _distinct(cls, recipes: tuple[RecipeName, ...]) -> tuple[RecipeName, ...]:
        if len(set(recipes)) != len(recipes):
            raise several([((), f"got {shown(list(recipes))}; allowed: each recipe once")])
        return recipes

    @model_serializer(mode="wrap")
    def _as_written(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a budget or an analysis where there is none: experiments from before there were any stay the same."""
        settings: dict[str, Any] = as_usual(self)
        for name in ("max_evaluations", "analysis"):
            if settings.get(name) is None:
                settings.pop(name, None)
        return settings

    def model_post_init(self, context: Any, /) -> None:
        """Remembers the folder, which is no setting."""
        if isinstance(context, dict) and "folder" in context:
            self._folder = context["folder"]


def _problems_of_heads(experiment: ExperimentConfig) -> Iterator[Problem]:
    """What is asked of a head that the family does not have."""
    task = experiment.task
    if not isinstance(task, Seq2SeqTaskConfig):
        if experiment.head == "zero-shot" and not isinstance(task, ClipTaskConfig):
            wrong = f"got 'zero-shot', but models of the family {task.family!r} have no text tower"
            yield ("head",), f"{wrong}; use linear-probe, or `family: clip`"
        return
    if experiment.head != "own":
        wrong = f"got {experiment.head!r}, but a text-to-text model has no classifier head"
        yield ("head",), f"{wrong}; remove it"
    if experiment.learned.fold:
        yield ("learned", "fold"), "a text-to-text model has no head to take the logit scale; remove it"
    learned = [name for name in experiment.recipes if name.startswith("learned")]
    if learned and task.scoring == "generation":
        wrong = f"{', '.join(learned)} need a gradient, and generation has none"
        yield ("recipes",), f"{wrong}; use `scoring: likelihood`"


def _problems_of_augmentation(sweep: SweepConfig, task: TaskConfig) -> Iterator[Problem]:
    """Settings for images where there are none."""
    if isinstance(task, ImageTaskConfig):
        return
    for key, settings in (("space", sweep.space), ("grid", sweep.grid)):
        for name in IMAGE_SETTINGS:
            if name in settings:
                yield ("sweep", key, name), "acts on images, and the task is one of texts; remove it"


def _problems_of_analysis(analysis: AnalysisConfig | None, task: TaskConfig) -> Iterator[Problem]:
    """Splits that the task does not have."""
    data = task.data
    there = ["held_out", *(["test"] if data.test is not None else []), *data.shifts]
    for position, name in enumerate(analysis.splits if analysis is not None else ()):
        if name.removeprefix("shift:") not in there:
            yield ("analysis", "splits", str(position)), f"got {name!r}; the task has {', '.join(there)}"
