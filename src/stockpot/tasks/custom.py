"""A user's own network and data: two functions by name, and all that follows is as for every family."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stockpot._cores import available_cores
from stockpot.config import CustomTaskConfig
from stockpot.errors import ConfigError, DataError, EvaluationError, StockpotError
from stockpot.journal import identity_of_callable
from stockpot.tasks.batches import Batch
from stockpot.tasks.callables import load_callable
from stockpot.tasks.classifier import ResidentClassifier
from stockpot.tasks.data import Split, check_overlap
from stockpot.tasks.gradients import MICRO_ROWS
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.labels import encode_labels, encode_numbers
from stockpot.tasks.text import TextClassification, try_metric

if TYPE_CHECKING:
    import torch

__all__ = ["CustomNetwork"]

Array: TypeAlias = np.ndarray[Any, Any]
#: The one input that is not named: it goes to the first argument of the network's `forward`.
_UNNAMED = ""
#: Raised whenever the way from a loader's arrays to logits changes: older predictions are then not reused.
PREPROCESSING_VERSION = 1


class CustomNetwork(TextClassification):
    """A user's own nn.Module, a loader and a metric: predicts with any soup of its checkpoints.

    The loader is called for every split when the task is made; the network is made at the first prediction.

    Args:
        config: the task.
        folder: modules in it are found.
        model_folder: not looked at.
        n_threads: batches in flight on a CPU; default: the cores. Does not change a single bit.
        own_labels: not looked at.

    Raises:
        ConfigError: functions that cannot be found, or that no source file vouches for.
        DataError: the loader fails, or returns arrays that do not fit each other; splits that share rows.
        MissingExtraError: the metric needs scikit-learn, which is not installed.
    """

    config: CustomTaskConfig

    def __init__(
        self,
        config: CustomTaskConfig,
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
        self._factory, factory = _known(config.factory, "factory", folder)
        loader, self._functions = _known(config.loader, "loader", folder)
        self._functions = f"{factory} {self._functions}"
        self._inputs: dict[str, dict[str, Array]] = {}
        self._splits = {}
        for name, settings in config.data.splits.items():
            self._inputs[name], labels = _loaded(loader, config, name, settings)
            self._splits[name] = _split(name, self._inputs[name], labels, settings.get("of"))
        _check_items(self._splits)
        check_overlap(self._splits, config.data.allow_overlap)
        self.label_names = ("value",)
        if config.is_regression:
            self._labels = encode_numbers(self._splits)
        else:
            self.label_names, self._labels = encode_labels(self._splits, config.labels or _numbers(self._splits))
        try_metric(config.metric, len(self.label_names))
        self._batches = {}

    @cached_property
    def _model(self) -> ResidentClassifier:
        return ResidentClassifier(
            self._model_folder,
            n_labels=len(self.label_names),
            hardware=self.hardware,
            n_threads=self._n_threads,
            new_module=lambda _folder, _n: _made(self._factory, self.config.factory),
        )

    @cached_property
    def _settings_identity(self) -> Mapping[str, Any]:
        torch, _ = import_hf()
        return {
            "family": self.config.family,
            "functions": self._functions,
            "preprocessing": PREPROCESSING_VERSION,
            "batch_size": self.config.evaluation.batch_size,
            "device": self.hardware.device,
            "precision": self.hardware.precision,
            "capability": self.hardware.capability,
            "torch": torch.__version__,
        }

    def _rows_by_bucket(self, split: str) -> dict[int, list[int]]:
        return {0: list(range(self.n_examples(split)))}  # arrays have one shape

    def _batch(self, split: str, rows: Sequence[int], batch_size: int, bucket: int) -> Batch:
        del bucket  # there is one
        filled = [*rows, *[rows[0]] * (batch_size - len(rows))]
        return Batch(_Rows(self._named_inputs(split), filled), np.asarray(rows, dtype=np.int64))

    def _loose_batches(self, split: str, rows: Sequence[int]) -> list[Batch]:
        parts = [rows[start : start + MICRO_ROWS] for start in range(0, len(rows), MICRO_ROWS)]
        return [self._batch(split, part, len(part), 0) for part in parts]

    def _named_inputs(self, split: str) -> Mapping[str, Array]:
        inputs = self._inputs[split]
        if _UNNAMED in inputs:
            self._inputs[split] = inputs = {_first_argument(self._model.module): inputs[_UNNAMED]}
        return inputs


class _Rows(Mapping[str, Array]):
    """The inputs of a batch, taken from a split's arrays when they are asked for: no split is held twice."""

    def __init__(self, arrays: Mapping[str, Array], rows: Sequence[int]) -> None:
        self._arrays, self._rows = arrays, list(rows)

    def __getitem__(self, name: str) -> Array:
        return _as_torch_takes(self._arrays[name][self._rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _as_torch_takes(values: Array) -> Array:
    """Float64 as float32, what networks have their weights in; everything else as it is, writable."""
    return np.array(values, dtype=np.float32 if values.dtype == np.float64 else values.dtype)


# ------------------------------------------------------------------------------------------------ the user's functions


def _known(reference: str, key: str, folder: Path) -> tuple[Callable[..., Any], str]:
    """The function, and what identifies it.

    Raises:
        ConfigError: no source file says what it does.
    """
    function = load_callable(reference, option=f"{key}:", folder=folder)
    identity = identity_of_callable(function, reference)
    if identity is None:
        raise ConfigError(
            f"{key}: {reference!r} has no source file, so nobody could tell when it changes",
            fix="name a function that a module defines by `def`",
        )
    return function, identity


def _made(factory: Callable[[], Any], reference: str) -> torch.nn.Module:
    """The factory's network.

    Raises:
        ConfigError: it raises, or returns something else.
    """
    torch_module, _ = import_hf()
    try:
        module: torch.nn.Module = factory()
    except StockpotError:
        raise
    except Exception as exc:  # a user's function may raise anything
        raise ConfigError(
            f"factory: {reference!r} raised {type(exc).__name__}: {exc}", fix="mend it; it is called without arguments"
        ) from exc
    is_module = isinstance(module, torch_module.nn.Module)
    if not is_module:
        raise ConfigError(f"factory: {reference!r} returned a {type(module).__name__}", fix="return a torch.nn.Module")
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if lazy := [name for name, tensor in tensors if torch_module.nn.parameter.is_lazy(tensor)]:
        raise ConfigError(
            f"factory: {reference!r} returned layers that have no shape yet: {', '.join(lazy)}",
            fix="call the network on an example before you return it, or give its layers their sizes",
        )
    return module


def _first_argument(module: torch.nn.Module) -> str:
    """What the network's `forward` calls its first argument."""
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            return name
    raise EvaluationError(
        f"forward of {type(module).__name__} has no argument that can be named",
        fix='return inputs as {"name of the argument": array} from the loader',
    )


def _loaded(
    loader: Callable[..., Any], config: CustomTaskConfig, split: str, settings: Mapping[str, Any]
) -> tuple[dict[str, Array], Array]:
    """Inputs by name and labels of one split.

    Raises:
        DataError: the loader raises, or what it returns is not usable; every problem.
    """
    what = f"loader: {config.loader!r}, split {split!r}"
    try:
        found = loader(split, copy.deepcopy(dict(settings)))
        if not isinstance(found, tuple) or len(found) != 2:
            raise DataError(f"{what}: it returned a {type(found).__name__}", fix="return (inputs, labels)")
        given = found[0] if isinstance(found[0], Mapping) else {_UNNAMED: found[0]}
        inputs, labels = {str(name): np.asarray(values) for name, values in given.items()}, np.asarray(found[1])
    except StockpotError:
        raise
    except Exception as exc:  # a user's function may raise anything
        raise DataError(f"{what}: it raised {type(exc).__name__}: {exc}", fix="mend the loader") from exc
    problems = [*_wrong_labels(labels, numbers=config.is_regression), *_wrong_inputs(inputs, labels)]
    if problems:
        raise DataError(f"{what}: arrays that cannot be used", problems=problems, fix="mend the loader")
    return inputs, labels


def _wrong_labels(labels: Array, *, numbers: bool) -> Iterator[str]:
    allowed, kinds = ("numbers", "iuf") if numbers else ("integers or texts", "iuU")
    if labels.ndim != 1 or not len(labels):
        yield f"labels have the shape {list(labels.shape)}, not [n] with n >= 1"
    if labels.dtype.kind not in kinds:
        yield f"labels are {labels.dtype}, not {allowed}"
    elif labels.dtype.kind == "f" and not np.isfinite(labels).all():
        yield "labels are not all finite"


def _wrong_inputs(inputs: Mapping[str, Array], labels: Array) -> Iterator[str]:
    if not inputs:
        yield "there are no inputs"
    for name, values in inputs.items():
        called = f"input {name!r}" if name else "the inputs"
        if values.dtype.kind not in "biuf":
            yield f"{called}: {values.dtype}, not numbers"
        if values.ndim < 1 or labels.ndim != 1 or len(values) != len(labels):
            yield f"{called}: shape {list(values.shape)} beside labels {list(labels.shape)}"


# --------------------------------------------------------------------------------------------------------------- rows


def _split(name: str, inputs: Mapping[str, Array], labels: Array, of: str | None) -> Split:
    """The rows by their digests: what overlap and identity are about."""
    digests = tuple((_row_digest(inputs, row),) for row in range(len(labels)))
    return Split(name, digests, tuple(labels.tolist()), tuple(f"{of or name}:{row}" for row in range(len(labels))), of)


def _row_digest(inputs: Mapping[str, Array], row: int) -> str:
    content = hashlib.sha256()
    for name in sorted(inputs):
        values = np.ascontiguousarray(inputs[name][row])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.tobytes())
    return content.hexdigest()


def _check_items(splits: Mapping[str, Split]) -> None:
    """A shift of test has test's rows, or the first of them."""
    problems = [
        f"{name}: {len(split)} rows, and test has {len(splits[split.of])}"
        for name, split in splits.items()
        if split.of is not None and len(split) > len(splits[split.of])
    ]
    if problems:
        raise DataError(
            "shifts of test hold more rows than test",
            problems=problems,
            fix="return test's rows in test's order, or leave out `of: test`",
        )


def _numbers(splits: Mapping[str, Split]) -> list[str] | None:
    """Class numbers as names, up to the largest of any split; None where labels are texts."""
    labels = [label for split in splits.values() for label in split.labels]
    integers = [label for label in labels if isinstance(label, int)]
    return [str(number) for number in range(max(integers) + 1)] if len(integers) == len(labels) else None
