"""What transformers' Trainer is given for one run, whatever the family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.assembly import materialize
from stockpot.errors import ConfigError
from stockpot.recipes import single
from stockpot.types import Ingredient

if TYPE_CHECKING:
    import torch

__all__ = ["Trainable", "dropout_changes", "stored_tensors"]

# The names that architectures give to their dropout probabilities.
_DROPOUT_KEYS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob",
    "dropout", "attention_dropout", "activation_dropout", "seq_classif_dropout", "hidden_dropout", "pooler_dropout",
    "embedding_dropout", "mlp_dropout", "dropout_rate", "classifier_dropout_rate", "attn_pdrop", "resid_pdrop",
    "embd_pdrop",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Trainable:
    """A network, its examples and how it is written.

    Args:
        model: at the shared start.
        examples: of the training split: `len` and `[row]`.
        collator: rows -> a batch; draws what is drawn by batch.
        save: writes the model, with the side files of its family, into a folder.
        arguments: of TrainingArguments, over the usual ones.
        loss: outputs, labels, number of items -> the loss; None: the model's own.
        callbacks: of the Trainer.
        loads_slowly: whether examples are decoded when they are asked for, so that processes of their own do it ahead.
    """

    model: torch.nn.Module
    examples: Any
    collator: Callable[[list[Any]], Mapping[str, torch.Tensor]]
    save: Callable[[torch.nn.Module, Path], None]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    loss: Callable[..., torch.Tensor] | None = None
    callbacks: Sequence[Any] = ()
    loads_slowly: bool = False


def dropout_changes(config: Any, probability: float | None) -> dict[str, float]:
    """The keys of a transformers configuration that set dropout, all to one probability; None changes nothing.

    Raises:
        ConfigError: the configuration has no such key.
    """
    if probability is None:
        return {}
    own = {key: probability for key in _DROPOUT_KEYS if hasattr(config, key)}
    if not own:
        raise ConfigError(
            f"dropout: {probability} acts on nothing: the configuration of {config.model_type!r} names no dropout",
            fix="leave `dropout` out of the space",
        )
    return own


def stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """A model folder's tensors by name, in whichever format they are stored.

    Raises:
        CheckpointError: it holds no weights, or several.
    """
    return materialize(single(Ingredient(folder.name, str(folder))))
