"""Tasks: a model family, data and a metric. They make the Evaluate that recipes call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stockpot.config import TaskConfig, load_task_config, task_config
from stockpot.errors import ConfigError
from stockpot.tasks.callables import load_callable
from stockpot.tasks.locations import model_folder
from stockpot.types import Incumbent, Ingredient, Predictions, Score, Soup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from stockpot.tasks.clip import ClipClassification
    from stockpot.tasks.custom import CustomNetwork
    from stockpot.tasks.gradients import GradientOptions, ModuleGradient
    from stockpot.tasks.image import ImageClassification
    from stockpot.tasks.lm import LanguageModel
    from stockpot.tasks.seq2seq import Seq2SeqClassification
    from stockpot.tasks.text import TextClassification

__all__ = ["FAMILIES", "Task", "load_callable", "load_task", "model_folder"]


class Task(Protocol):
    """What the commands need of a model family; `tests/tasks` holds the suite that every family passes."""

    @property
    def metric(self) -> str:
        """Name of the metric."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are scored: held_out, test, shift:NAME."""

    @property
    def unprepared(self) -> tuple[str, ...]:
        """The scored splits that `prepare` has work with."""

    @property
    def prepared_bytes(self) -> int:
        """What `prepare` has put on the disk."""

    @property
    def split_notes(self) -> tuple[str, ...]:
        """What there is to say of the splits."""

    def prepare(self, split: str) -> None:
        """Makes ready, and so checks, what predictions on a split read."""

    def accept(self, ingredient: Ingredient) -> None:
        """Fails where the network cannot be made, or take an ingredient's weights."""

    def evaluate(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        """The held-out score of a soup."""

    def score(self, predictions: Predictions) -> Score:
        """The task's metric of some predictions."""

    def predict(self, soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        """Logits and labels of a soup on a split."""

    @property
    def is_order_invariant(self) -> bool:
        """Whether rows may be reordered on this machine without changing a logit."""

    def race(
        self,
        soup: Soup,
        split: str,
        guesses: Sequence[np.ndarray[Any, Any]],
        *,
        against: Incumbent,
        known: Predictions | None = None,
    ) -> Predictions:
        """Predictions of a soup that is given up as soon as it provably cannot replace the incumbent."""

    def complete(self, soup: Soup, split: str, known: Predictions) -> Predictions:
        """Whole predictions, of which some are known."""

    def gradient(self, ingredients: Sequence[Ingredient], options: GradientOptions) -> ModuleGradient:
        """The held-out loss of learned soups and its gradient by coefficient; closed after use."""

    def check_learnable(self, *, fold: bool) -> None:
        """Refuses learned soups, and folding their logit scale, where this family has no way to do it."""

    def folded(self, soup: Soup) -> Soup:
        """The soup with its logit scale in the classifier head."""

    @property
    def recalibrates(self) -> bool:
        """Whether running statistics are made anew for every model."""

    @property
    def recalibration_notes(self) -> tuple[str, ...]:
        """What became of that; nothing where it was not asked for."""

    def running_statistics(self, soup: Soup) -> Mapping[str, np.ndarray[Any, Any]]:
        """Running statistics to write with the soup instead of averaged ones; none where they are not made anew."""

    def identity(self, split: str) -> str:
        """What the logits of a split depend on beside the weights."""

    def labels(self, split: str) -> np.ndarray[Any, Any]:
        """Labels [n] of a split, or numbers for regression."""

    def item_ids(self, split: str) -> tuple[str, ...]:
        """Which item each example is about."""


def _text_classification(*args: Any, **kwargs: Any) -> TextClassification:
    from stockpot.tasks.text import TextClassification

    return TextClassification(*args, **kwargs)


def _image_classification(*args: Any, **kwargs: Any) -> ImageClassification:
    from stockpot.tasks.image import ImageClassification

    return ImageClassification(*args, **kwargs)


def _clip(*args: Any, **kwargs: Any) -> ClipClassification:
    from stockpot.tasks.clip import ClipClassification

    return ClipClassification(*args, **kwargs)


def _custom(*args: Any, **kwargs: Any) -> CustomNetwork:
    from stockpot.tasks.custom import CustomNetwork

    return CustomNetwork(*args, **kwargs)


def _lm(config: Any, **kwargs: Any) -> LanguageModel:
    if config.scoring == "harness":
        from stockpot.tasks.harness_questions import HarnessQuestions

        return HarnessQuestions(config, **kwargs)
    from stockpot.tasks.lm import LanguageModel

    return LanguageModel(config, **kwargs)


def _seq2seq_classification(*args: Any, **kwargs: Any) -> Seq2SeqClassification:
    from stockpot.tasks.seq2seq import Seq2SeqClassification

    return Seq2SeqClassification(*args, **kwargs)


#: Family name -> what makes its Task.
FAMILIES: Mapping[str, Callable[..., Any]] = {
    "text-classification": _text_classification,
    "image-classification": _image_classification,
    "clip": _clip,
    "custom": _custom,
    "lm": _lm,
    "seq2seq-classification": _seq2seq_classification,
}
#: Families whose network comes from no folder.
_WITHOUT_FOLDER = ("custom",)


def load_task(
    source: str | Path | Mapping[str, Any] | TaskConfig,
    model: str | Path | Ingredient | None = None,
    *,
    folder: Path | None = None,
    n_threads: int | None = None,
    own_labels: bool = True,
    allow_overlap: bool = False,
    recalibrate: int | None = None,
) -> TextClassification:
    """Makes a task from a task.yaml, a mapping of the same shape, or a checked configuration.

    Args:
        source: the task; relative paths in it start from the file's folder (else from `folder`).
        model: the ingredient or folder whose config.json and tokenizer are used when the task names none.
        folder: where relative paths start when `source` is no file; default: the configuration's own folder, and the
            working directory for a mapping.
        n_threads: batches in flight on a CPU; default: the cores.
        own_labels: whether the label names of the model's configuration count; not for one that gets a new head.
        allow_overlap: whether splits may share texts, whatever the task says.
        recalibrate: training batches that running statistics are made anew over; None: as the task says.

    Returns:
        A Task; its `evaluate` is what recipes take.

    Raises:
        ConfigError: the configuration is wrong, no model is named, or there is nothing to recalibrate with.
        DataError: the data are not what the task says.
        MissingExtraError: transformers is not installed.
    """
    if isinstance(source, TaskConfig):
        config, start = source, folder or source.folder
    elif isinstance(source, Mapping):
        config, start = task_config(source, folder or Path()), folder or Path()
    else:
        config, start = load_task_config(Path(source)), Path(source).parent
    if allow_overlap:
        data = config.data.model_copy(update={"allow_overlap": True})
        config = config.model_copy(update={"data": data})
    if recalibrate is not None:
        evaluation = config.evaluation.model_copy(update={"recalibrate": recalibrate})
        config = config.model_copy(update={"evaluation": evaluation})
    place = start if config.family in _WITHOUT_FOLDER else _model_folder(config, model, start)
    task: TextClassification = FAMILIES[config.family](
        config, folder=start, model_folder=place, n_threads=n_threads, own_labels=own_labels
    )
    task.check_recalibration()
    return task


def _model_folder(config: TaskConfig, model: str | Path | Ingredient | None, start: Path) -> Path:
    """The task's own model, else the one given."""
    if config.model is not None:
        return model_folder(config.model, relative_to=start)
    if model is None:
        raise ConfigError(
            "the task names no model and no ingredient gives one",
            fix="add `model: FOLDER` to the task, or pass `model=`",
        )
    return model_folder(str(model.source if isinstance(model, Ingredient) else model))
