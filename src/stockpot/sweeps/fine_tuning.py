"""One run: fine-tuning by transformers' Trainer, its predictions, and a folder that lands whole. Runs in a worker."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from stockpot.assembly import with_digests
from stockpot.config import RunSettings
from stockpot.errors import ConfigError, DivergedError, RunError
from stockpot.journal import Journal, remember_predictions
from stockpot.outputs import whole_folder, write_json_atomically
from stockpot.recipes import single
from stockpot.sweeps.families import fine_tuned
from stockpot.sweeps.optimiser import layered_groups, weight_average
from stockpot.sweeps.trainable import Trainable
from stockpot.tasks import load_task
from stockpot.tasks.hardware import import_hf, visible_gpus
from stockpot.types import Ingredient

if TYPE_CHECKING:
    import torch

    from stockpot.tasks.text import TextClassification

__all__ = ["AVERAGE", "RUN_FILE", "diverged_file", "make_ingredient"]

#: In a run's folder; its presence means the run has landed.
RUN_FILE = "run.json"
#: The folder inside a run's that holds its moving average, and the end of that ingredient's name.
AVERAGE = "ema"


def make_ingredient(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tunes one run, predicts with it on every split and writes its folder, whole or not at all.

    A run whose folder is there already is left alone: a worker that outlives its killed parent for a moment may land it
    after the restarted command has asked for it once more.

    Args:
        payload: name; settings (of RunSettings); task (JSON text) and task_folder; initialisation, target and journal
            (folders); rows_at_once (None: whole steps). Everything a result depends on is in it, so a run repeated
            elsewhere has the same bytes. And n_loaders, on which it does not depend: processes that decode images
            ahead.

    Returns:
        Name, digest and held-out score; of a run that diverged, name and `diverged`: why. That, too, is a result: the
        same settings would end so again. It stands beside the place of its folder, see `diverged_file`.

    Raises:
        ConfigError: settings that this network cannot follow.
    """
    settings = RunSettings(**payload["settings"])
    target = Path(payload["target"])
    task = _task(payload["task"], Path(payload["task_folder"]), Path(payload["initialisation"]))
    if (target / RUN_FILE).exists():
        return _verdict(payload, task, target)
    try:
        with whole_folder(target) as folder:
            how = _Loading(payload.get("rows_at_once"), payload.get("n_loaders", 0))
            _fine_tune(settings, task, Path(payload["initialisation"]), folder, how)
            # Predicted before the folder gets its name: a run that has landed has all it needs for the table.
            verdict = _verdict(payload, task, folder)
            write_json_atomically(folder / RUN_FILE, {"name": payload["name"], "settings": payload["settings"]})
    except DivergedError as exc:
        verdict = {"name": payload["name"], "diverged": exc.message}
        write_json_atomically(diverged_file(target), {**verdict, "settings": payload["settings"]})
    return verdict


def diverged_file(target: Path) -> Path:
    """Where it stands that the run of this folder diverged, and why.

    Example:
        >>> diverged_file(Path("ingredients/run-00")).as_posix()
        'ingredients/run-00.diverged.json'
    """
    return target.with_name(f"{target.name}.diverged.json")


def _verdict(payload: Mapping[str, Any], task: TextClassification, folder: Path) -> dict[str, Any]:
    """Digest and held-out score of a fine-tuned folder; what the journal knows is not predicted again."""
    runs = [Ingredient(payload["name"], str(folder), payload["settings"])]
    if (folder / AVERAGE).is_dir():
        runs.append(Ingredient(f"{payload['name']}-{AVERAGE}", str(folder / AVERAGE), payload["settings"]))
    with Journal(payload["journal"]) as journal:
        predict = remember_predictions(task.predict, journal, task.identity)
        first, *_ = scored = [
            (run, {split: predict(single(run), split) for split in task.splits}) for run in with_digests(runs)
        ]
    held_out = task.score(first[1]["held_out"]).value
    return {"name": payload["name"], "digest": scored[0][0].digest, "held_out": held_out}


@lru_cache(maxsize=1)
def _task(config: str, folder: Path, initialisation: Path) -> TextClassification:
    """Kept between the runs of one worker (by the task's JSON text): data are read and tokenised once."""
    return load_task(json.loads(config), initialisation, folder=folder, n_threads=1)


