"""Strict settings: task.yaml, experiment.yaml, search spaces. YAML or Python mappings in, frozen models out."""

from __future__ import annotations

from stockpot.config.experiment import (
    FOLLOW_UP_RECIPE_NAMES,
    PAPER_RECIPE_NAMES,
    RECIPE_NAMES,
    AcceptanceConfig,
    ExperimentConfig,
    SweepConfig,
)
from stockpot.config.images import (
    IMAGE_CORRUPTION_NAMES,
    ImageDataConfig,
    ImageEvaluationConfig,
    ImageShiftConfig,
    ImageSplitConfig,
    ImageTaskConfig,
)
from stockpot.config.learned import LearnedConfig
from stockpot.config.loading import (
    canonical,
    experiment_config,
    learned_config,
    load_experiment_config,
    load_task_config,
    resolve_file,
    resolve_model,
    task_config,
)
from stockpot.config.seq2seq import Seq2SeqTaskConfig, fill_template
from stockpot.config.space import (
    Choice,
    Entry,
    Fixed,
    Integers,
    LogUniform,
    RunSettings,
    Uniform,
    ZeroOrUniform,
    entry_as_written,
)
from stockpot.config.task import (
    CORRUPTION_NAMES,
    DRAWN_SPLITS,
    METRIC_NAMES,
    VALUE_METRIC_NAMES,
    DataConfig,
    EvaluationConfig,
    ShiftConfig,
    SplitConfig,
    TaskConfig,
)

__all__ = [
    "CORRUPTION_NAMES",
    "DRAWN_SPLITS",
    "FOLLOW_UP_RECIPE_NAMES",
    "IMAGE_CORRUPTION_NAMES",
    "METRIC_NAMES",
    "PAPER_RECIPE_NAMES",
    "RECIPE_NAMES",
    "VALUE_METRIC_NAMES",
    "AcceptanceConfig",
    "Choice",
    "DataConfig",
    "Entry",
    "EvaluationConfig",
    "ExperimentConfig",
    "Fixed",
    "ImageDataConfig",
    "ImageEvaluationConfig",
    "ImageShiftConfig",
    "ImageSplitConfig",
    "ImageTaskConfig",
    "Integers",
    "LearnedConfig",
    "LogUniform",
    "RunSettings",
    "Seq2SeqTaskConfig",
    "ShiftConfig",
    "SplitConfig",
    "SweepConfig",
    "TaskConfig",
    "Uniform",
    "ZeroOrUniform",
    "canonical",
    "entry_as_written",
    "experiment_config",
    "fill_template",
    "learned_config",
    "load_experiment_config",
    "load_task_config",
    "resolve_file",
    "resolve_model",
    "task_config",
]
