"""Encoder-decoder models for the Trainer, taught to answer prompts with label words: cross-entropy per token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.config import RunSettings
from stockpot.errors import ConfigError
from stockpot.sweeps.texts import encoded_examples, save_text_model
from stockpot.sweeps.trainable import Trainable, dropout_changes
from stockpot.tasks.classifier import load_tokenizer
from stockpot.tasks.hardware import import_hf

if TYPE_CHECKING:
    import torch

    from stockpot.tasks.seq2seq import Seq2SeqClassification

__all__ = ["load_text_to_text_model", "trainable_text_to_text"]


def load_text_to_text_model(folder: Path, **changes: Any) -> torch.nn.Module:
    """An encoder-decoder model with its weights in fp32.

    Raises:
        ConfigError: the checkpoint is none of a whole encoder-decoder model.
    """
    torch_module, transformers = import_hf()
    try:
        loaded, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            folder, dtype=torch_module.float32, output_loading_info=True, **changes
        )
    except ValueError as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise _unusable(folder, f"transformers loads no text-to-text model from it: {reason}") from exc
    if missing := sorted(report["missing_keys"]):
        raise _unusable(folder, f"its weights lack {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}")
    made: torch.nn.Module = loaded
    return made


def trainable_text_to_text(settings: RunSettings, task: Seq2SeqClassification, initialisation: Path) -> Trainable:
    """An encoder-decoder model at the shared start; prompts, and the tokens of their label words."""
    _, transformers = import_hf()
    answers = task.label_tokens  # wrong label words are said before any work
    tokenizer = load_tokenizer(initialisation)
    config = transformers.AutoConfig.from_pretrained(initialisation)
    model = load_text_to_text_model(initialisation, **dropout_changes(config, settings.dropout))
    targets = [list(answers.ids[label]) for label in task.labels("train").tolist()]

    def save(made: Any, target: Path) -> None:
        made.config = config
        save_text_model(made, target, source=initialisation)

    return Trainable(
        model=model,
        examples=encoded_examples(
            tokenizer,
            [task.prompts("train")],
            targets,
            max_length=task.config.evaluation.max_length,
            names=("input_ids", "attention_mask"),
        ),
        collator=transformers.DataCollatorForSeq2Seq(tokenizer, model=model),
        save=save,
        arguments={"train_sampling_strategy": "group_by_length"},
    )


def _unusable(folder: Path, why: str) -> ConfigError:
    return ConfigError(f"initialisation: {folder}: {why}", fix="name a T5, BART or other encoder-decoder model")
