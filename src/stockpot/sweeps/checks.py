"""What no run of a sweep could do, found before the first one starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from stockpot.checkpoints import open_checkpoint
from stockpot.config import RunSettings, TaskConfig
from stockpot.errors import ConfigError
from stockpot.sweeps.families import fine_tuned
from stockpot.sweeps.sweep import PlannedRun

__all__ = ["check_plan"]


def check_plan(runs: Sequence[PlannedRun], initialisation: Path, *, task: TaskConfig, n_gpus: int = 0) -> None:
    """Refuses settings that would fail every time: each once, however many runs have them.

    Args:
        runs: the plan.
        initialisation: folder of the shared start; its headers alone are read.
        task: what they are fine-tuned for.
        n_gpus: that share a run; 0 and 1 share nothing.

    Raises:
        ConfigError: `freeze` patterns that match no tensor; label smoothing of numbers; batches that the GPUs of a run
            cannot share evenly.
        MissingExtraError: augmentation that needs timm.
        CheckpointError: the initialisation cannot be opened.
    """
    with open_checkpoint(initialisation) as checkpoint:
        names = [*checkpoint.specs, *checkpoint.tied]
    problems = dict.fromkeys(problem for run in runs for problem in _problems(run, names, task))
    if problems:
        raise ConfigError(
            "the sweep's space holds settings that no run can have",
            problems=list(problems),
            fix=f"correct them under `space`; the tensors are {', '.join(names[:4])}, ...",
        )
    sizes = {RunSettings(**run.settings).batch_size for run in runs}
    odd = sorted(size for size in sizes if size % max(1, n_gpus))
    if odd:
        raise ConfigError(
            f"batches of {', '.join(map(str, odd))} cannot be shared by the {n_gpus} GPUs of a run",
            fix="choose another `batch_size`, or more --workers: then fewer GPUs share a run",
        )
    for run in runs:
        fine_tuned(task.family).check(RunSettings(**run.settings))


def _problems(run: PlannedRun, names: Sequence[str], task: TaskConfig) -> Iterator[str]:
    for pattern in run.settings.get("freeze") or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            yield f"freeze: {pattern!r} matches no tensor of the initialisation"
    if task.is_regression and run.settings.get("label_smoothing"):
        yield "label_smoothing spreads targets over classes; a regression has none"
