"""What fine-tuning asks of a model family: the seam behind which a new family enters the sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stockpot.errors import ConfigError
from stockpot.tasks.classifier import load_tokenizer
from stockpot.tasks.hardware import import_hf

if TYPE_CHECKING:
    import torch

    from stockpot.tasks.seq2seq import Seq2SeqClassification
    from stockpot.tasks.text import TextClassification

__all__ = ["FAMILIES", "Family", "Seq2SeqFamily", "TextFamily", "family_of"]


class Family(Protocol):
    """One task's family at one initialisation."""

    @property
    def has_head(self) -> bool:
        """Whether the labels have a classifier head, which a new task needs anew."""

    def config(self) -> Any:
        """The initialisation's configuration, as `from_pretrained` gives it."""

    def model(self, **changes: Any) -> torch.nn.Module:
        """The network in float32 with the initialisation's weights; `changes` are to its configuration."""

    def examples(self) -> list[dict[str, Any]]:
        """What the network learns from: its inputs and `labels`, for every training example."""

    def collator(self, model: torch.nn.Module) -> Callable[..., Any]:
        """Makes batches of some examples."""

    def save(self, model: Any, folder: Path) -> None:
        """Writes a folder that the family's own `from_pretrained` loads, preprocessing included."""


class TextFamily:
    """Sequence classifiers of transformers."""

    has_head = True
    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, task: TextClassification, initialisation: Path) -> None:
        self._task, self._initialisation = task, initialisation
        self._tokenizer = load_tokenizer(initialisation)

    def config(self) -> Any:
        """See `Family`."""
        return import_hf()[1].AutoConfig.from_pretrained(self._initialisation)

    def model(self, **changes: Any) -> torch.nn.Module:
        """See `Family`."""
        made: torch.nn.Module = self._loaded(**changes)
        return made

    def examples(self) -> list[dict[str, Any]]:
        """See `Family`."""
        texts = self._task.texts("train")
        return self._encoded([list(column) for column in zip(*texts, strict=True)], self._targets())

    def collator(self, model: torch.nn.Module) -> Callable[..., Any]:
        """See `Family`."""
        del model
        made: Callable[..., Any] = import_hf()[1].DataCollatorWithPadding(self._tokenizer)
        return made

    def save(self, model: Any, folder: Path) -> None:
        """See `Family`."""
        model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def _loaded(self, **options: Any) -> Any:
        torch, transformers = import_hf()
        auto = getattr(transformers, self._auto_class)
        return auto.from_pretrained(self._initialisation, dtype=torch.float32, **options)

    def _targets(self) -> list[Any]:
        targets: list[Any] = self._task.labels("train").tolist()
        return targets

    def _encoded(self, columns: list[list[str]], targets: list[Any]) -> list[dict[str, Any]]:
        max_length = self._task.config.evaluation.max_length
        encoded = self._tokenizer(*columns, truncation=True, max_length=max_length)
        names = [name for name in self._input_names() if name in encoded]
        return [
            {**{name: encoded[name][row] for name in names}, "labels": target} for row, target in enumerate(targets)
        ]

    def _input_names(self) -> list[str]:
        names: list[str] = self._tokenizer.model_input_names
        return names


class Seq2SeqFamily(TextFamily):
    """Encoder-decoder models of transformers, taught to answer prompts with label words: cross-entropy per token."""

    has_head = False
    _auto_class = "AutoModelForSeq2SeqLM"

    def __init__(self, task: Seq2SeqClassification, initialisation: Path) -> None:
        super().__init__(task, initialisation)
        self._prompts, self._answers = task.prompts, task.label_tokens  # wrong label words are said before any work

    def model(self, **changes: Any) -> torch.nn.Module:
        """See `Family`.

        Raises:
            ConfigError: the checkpoint is none of a whole encoder-decoder model.
        """
        try:
            loaded, report = self._loaded(output_loading_info=True, **changes)
        except ValueError as exc:
            reason = next(iter(str(exc).splitlines()), type(exc).__name__)
            raise self._unusable(f"transformers loads no text-to-text model from it: {reason}") from exc
        if missing := sorted(report["missing_keys"]):
            raise self._unusable(f"its weights lack {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}")
        made: torch.nn.Module = loaded
        return made

    def examples(self) -> list[dict[str, Any]]:
        """See `Family`."""
        return self._encoded([self._prompts("train")], self._targets())

    def collator(self, model: torch.nn.Module) -> Callable[..., Any]:
        """See `Family`."""
        made: Callable[..., Any] = import_hf()[1].DataCollatorForSeq2Seq(self._tokenizer, model=model)
        return made

    def _targets(self) -> list[Any]:
        return [list(self._answers.ids[label]) for label in super()._targets()]

    def _input_names(self) -> list[str]:
        return ["input_ids", "attention_mask"]

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            f"initialisation: {self._initialisation}: {why}", fix="name a T5, BART or other encoder-decoder model"
        )


#: Family name of the task -> what fine-tunes it.
FAMILIES: Mapping[str, Callable[[Any, Path], Family]] = {
    "text-classification": TextFamily,
    "seq2seq-classification": Seq2SeqFamily,
}


def family_of(task: TextClassification, initialisation: Path) -> Family:
    """The family of a task at an initialisation, a folder with weights, config.json and preprocessing."""
    return FAMILIES[task.config.family](task, initialisation)
