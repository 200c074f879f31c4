"""Causal language models: likelihoods of texts, and questions with choices as a classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot._cores import available_cores
from stockpot.config import LmTaskConfig
from stockpot.errors import ConfigError, EvaluationError
from stockpot.tasks.batches import Batch, bucket_of, rows_by_bucket
from stockpot.tasks.classifier import ResidentClassifier, load_tokenizer
from stockpot.tasks.data import Split, check_overlap
from stockpot.tasks.gradients import MICRO_ROWS, SummedLoss, cross_entropy
from stockpot.tasks.lm_data import Scored, load_lm_splits, scored_choices, scored_texts
from stockpot.tasks.lm_models import new_scorer
from stockpot.tasks.text import TextClassification
from stockpot.types import Incumbent, Predictions, Soup

if TYPE_CHECKING:
    import torch

__all__ = ["LanguageModel"]

#: Raised whenever the way from text to log-likelihoods changes: older predictions are then not reused.
PREPROCESSING_VERSION = 2
#: What to do instead.
_NO_FOLD = "leave out --fold"


class LanguageModel(TextClassification):
    """A family of causal language models, data and a metric: predicts with any soup of them.

    Multiple choice is a classification of positions: logits [n, choices] are the log-likelihoods of the choices given
    the context, -1e9 where a row has fewer. Likelihoods are one column [n, 1], the mean log-likelihood per token of
    each text, and its labels are the numbers of tokens. Rows are read and tokenised when the task is made.

    Args:
        config: the task.
        folder: relative paths in `config` start here.
        model_folder: has config.json and the tokenizer.
        n_threads: batches in flight on a CPU; default: the cores. Does not change a single bit.
        own_labels: not looked at.

    Raises:
        DataError: rows or splits are wrong; texts too short, choices too long.
        ConfigError: no usable model configuration or tokenizer.
    """

    config: LmTaskConfig

    def __init__(
        self,
        config: LmTaskConfig,
        *,
        folder: Path,
        model_folder: Path,
        n_threads: int | None = None,
        own_labels: bool = True,
    ) -> None:
        del own_labels
        self.config = config
        self.metric = config.metric
        self._model_folder = model_folder
        self._n_threads = n_threads or available_cores()
        self._splits = self._read(folder)
        check_overlap(self._splits, config.data.allow_overlap)
        tokenizer = load_tokenizer(model_folder)
        self._rows = {name: self._tokenised(tokenizer, self._splits[name]) for name in self.splits}
        n_choices = max(len(row) for rows in self._rows.values() for row in rows)
        self.label_names = ("log-likelihood",) if config.is_likelihood else tuple(map(str, range(n_choices)))
        self._labels = {name: self._label_numbers(name) for name in self.splits}
        self._batches = {}

    def predict(self, soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        """Logits and labels of one soup on one split.

        Raises:
            BlendError, CheckpointError: the soup cannot be blended or does not fit the model.
            EvaluationError: logits that are not finite; a logit scale, which likelihoods of texts do not have.
        """
        if self.config.is_likelihood and soup.logit_scale != 1.0:
            raise EvaluationError(
                f"the soup has the logit scale {soup.logit_scale!r}, and likelihoods of texts have none",
                fix="learn it with `learn_logit_scale: false`",
            )
        return super().predict(soup, split, against=against)

    @property
    def split_notes(self) -> tuple[str, ...]:
        """What there is to say of the splits: shifts that are no shift, and rows that were cut."""
        longest = self.config.evaluation.max_length
        part = "end" if self.config.is_likelihood else "start"
        cut = {name: sum(any(s.n_cut for s in row) for row in self._rows[name]) for name in self.splits}
        return super().split_notes + tuple(
            f"{name}: {n:,} of {len(self._rows[name]):,} rows are longer than `max_length` {longest:,} tokens "
            f"and lost their {part}."
            for name, n in cut.items()
            if n
        )

    def check_learnable(self, *, fold: bool) -> None:
        """Refuses a scale that has no place in the weights.

        Args:
            fold: whether the scale is to go into the weights.

        Raises:
            ConfigError: `fold`: log-likelihoods are linear in no layer.
        """
        if fold and self.config.is_likelihood:
            raise ConfigError("likelihoods of texts have no logit scale to put into the weights", fix=_NO_FOLD)
        if fold:
            raise ConfigError(
                "no layer of a language model scales the likelihoods of choices, so the logit scale has no place in "
                "the weights",
                fix=f"{_NO_FOLD}: soup.json holds the logit scale",
            )

    def folded(self, soup: Soup) -> Soup:
        """A soup without a logit scale, as it is.

        Raises:
            ConfigError: it has one.
        """
        if soup.logit_scale != 1.0:
            self.check_learnable(fold=True)
        return soup

    def check_recalibration(self) -> None:
        """Refuses to make running statistics anew: language models have none.

        Raises:
            ConfigError: that is asked for.
        """
        if self.recalibrates:
            raise ConfigError("language models have no running statistics", fix="leave out `recalibrate`")

    @cached_property
    def _model(self) -> ResidentClassifier:
        return ResidentClassifier(
            self._model_folder,
            n_labels=len(self.label_names),
            hardware=self.hardware,
            n_threads=self._n_threads,
            new_module=lambda folder, _n_choices: new_scorer(folder),
        )

    @cached_property
    def _settings_identity(self) -> Mapping[str, Any]:
        return {
            **super()._settings_identity,
            "preprocessing": ["lm", PREPROCESSING_VERSION],
            "scoring": self.config.scoring,
            "choice_score": self.config.choice_score,
            "separator": self._separator,
        }

    @property
    def _separator(self) -> str | None:
        return self.config.data.separator

    @property
    def _summed_loss(self) -> SummedLoss:
        return _negative_sum if self.config.is_likelihood else cross_entropy

    def _read(self, folder: Path) -> dict[str, Split]:
        return load_lm_splits(self.config.data, folder=folder)

    def _tokenised(self, tokenizer: Any, split: Split) -> list[tuple[Scored, ...]]:
        config, max_length = self.config, self.config.evaluation.max_length
        if config.is_likelihood:
            return scored_texts(tokenizer, split, max_length=max_length)
        return scored_choices(
            tokenizer,
            split,
            separator=config.data.separator,
            choice_score=config.choice_score,
            max_length=max_length,
        )

    def _label_numbers(self, split: str) -> np.ndarray[Any, Any]:
        if self.config.is_likelihood:
            return np.array([len(row[0].tokens) - row[0].start for row in self._rows[split]], dtype=np.int64)
        return np.array(self._splits[split].labels, dtype=np.int64)

    def _length(self, split: str, row: int) -> int:
        """Tokens of a row's longest sequence."""
        return max(len(scored.tokens) for scored in self._rows[split][row])

    def _rows_by_bucket(self, split: str) -> dict[int, list[int]]:
        settings = self.config.evaluation
        lengths = [self._length(split, row) for row in range(self.n_examples(split))]
        return rows_by_bucket(lengths, batch_size=settings.batch_size, max_length=settings.max_length)

    def _batch(self, split: str, rows: Sequence[int], batch_size: int, bucket: int) -> Batch:
        tokens = np.zeros((batch_size, len(self.label_names), bucket), dtype=np.int64)
        scored = np.zeros(tokens.shape, dtype=np.bool_)
        divisors = np.ones(tokens.shape[:2], dtype=np.float32)
        for at, row in enumerate([*rows, *[rows[0]] * (batch_size - len(rows))]):
            for choice, sequence in enumerate(self._rows[split][row]):
                n = len(sequence.tokens)
                tokens[at, choice, :n] = sequence.tokens
                scored[at, choice, sequence.start : n] = True
                divisors[at, choice] = sequence.divisor
        return Batch({"input_ids": tokens, "scored": scored, "divisors": divisors}, np.asarray(rows, dtype=np.int64))

    def _loose_batches(self, split: str, rows: Sequence[int]) -> list[Batch]:
        size = min(MICRO_ROWS, self.config.evaluation.batch_size)
        by_length = sorted(rows, key=lambda row: self._length(split, row))
        parts = [by_length[start : start + size] for start in range(0, len(by_length), size)]
        longest = self.config.evaluation.max_length
        buckets = [bucket_of(self._length(split, part[-1]), longest) for part in parts]
        return [self._batch(split, part, len(part), bucket) for part, bucket in zip(parts, buckets, strict=True)]


def _negative_sum(log_likelihoods: torch.Tensor, n_tokens: torch.Tensor) -> torch.Tensor:
    """The sum over texts of the negative mean log-likelihood, in nats: [n, 1]; the numbers of tokens do not weigh."""
    del n_tokens
    return -log_likelihoods.sum()