def _fine_tune(
    settings: RunSettings, task: TextClassification, initialisation: Path, folder: Path, how: _Loading
) -> None:
    _, transformers = import_hf()
    transformers.set_seed(settings.seed)
    run = fine_tuned(task.config.family).trainable(settings, task, initialisation)
    _freeze(run.model, settings.freeze)
    averaging = weight_average(settings.ema_decay) if settings.ema_decay else None
    with TemporaryDirectory(dir=folder) as scratch:  # in the partial folder, so that a kill leaves nothing elsewhere
        trainer = transformers.Trainer(
            model=run.model,
            args=_training_arguments(settings, task, run, scratch, how),
            train_dataset=run.examples,
            data_collator=run.collator,
            callbacks=[*run.callbacks, *([averaging] if averaging else [])],
            compute_loss_func=run.loss,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.optimizer = _optimiser(settings, trainer)
        with _memory_told():
            trainer.train()
    _check_finite(run.model)
    run.save(run.model.to("cpu"), folder)
    if averaging is not None:
        (folder / AVERAGE).mkdir()
        run.save(averaging.averaged.to("cpu"), folder / AVERAGE)


@contextmanager
def _memory_told() -> Iterator[None]:
    """An accelerator's memory that does not suffice is told with what to do about it.

    Raises:
        RunError: it does not.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as exc:
        raise RunError(  # the advice in the message: of a run's error the sweep tells one line
            "the accelerator's memory does not suffice; let fewer examples of a step pass at once: `rows_at_once` "
            f"under `sweep` ({next(iter(str(exc).splitlines()), type(exc).__name__)})"
        ) from exc


def _optimiser(settings: RunSettings, trainer: Any) -> torch.optim.Optimizer:
    import torch

    groups = layered_groups(
        trainer.model,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        decay=settings.layer_decay,
        decayed=trainer.get_decay_parameter_names(trainer.model),
    )
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _check_finite(model: torch.nn.Module) -> None:
    diverged = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if diverged:
        raise DivergedError(f"NaN or infinity in {len(diverged)} parameters, the first is {diverged[0]}")


def _rows_per_gpu(batch_size: int, device: str) -> int:
    """A part of a step, for the Trainer takes all GPUs that a worker sees: `batch_size` is that of the whole step."""
    return batch_size // max(1, len(visible_gpus(device)))


class _Loading(NamedTuple):
    """How the rows of a step come to the network."""

    rows_at_once: int | None = None
    n_loaders: int = 0


def _rows_of_part(rows: int, at_once: int | None) -> int:
    """Rows that pass at once: the most that are no more than allowed and cut a step into equal parts.

    Example:
        >>> _rows_of_part(64, 24), _rows_of_part(64, None), _rows_of_part(7, 4)
        (16, 64, 1)
    """
    return next(part for part in range(min(rows, at_once or rows), 0, -1) if rows % part == 0)


def _training_arguments(
    settings: RunSettings, task: TextClassification, run: Trainable, scratch: str, how: _Loading
) -> Any:
    _, transformers = import_hf()
    steps = math.ceil(task.n_examples("train") / settings.batch_size) * settings.epochs
    rows = _rows_per_gpu(settings.batch_size, task.hardware.device)
    part = _rows_of_part(rows, how.rows_at_once)
    usual: dict[str, Any] = {
        "output_dir": scratch,
        "per_device_train_batch_size": part,
        "gradient_accumulation_steps": rows // part,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_steps or round(steps * settings.warmup_ratio),
        "lr_scheduler_type": settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
        "label_smoothing_factor": settings.label_smoothing,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": task.hardware.precision == "bf16",
        "use_cpu": task.hardware.device == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "dataloader_num_workers": how.n_loaders if run.loads_slowly else 0,
        # A loss here is a mean over rows. The Trainer takes it for a part of a sum over all devices, and multiplies it
        # by their number.
        "average_tokens_across_devices": False,
    }
    return transformers.TrainingArguments(**{**usual, **run.arguments})


def _freeze(model: torch.nn.Module, patterns: tuple[str, ...]) -> None:
    saved = {tensor.data_ptr(): name for name, tensor in model.state_dict().items()}
    # By the name in files, which is what users see, or by that in memory where a library has another.
    names_of = {name: (saved.get(value.data_ptr(), name), name) for name, value in model.named_parameters()}
    names = [name for name, _ in names_of.values()]

    def is_frozen(name: str, pattern: str) -> bool:
        return any(fnmatchcase(known, pattern) for known in names_of[name])

    idle = [pattern for pattern in patterns if not any(is_frozen(name, pattern) for name in names_of)]
    if idle:
        raise ConfigError(
            f"freeze: {', '.join(map(repr, idle))} matches no parameter; there is {', '.join(names[:4])}, ...",
            fix="correct the pattern",
        )
    for name, parameter in model.named_parameters():
        if any(is_frozen(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("freeze leaves no parameter to train", fix="freeze fewer parameters")
