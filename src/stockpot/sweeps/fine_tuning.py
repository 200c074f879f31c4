"""One run: fine-tuning by transformers' Trainer, its predictions, and a folder that lands whole. Runs in a worker."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stockpot.assembly import with_digests
from stockpot.config import RunSettings
from stockpot.errors import ConfigError, RunError
from stockpot.journal import Journal, remember_predictions
from stockpot.outputs import whole_folder, write_json_atomically
from stockpot.recipes import single
from stockpot.sweeps.families import family_of
from stockpot.tasks import load_task
from stockpot.tasks.hardware import import_hf
from stockpot.types import Ingredient

if TYPE_CHECKING:
    import torch

    from stockpot.tasks.text import TextClassification

__all__ = ["RUN_FILE", "make_ingredient"]

#: In a run's folder; its presence means the run has landed.
RUN_FILE = "run.json"

# The names that architectures give to their dropout probabilities.
_DROPOUT_KEYS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob",
    "dropout", "attention_dropout", "activation_dropout", "seq_classif_dropout", "hidden_dropout", "pooler_dropout",
    "embedding_dropout", "mlp_dropout", "dropout_rate", "classifier_dropout_rate", "attn_pdrop", "resid_pdrop",
    "embd_pdrop",
)  # fmt: skip


def make_ingredient(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tunes one run, predicts with it on every split and writes its folder, whole or not at all.

    A run whose folder is there already is left alone: a worker that outlives its killed parent for a moment may land it
    after the restarted command has asked for it once more.

    Args:
        payload: name; settings (of RunSettings); task (JSON text) and task_folder; initialisation, target and journal
            (folders). Everything a result depends on is in it, so a run repeated elsewhere has the same bytes.

    Returns:
        Its `run.json`: name, settings and held-out score.

    Raises:
        ConfigError: settings that this network cannot follow.
        RunError: the run diverged.
    """
    settings = RunSettings(**payload["settings"])
    target = Path(payload["target"])
    task = _task(payload["task"], Path(payload["task_folder"]), Path(payload["initialisation"]))
    if (target / RUN_FILE).exists():
        return _verdict(payload, task, target)
    with whole_folder(target) as folder:
        _fine_tune(settings, task, Path(payload["initialisation"]), folder)
        # Predicted before the folder gets its name: a run that has landed has all it needs for the table.
        verdict = _verdict(payload, task, folder)
        write_json_atomically(folder / RUN_FILE, {"name": payload["name"], "settings": payload["settings"]})
    return verdict


def _verdict(payload: Mapping[str, Any], task: TextClassification, folder: Path) -> dict[str, Any]:
    """Digest and held-out score of a fine-tuned folder; what the journal knows is not predicted again."""
    (ingredient,) = with_digests([Ingredient(payload["name"], str(folder), payload["settings"])])
    with Journal(payload["journal"]) as journal:
        predict = remember_predictions(task.predict, journal, task.identity)
        predictions = {split: predict(single(ingredient), split) for split in task.splits}
    held_out = task.score(predictions["held_out"]).value
    return {"name": payload["name"], "digest": ingredient.digest, "held_out": held_out}


@lru_cache(maxsize=1)
def _task(config: str, folder: Path, initialisation: Path) -> TextClassification:
    """Kept between the runs of one worker (by the task's JSON text): data are read and tokenised once."""
    return load_task(json.loads(config), initialisation, folder=folder, n_threads=1)


def _fine_tune(settings: RunSettings, task: TextClassification, initialisation: Path, folder: Path) -> None:
    _, transformers = import_hf()
    transformers.set_seed(settings.seed)
    family = family_of(task, initialisation)
    config = family.config()
    model = family.model(**_dropout(config, settings.dropout))
    _freeze(model, settings.freeze)
    with TemporaryDirectory(dir=folder) as scratch:  # in the partial folder, so that a kill leaves nothing elsewhere
        trainer = transformers.Trainer(
            model=model,
            args=_training_arguments(settings, task, scratch),
            train_dataset=family.examples(),
            data_collator=family.collator(model),
            callbacks=[],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    _check_finite(model)
    # The run's dropout is a setting of the run (run.json), not of the model: ingredients share one config.json.
    model.config = config
    family.save(model.to("cpu"), folder)


def _check_finite(model: torch.nn.Module) -> None:
    diverged = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if diverged:
        raise RunError(
            f"the run diverged: NaN or infinity in {len(diverged)} parameters, the first is {diverged[0]}",
            fix="lower the upper end of `learning_rate`, or give the run a longer warm-up",
        )


def _training_arguments(settings: RunSettings, task: TextClassification, scratch: str) -> Any:
    _, transformers = import_hf()
    steps = math.ceil(task.n_examples("train") / settings.batch_size) * settings.epochs
    return transformers.TrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=round(steps * settings.warmup_ratio),
        lr_scheduler_type=settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
        label_smoothing_factor=settings.label_smoothing,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=task.hardware.precision == "bf16",
        use_cpu=task.hardware.device == "cpu",
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _dropout(config: Any, probability: float | None) -> dict[str, float]:
    if probability is None:
        return {}
    own = {key: probability for key in _DROPOUT_KEYS if hasattr(config, key)}
    if not own:
        raise ConfigError(
            f"dropout: {probability} acts on nothing: the configuration of {config.model_type!r} names no dropout",
            fix="leave `dropout` out of the space",
        )
    return own


def _freeze(model: torch.nn.Module, patterns: tuple[str, ...]) -> None:
    names = [name for name, _ in model.named_parameters()]
    idle = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
    if idle:
        raise ConfigError(
            f"freeze: {', '.join(map(repr, idle))} matches no parameter; there is {', '.join(names[:4])}, ...",
            fix="correct the pattern",
        )
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("freeze leaves no parameter to train", fix="freeze fewer parameters")
