"""Text classifiers for the Trainer: tokens in batches by length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.config import RunSettings
from stockpot.sweeps.pretrained import pretrained_classifier
from stockpot.sweeps.trainable import Trainable, dropout_changes
from stockpot.tasks.batches import Batch
from stockpot.tasks.classifier import load_tokenizer, padding_token, tokenised
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.text import TextClassification

if TYPE_CHECKING:
    import torch

__all__ = ["encoded_examples", "load_text_model", "save_text_model", "text_probe_batches", "trainable_text"]


def load_text_model(folder: Path, **changes: Any) -> torch.nn.Module:
    """A sequence classifier with its weights in fp32.

    Raises:
        ConfigError: the folder holds no such network, or weights of another.
    """
    _, transformers = import_hf()
    fix = "name the folder of a text classifier, or of a network that AutoModelForSequenceClassification takes"
    return pretrained_classifier(transformers.AutoModelForSequenceClassification, folder, fix=fix, **changes)


def save_text_model(model: torch.nn.Module, target: Path, *, source: Path) -> None:
    """Writes the model and the tokenizer of the folder that it comes from."""
    writer: Any = model
    writer.save_pretrained(target)
    load_tokenizer(source).save_pretrained(target)


def text_probe_batches(task: TextClassification, folder: Path, batch_size: int) -> list[Batch]:
    """The training split as the network in `folder` takes it."""
    return tokenised(folder, task.texts("train"), batch_size=batch_size, max_length=task.config.evaluation.max_length)


def trainable_text(settings: RunSettings, task: TextClassification, initialisation: Path) -> Trainable:
    """A sequence classifier at the shared start, and the training texts."""
    _, transformers = import_hf()
    config = transformers.AutoConfig.from_pretrained(initialisation)
    tokenizer = load_tokenizer(initialisation)
    tokenizer.pad_token_id = padding_token(initialisation, tokenizer)

    def save(model: Any, target: Path) -> None:
        # The run's dropout is a setting of the run (run.json), not of the model: ingredients share one config.json.
        model.config = config
        save_text_model(model, target, source=initialisation)

    return Trainable(
        model=load_text_model(initialisation, **dropout_changes(config, settings.dropout)),
        examples=encoded_examples(
            tokenizer,
            list(zip(*task.texts("train"), strict=True)),
            task.labels("train").tolist(),
            max_length=task.config.evaluation.max_length,
        ),
        collator=transformers.DataCollatorWithPadding(tokenizer),
        save=save,
        arguments={"train_sampling_strategy": "group_by_length"},
    )


def encoded_examples(
    tokenizer: Any,
    columns: Sequence[Sequence[str]],
    targets: Sequence[Any],
    *,
    max_length: int,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Token lists and `labels` of every example.

    Args:
        tokenizer: of the network.
        columns: one or two, each a text for every example.
        targets: one for every example.
        max_length: longer texts are cut.
        names: of the network's inputs; None: those that the tokenizer names.
    """
    encoded = tokenizer(*[list(column) for column in columns], truncation=True, max_length=max_length)
    kept = [name for name in names or tokenizer.model_input_names if name in encoded]
    return [{**{name: encoded[name][row] for name in kept}, "labels": target} for row, target in enumerate(targets)]
