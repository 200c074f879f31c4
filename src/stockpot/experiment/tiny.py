"""An experiment shrunk to minutes: the same file, the same architecture made small, data of the same layout made up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.config import (
    ClipTaskConfig,
    ExperimentConfig,
    ImageTaskConfig,
    SweepConfig,
    canonical,
    experiment_config,
)
from stockpot.errors import ConfigError
from stockpot.experiment.tiny_data import make_images, make_tables
from stockpot.experiment.tiny_models import make_dual_encoder, make_image_model, make_text_model
from stockpot.outputs import made_folder
from stockpot.tasks.prompts import class_prompts

__all__ = ["tiny_experiment"]

_RUNS, _ORDERS = 3, 1
#: Settings of a run that would make it long.
_SHORT: Mapping[str, Any] = {"epochs": 1, "batch_size": 4, "warmup_steps": 1}
_LEARNED: Mapping[str, Any] = {"epochs": 1, "least_steps": 2, "batch_size": 4, "check_every": 1}
_ANALYSIS: Mapping[str, Any] = {"grid": 3, "line_points": 3, "pairs": 2, "orders": 1}


def tiny_experiment(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """Makes a small network and small data, and the experiment on them.

    Nothing about the numbers that come out means anything: it shows that the file runs from end to end.

    Args:
        config: an experiment whose `tiny` says how its architecture is shrunk.
        folder: gets `model` and `data`.

    Returns:
        The experiment with at most 3 runs of one epoch, everything else as in the file.

    Raises:
        ConfigError: the experiment has no `tiny`.
    """
    if config.tiny is None:
        raise ConfigError(
            f"{config.name}: no `tiny`, so its architecture cannot be shrunk",
            fix="add `tiny: {model_type: ..., hidden_size: 32, ...}`, what transformers calls the architecture",
        )
    folder = made_folder(folder.resolve())
    content = config.model_dump(mode="json")
    task = content["task"]
    if isinstance(config.task, ImageTaskConfig):
        task["data"], task["labels"], side = make_images(config.task, folder / "data")
        if isinstance(config.task, ClipTaskConfig):
            task["zero_shot"]["class_names"] = None  # there are but a few classes
            prompts = class_prompts(config.task.zero_shot.model_copy(update={"class_names": None}), task["labels"])[0]
            make_dual_encoder(config.tiny, folder / "model", texts=prompts)
        else:
            make_image_model(config.tiny, folder / "model", labels=task["labels"], side=side)
    else:
        task["data"], words = make_tables(config.task, folder / "data")
        make_text_model(config.tiny, folder / "model", words=words)
    task["evaluation"] |= {"batch_size": 4, "device": "cpu", "precision": "fp32"}
    if "max_length" in task["evaluation"]:
        task["evaluation"]["max_length"] = 16
    if task.get("model") is not None:
        task["model"] = str(folder / "model")
    content |= {
        "initialisation": str(folder / "model"),
        "sweep": _short_sweep(config.sweep),
        "random_orders": _ORDERS,
        "learned": {**content["learned"], **_LEARNED},
    }
    if config.analysis is not None:
        content["analysis"] |= _ANALYSIS
    return experiment_config(
        {name: value for name, value in content.items() if name not in {"tiny", "expected"}}, folder
    )


def _short_sweep(sweep: SweepConfig) -> dict[str, Any]:
    written = canonical(sweep)
    given = {**written["space"], **written.get("grid", {})}
    short = {name: value for name, value in _SHORT.items() if name in given or name != "warmup_steps"}
    grid = {name: values for name, values in written.get("grid", {}).items() if name not in short}
    while math.prod(map(len, grid.values())) > _RUNS:  # the longest list loses its end first
        longest = max(grid, key=lambda name: len(grid[name]))
        grid[longest] = grid[longest][:-1]
    runs = {"grid": grid} if grid else {"runs": min(sweep.runs, _RUNS)}
    return {**runs, "seed": sweep.seed, "space": {**written["space"], **short}}
