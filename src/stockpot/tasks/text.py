"""Text classification and regression with transformers: data, one resident model, predictions by soup and split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stockpot._cores import available_cores
from stockpot.assembly import DELTAS_BUDGET_BYTES, opened
from stockpot.config import TaskConfig
from stockpot.errors import ConfigError
from stockpot.metrics import METRICS, per_example
from stockpot.recipes import fold_logit_scale, single
from stockpot.tasks.batches import Batch, Encodings, fixed_batch, loose_batches
from stockpot.tasks.classifier import ResidentClassifier, encoded
from stockpot.tasks.data import Split, check_overlap, digest, load_splits
from stockpot.tasks.gradients import (
    MICRO_ROWS,
    GradientOptions,
    ModuleGradient,
    SummedLoss,
    cross_entropy,
    squared_error,
)
from stockpot.tasks.hardware import Hardware, choose_hardware, import_hf
from stockpot.tasks.labels import encode_labels, encode_numbers
from stockpot.tasks.model_files import check_outputs, model_identity, model_labels, sha256_of
from stockpot.tasks.racing import Raced, margins, race
from stockpot.tasks.recalibration import recalibration_note
from stockpot.types import Incumbent, Ingredient, Predictions, Score, Soup

__all__ = [
    "TextClassification",
    "try_metric",
]

#: Raised whenever the way from text to logits changes: older predictions are then not reused.
PREPROCESSING_VERSION = 3


class TextClassification:
    """A model family, data and a metric: predicts with any soup of sequence classifiers.

    Data are read and checked when it is made; the model is built at the first prediction.

    Args:
        config: the task.
        folder: relative paths in `config` start here.
        model_folder: has config.json and the tokenizer.
        n_threads: batches in flight on a CPU; default: the cores. Does not change a single bit.
        own_labels: whether the label names in the model's config.json count; not for a model that gets a new head.

    Raises:
        DataError: rows, labels or splits are wrong; held-out rows are in test; the metric wants other classes.
        ConfigError: no usable model configuration.
        MissingExtraError: the metric needs scikit-learn, which is not installed.
    """

    def __init__(
        self,
        config: TaskConfig,
        *,
        folder: Path,
        model_folder: Path,
        n_threads: int | None = None,
        own_labels: bool = True,
    ) -> None:
        self.config = config
        self.metric = config.metric
        self._model_folder = model_folder
        self._n_threads = n_threads or available_cores()
        self._splits: dict[str, Split] = load_splits(config.data, folder=folder, numbers=config.is_regression)
        check_overlap(self._splits, config.data.allow_overlap)
        self.label_names: tuple[str, ...] = ("value",)
        self._labels: Mapping[str, np.ndarray[Any, Any]]
        if config.is_regression:
            self._labels = encode_numbers(self._splits)
        else:
            known = model_labels(model_folder) if own_labels else None
            self.label_names, self._labels = encode_labels(self._splits, config.labels, model_labels=known)
        if own_labels:
            check_outputs(model_folder, None if config.is_regression else self.label_names)
        try_metric(config.metric, len(self.label_names))
        self._encoded: dict[str, Encodings] = {}
        self._batches: dict[str, list[Batch]] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are scored, in the table's order: held_out, test, shift:NAME."""
        return tuple(name for name in self._splits if name != "train")

    def evaluate(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        """The soup's score on the held-out split: an Evaluate."""
        return self.score(self.predict(soup, "held_out", against=against))

    def score(self, predictions: Predictions) -> Score:
        """The task's metric of some predictions."""
        return METRICS[self.metric](predictions.logits, predictions.labels)

    def predict(self, soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        """Logits and labels of one soup on one split.

        Raises:
            BlendError, CheckpointError: the soup cannot be blended or does not fit the model.
            EvaluationError: logits that are not finite.
        """
        self._load(soup, against)
        logits = self._model.logits(self._batches_of(split), self.n_examples(split))
        return Predictions(self._projected(split, logits) * np.float32(soup.logit_scale), self._labels[split])

    def race(
        self,
        soup: Soup,
        split: str,
        guesses: Sequence[np.ndarray[Any, Any]],
        *,
        against: Incumbent,
        known: Predictions | None = None,
    ) -> Predictions:
        """Predictions of a soup that is given up as soon as it provably cannot replace the incumbent.

        Args:
            soup: the candidate.
            split: on which the incumbent was scored.
            guesses: two times [n, classes] logits that the candidate's are expected to be like; they decide the order
                of evaluation alone.
            against: the incumbent; its rule must need no more than the score.
            known: from an earlier race of this soup.

        Returns:
            All examples in their own order; fewer, with their `rows`, if it was given up.

        Raises:
            BlendError, CheckpointError, EvaluationError: as `predict`.
        """
        labels = self._labels[split]
        n = len(labels)
        expected = np.stack([margins(guess, labels) for guess in guesses])

        def is_lost(n_wrong: int) -> bool:
            return not against.yields_to(Score((n - n_wrong) / n))

        return self._raced(soup, split, expected, is_lost, against, known)

    def complete(self, soup: Soup, split: str, known: Predictions) -> Predictions:
        """Whole predictions of a soup that was given up: only what is missing is evaluated.

        Args:
            soup: what was raced.
            split: on which.
            known: what the race gave.

        Raises:
            BlendError, CheckpointError, EvaluationError: as `predict`.
        """
        return self._raced(soup, split, np.zeros((2, self.n_examples(split))), lambda _: False, None, known)

    def _raced(
        self,
        soup: Soup,
        split: str,
        expected: np.ndarray[Any, Any],
        is_lost: Callable[[int], bool],
        against: Incumbent | None,
        known: Predictions | None,
    ) -> Predictions:
        labels, buckets = self._labels[split], self._rows_by_bucket(split)
        batch_size = self.config.evaluation.batch_size
        lengths = tuple(buckets)
        is_right = METRICS[self.metric].per_example or per_example("accuracy")
        load_once = cache(lambda: self._load(soup, against))  # what is known may settle it already

        def forward(batches: Sequence[tuple[int, Any]]) -> Sequence[Any]:
            load_once()
            made = [self._batch(split, rows.tolist(), batch_size, lengths[bucket]) for bucket, rows in batches]
            parts = self._model.logits_by_batch(made)
            return [self._projected(split, part) * np.float32(soup.logit_scale) for part in parts]

        found = race(
            expected,
            labels,
            [np.asarray(rows) for rows in buckets.values()],
            forward,
            lambda rows, logits: len(rows) - int(is_right(logits, labels[rows]).sum()),
            is_lost,
            batch_size=batch_size,
            wave=self._n_threads,
            known=None if known is None or known.rows is None else Raced(known.rows, known.logits),
        )
        if len(found.rows) < len(labels):
            return Predictions(found.logits, labels[found.rows], found.rows)
        return Predictions(found.logits[np.argsort(found.rows)], labels)

    def gradient(
        self,
        ingredients: Sequence[Ingredient],
        options: GradientOptions | None = None,
        *,
        budget_bytes: int = DELTAS_BUDGET_BYTES,
    ) -> ModuleGradient:
        """The cross-entropy (regression: squared error) of learned soups on the held-out split, with its gradients.

        Args:
            ingredients: what is mixed.
            options: rows of coefficients, batch size, the part that is held back for stopping.
            budget_bytes: memory for the differences between ingredients; above, they are streamed from disk.

        Returns:
            A Gradient; close it after use.

        Raises:
            BlendError, CheckpointError: ingredients that cannot be mixed, or do not fit the model.
            DataError: too few held-out examples to hold a part back.
        """
        options = options or GradientOptions()
        self._model.forget()
        return ModuleGradient(
            self._model.module,
            ingredients,
            forward=lambda batch: self._projected("held_out", self._model.forward(batch)),
            labels=self._labels["held_out"],
            loss=self._summed_loss,
            batches=lambda rows: self._loose_batches("held_out", rows),
            options=options,
            n_threads=self._n_threads if self.hardware.device == "cpu" else 1,
            budget_bytes=budget_bytes,
            when_changed=self._model.forget,
        )

    @property
    def _summed_loss(self) -> SummedLoss:
        return squared_error if self.config.is_regression else cross_entropy

    def check_learnable(self, *, fold: bool) -> None:
        """Refuses learned soups, and folding their logit scale, where this family has no way to do it: never here.

        Args:
            fold: whether the scale is to go into the classifier head.
        """

    def prepared_forward(self, soup: Soup, split: str, *, max_batches: int) -> tuple[Callable[[], Any], int]:
        """A forward pass over a split's first batches, weights loaded, warmed up; and its number of examples."""
        self._load(soup)
        batches = self._batches_of(split)[:max_batches]
        n_examples = sum(len(batch.rows) for batch in batches)
        renumbered, start = [], 0
        for batch in batches:
            renumbered.append(Batch(batch.inputs, np.arange(start, start + len(batch.rows))))
            start += len(batch.rows)
        self._model.logits(renumbered[:1], len(renumbered[0].rows))
        return lambda: self._model.logits(renumbered, n_examples), n_examples

    def folded(self, soup: Soup) -> Soup:
        """The soup with its logit scale in the classifier head: the written model then needs no extra code.

        Raises:
            EvaluationError: the model has no linear layer that scales its logits.
        """
        if soup.logit_scale == 1.0:
            return soup
        self._load(soup)
        head = self._model.head_tensors(self._batches_of("held_out")[0])
        with opened(soup.ingredients[:1]) as (checkpoint,):
            names = [name for name, spec in checkpoint.specs.items() if spec.is_float]
        return fold_logit_scale(soup, head, names)

    @property
    def recalibrates(self) -> bool:
        """Whether running statistics are made anew for every model."""
        return self.config.evaluation.recalibrate > 0

    def check_recalibration(self) -> None:
        """Refuses to make running statistics anew where there are no training examples to make them from.

        Raises:
            ConfigError: the task names no training split.
        """
        if self.recalibrates and "train" not in self._splits:
            raise ConfigError(
                "running statistics are made anew over training examples, and the task names none",
                fix="add `train` to the task's data, or leave out `recalibrate`",
            )

    @property
    def recalibration_notes(self) -> tuple[str, ...]:
        """What became of `recalibrate`: over how many batches, or that the model has nothing to make anew."""
        wanted, size = self.config.evaluation.recalibrate, self.config.evaluation.batch_size
        return (recalibration_note(self._model.module, wanted, self.n_examples("train"), size),) if wanted else ()

    def running_statistics(self, soup: Soup) -> dict[str, np.ndarray[Any, Any]]:
        """What belongs into the soup's written weights where running statistics are made anew; else nothing."""
        if not self.config.evaluation.recalibrate:
            return {}
        self._load(soup)
        return self._model.statistics()

    def _load(self, soup: Soup, against: Incumbent | None = None) -> None:
        """The soup's weights, and statistics that fit them where the task says so."""
        if self._model.load(soup, against=against) and (n := self.config.evaluation.recalibrate):
            self._model.recalibrate(self._training_batches(n))

    def _training_batches(self, n: int) -> Iterator[Batch]:
        """n batches drawn from the training split by its seed; fewer where it has fewer rows."""
        size, n_rows = self.config.evaluation.batch_size, self.n_examples("train")
        drawn = np.random.default_rng([self.config.data.seed, 2]).permutation(n_rows)[: n * size].tolist()
        bucket = max(self._rows_by_bucket("train"))
        for start in range(0, len(drawn), size):
            rows = drawn[start : start + size]
            yield self._batch("train", rows, len(rows), bucket)

    @property
    def unprepared(self) -> tuple[str, ...]:
        """The scored splits that `prepare` has work with: none, texts are read and checked at once."""
        return ()

    @property
    def prepared_bytes(self) -> int:
        """What `prepare` has put on the disk: nothing."""
        return 0

    def accept(self, ingredient: Ingredient) -> None:
        """Fails where the network cannot be made, or take an ingredient's weights.

        Raises:
            ConfigError: no such network.
            BlendError, CheckpointError: the ingredient does not fit it.
        """
        self._load(single(ingredient), None)

    def prepare(self, split: str) -> None:
        """Makes ready, and so checks, what predictions on a split read.

        Args:
            split: one of `unprepared`.
        """

    @property
    def split_notes(self) -> tuple[str, ...]:
        """What there is to say of the splits: shifts that are no shift."""
        return tuple(
            f"{name} changes none of the {len(split):,} examples of {split.of} that it is made of: it is no shift."
            for name, split in self._splits.items()
            if split.of is not None and not self._changes_any(name, split.of)
        )

    def _changes_any(self, split: str, of: str) -> bool:
        """Whether a split differs anywhere from the one that it is derived from."""
        return self._splits[split].texts != self._splits[of].texts[: len(self._splits[split])]

    def n_examples(self, split: str) -> int:
        """Number of examples of a split."""
        return len(self._labels[split])

    def labels(self, split: str) -> np.ndarray[Any, Any]:
        """Labels [n] of a split: int64 class numbers, or float64 numbers for regression."""
        return self._labels[split]

    def item_ids(self, split: str) -> tuple[str, ...]:
        """Which item each example is about; shifts that perturb the test set share its items."""
        return self._splits[split].item_ids

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """The text columns of a split."""
        return self._splits[split].texts

    def identity(self, split: str) -> str:
        """SHA-256 of everything beside the weights that the logits of a split depend on."""
        parts = {**self._settings_identity, "data": self.data_digest(split), "labels": self.label_names}
        if n := self.config.evaluation.recalibrate:
            parts["recalibrate"] = [n, self.data_digest("train") if "train" in self._splits else None]
        return sha256_of(parts)

    def data_digest(self, split: str) -> str:
        """SHA-256 of a split's texts and labels."""
        return digest(self._splits[split])

    @cached_property
    def is_order_invariant(self) -> bool:
        """Whether rows may be reordered on this machine without changing a logit (self-check on one batch)."""
        return self._model.is_order_invariant(self._batches_of("held_out")[0])

    @cached_property
    def hardware(self) -> Hardware:
        """Device and precision, resolved."""
        settings = self.config.evaluation
        return choose_hardware(device=settings.device, precision=settings.precision)

    @cached_property
    def _model(self) -> ResidentClassifier:
        return ResidentClassifier(
            self._model_folder, n_labels=len(self.label_names), hardware=self.hardware, n_threads=self._n_threads
        )

    @cached_property
    def _settings_identity(self) -> Mapping[str, Any]:
        torch, transformers = import_hf()
        settings = self.config.evaluation
        return {
            "family": self.config.family,
            "model": model_identity(self._model_folder),
            "preprocessing": PREPROCESSING_VERSION,
            "max_length": settings.max_length,
            "batch_size": settings.batch_size,
            "device": self.hardware.device,
            "precision": self.hardware.precision,
            "capability": self.hardware.capability,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def _batches_of(self, split: str) -> list[Batch]:
        if split not in self._batches:
            size = self.config.evaluation.batch_size
            self._batches[split] = [
                self._batch(split, rows[start : start + size], size, bucket)
                for bucket, rows in self._rows_by_bucket(split).items()
                for start in range(0, len(rows), size)
            ]
        return self._batches[split]

    def _rows_by_bucket(self, split: str) -> dict[int, list[int]]:
        return self._encodings(split).rows_by_bucket(self.config.evaluation.batch_size)

    def _batch(self, split: str, rows: Sequence[int], batch_size: int, bucket: int) -> Batch:
        return fixed_batch(self._encodings(split), rows, batch_size, bucket)

    def _loose_batches(self, split: str, rows: Sequence[int]) -> list[Batch]:
        return loose_batches(self._encodings(split), rows, batch_size=MICRO_ROWS)

    def _projected(self, split: str, logits: Any) -> Any:
        """What a split makes of the model's logits (an array or a tensor); texts take them as they are."""
        del split
        return logits

    def _encodings(self, split: str) -> Encodings:
        if split not in self._encoded:
            max_length = self.config.evaluation.max_length
            self._encoded[split] = encoded(self._model_folder, self._splits[split].texts, max_length=max_length)
        return self._encoded[split]


def try_metric(metric: str, n_classes: int) -> None:
    """Fails now, not after the first long prediction, where the metric lacks a package or wants other classes."""
    examples = np.arange(n_classes) if METRICS[metric].kind == "classes" else np.arange(3.0)
    METRICS[metric](np.eye(n_classes) if METRICS[metric].kind == "classes" else examples, examples)
    if metric == "top_5" and n_classes <= 5:
        raise ConfigError(
            f"top_5 counts every answer as right where there are {n_classes} classes",
            fix="use `metric: accuracy`",
        )
