"""A run's settings, and the space a sweep draws them from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, Strict, ValidationError

from stockpot.config._problems import Problem, Settings, nearest, several, shown, validation_sentences

__all__ = [
    "IMAGE_SETTINGS",
    "NAMED_SPACES",
    "Choice",
    "Entry",
    "Fixed",
    "Integers",
    "LogUniform",
    "RunSettings",
    "Uniform",
    "ZeroOrUniform",
    "entry_as_written",
    "parse_space",
    "settings_as_recorded",
]

#: Spaces of Wortsman et al. 2022 by name. Of the 71 runs of the random search RandAugment was off in 27, mixup and
#: label smoothing in 39 each; M is drawn as a real number here. GLUE: 32 runs a task and model.
NAMED_SPACES: Mapping[str, Mapping[str, Any]] = {
    "model-soups-random": {
        "learning_rate": {"log_uniform": [1e-6, 1e-4]},
        "weight_decay": {"log_uniform": [1e-4, 0.5]},
        "epochs": {"integers": [4, 16]},
        "batch_size": 256,
        "warmup_steps": 500,
        "schedule": "cosine",
        "label_smoothing": {"zero_or_uniform": {"p": 0.55, "low": 0.0, "high": 0.25}},
        "rand_augment_magnitude": {"zero_or_uniform": {"p": 0.38, "low": 1.0, "high": 20.0}},
        "rand_augment_layers": {"integers": [0, 2]},
        "mixup": {"zero_or_uniform": {"p": 0.55, "low": 0.0, "high": 0.9}},
        "random_resized_crop": 0.9,
        "max_grad_norm": 1.0,
    },
    "model-soups-glue": {
        "learning_rate": {"log_uniform": [1e-6, 1e-3]},
        "batch_size": {"choice": [8, 16, 32, 64]},
        "epochs": {"choice": [2, 3, 5]},
        "weight_decay": 0.0,
        "schedule": "linear",
    },
}


class RunSettings(Settings):
    """Everything one fine-tuning run is told. The defaults are common practice for fine-tuning a pre-trained network.

    Args:
        learning_rate: peak of the schedule, > 0; 2e-5 lies in the range recommended for BERT (Devlin et al. 2019).
        weight_decay: AdamW's decoupled decay of matrices, >= 0; vectors have none (Loshchilov and Hutter 2019).
        epochs: passes over the training split, whole, >= 1.
        batch_size: examples per step, >= 1.
        warmup_ratio: share of the steps in which the rate rises linearly, [0, 1).
        warmup_steps: so many steps instead, >= 0; 0: the share.
        schedule: what the rate does afterwards.
        label_smoothing: share of the target spread over all classes, [0, 1).
        dropout: probability in every dropout layer, [0, 1); None keeps the model's own.
        freeze: globs over parameter names (as `model.named_parameters` gives them) that are not trained.
        max_grad_norm: gradient norm above which gradients are scaled down; 0 switches it off.
        layer_decay: factor of the learning rate from each block to the one before it, (0, 1]; embeddings have the
            lowest rate (Clark et al. 2020).
        ema_decay: of the exponential moving average of the weights, [0, 1); 0: none. The average is an ingredient of
            its own, NAME-ema.
        flip: images: mirrored left to right half the time.
        random_resized_crop: images: smallest share of the area that a random crop keeps, [0, 1]; 0: no crop.
        rand_augment_magnitude: images: M of RandAugment, 0 to 30; 0: none (Cubuk et al. 2020).
        rand_augment_layers: images: N of RandAugment, operations on each image.
        mixup: images: alpha of mixup, >= 0; 0: none (Zhang et al. 2018).
        cutmix: images: alpha of CutMix, >= 0; 0: none; with both, each batch draws one (Yun et al. 2019).
        seed: of shuffling and dropout, [0, 2**31); drawn for each run.

    Example:
        >>> RunSettings(learning_rate=1e-4).epochs
        3
    """

    learning_rate: float = Field(default=2e-5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    freeze: Annotated[tuple[str, ...], Strict(False)] = ()
    max_grad_norm: float = Field(default=1.0, ge=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    flip: bool = False
    random_resized_crop: float = Field(default=0.0, ge=0, le=1)
    rand_augment_magnitude: float = Field(default=0.0, ge=0, le=30)
    rand_augment_layers: int = Field(default=2, ge=0)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**31)


#: Settings that act on images alone.
IMAGE_SETTINGS = ("flip", "random_resized_crop", "rand_augment_magnitude", "rand_augment_layers", "mixup", "cutmix")
#: Settings that a run's record holds only where they are not as usual: those that came later, or act on images alone.
_OCCASIONAL = frozenset({"warmup_steps", "layer_decay", "ema_decay", *IMAGE_SETTINGS})


def settings_as_recorded(settings: RunSettings) -> dict[str, Any]:
    """Plain JSON values of a run's settings, defaults included but for those that few runs have.

    Example:
        >>> recorded = settings_as_recorded(RunSettings(epochs=2, mixup=0.1))
        >>> recorded["epochs"], recorded["mixup"], "cutmix" in recorded
        (2, 0.1, False)
    """
    usual = {name for name in _OCCASIONAL if getattr(settings, name) == RunSettings.model_fields[name].default}
    found: dict[str, Any] = settings.model_dump(mode="json", exclude=usual)
    return found


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same value in every run."""

    value: Any


@dataclass(frozen=True, slots=True)
class LogUniform:
    """The logarithm is uniform on [log low, log high]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Uniform:
    """Uniform on [low, high]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Integers:
    """Every whole number from low to high, both included, is equally likely."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Every option is equally likely."""

    options: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ZeroOrUniform:
    """0 with probability p, else uniform on [low, high]."""

    p: float
    low: float
    high: float


Entry: TypeAlias = Fixed | LogUniform | Uniform | Integers | Choice | ZeroOrUniform


def parse_space(given: object) -> dict[str, Entry]:
    """A search space from `setting: value or {distribution: ...}`.

    Args:
        given: the name of a space of `NAMED_SPACES`, or a mapping of the names of `RunSettings` (but `seed`) to an
            `Entry`, a plain value, or exactly one of `{log_uniform: [a, b]}`, `{uniform: [a, b]}`,
            `{integers: [a, b]}` (inclusive), `{choice: [...]}` and `{zero_or_uniform: {p: 0.5, low: a, high: b}}`.

    Returns:
        Name -> Entry, in the order of `RunSettings`, so that the order in a file means nothing.

    Raises:
        PydanticCustomError: carrying every problem; inside a model it becomes part of the ConfigError.

    Example:
        >>> parse_space({"epochs": {"integers": [1, 4]}, "learning_rate": 1e-4})
        {'learning_rate': Fixed(value=0.0001), 'epochs': Integers(low=1, high=4)}
    """
    if isinstance(given, str) and given in NAMED_SPACES:
        given = NAMED_SPACES[given]
    if not isinstance(given, Mapping):
        allowed = f"a mapping of `setting: value or distribution`, or one of {', '.join(NAMED_SPACES)}"
        raise several([((), f"got {shown(given)}; allowed: {allowed}")])
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    for name, written in given.items():
        try:
            entries[name] = _parse_entry(name, written)
        except _WrongError as exc:
            problems += [((name,), sentence) for sentence in exc.sentences]
    if problems:
        raise several(problems)
    return {name: entries[name] for name in RunSettings.model_fields if name in entries}


def entry_as_written(entry: Entry) -> Any:
    """The inverse of parsing one entry.

    Example:
        >>> entry_as_written(LogUniform(1e-5, 1e-3))
        {'log_uniform': [1e-05, 0.001]}
    """
    match entry:
        case Fixed(value):
            return value
        case LogUniform(low, high):
            return {"log_uniform": [low, high]}
        case Uniform(low, high):
            return {"uniform": [low, high]}
        case Integers(low, high):
            return {"integers": [low, high]}
        case Choice(options):
            return {"choice": list(options)}
        case ZeroOrUniform(p, low, high):
            return {"zero_or_uniform": {"p": p, "low": low, "high": high}}


class _WrongError(Exception):
    """What is wrong with one entry."""

    def __init__(self, *sentences: str) -> None:
        self.sentences = sentences


def _parse_entry(name: object, written: object) -> Entry:
    known = [field for field in RunSettings.model_fields if field != "seed"]
    if name == "seed":
        raise _WrongError("is not for the space: every run draws its own from sweep.seed; remove it")
    if name not in known:
        raise _WrongError(f"unknown setting{nearest(name, known)}; allowed: {', '.join(known)}")
    # Entries made in Python take the same way as those of a file, so they are checked the same.
    plain = entry_as_written(written) if isinstance(written, Entry) else written
    entry = _parse_distribution(plain) if isinstance(plain, Mapping) else Fixed(plain)
    wrong = [sentence for value in _extremes(entry) for sentence in _wrong_value(str(name), value, entry)]
    if wrong:
        raise _WrongError(*dict.fromkeys(wrong))
    return _normalised(str(name), entry)


def _normalised(name: str, entry: Entry) -> Entry:
    """Values of the setting's own type, so that 1 and 1.0 are one identity."""
    match entry:
        case Fixed(value):
            return Fixed(getattr(RunSettings(**{name: value}), name))
        case Choice(options):
            return Choice(tuple(getattr(RunSettings(**{name: value}), name) for value in options))
        case _:
            return entry


def _parse_distribution(written: Mapping[Any, Any]) -> Entry:
    names = ", ".join(_PARSERS)
    if len(written) != 1:
        raise _WrongError(f"got the keys {', '.join(map(str, written)) or '(none)'}; allowed: exactly one of {names}")
    ((kind, arguments),) = written.items()
    if kind not in _PARSERS:
        raise _WrongError(f"unknown distribution {kind!r}{nearest(kind, _PARSERS)}; allowed: {names}")
    return _PARSERS[kind](arguments)


def _log_uniform(arguments: object) -> Entry:
    low, high = _bounds("log_uniform", arguments)
    if low <= 0:
        raise _WrongError(f"log_uniform: got the lower bound {low!r}; allowed: > 0, a logarithm must exist")
    return LogUniform(float(low), float(high))


def _uniform(arguments: object) -> Entry:
    low, high = _bounds("uniform", arguments)
    return Uniform(float(low), float(high))


def _integers(arguments: object) -> Entry:
    low, high = _bounds("integers", arguments)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise _WrongError(f"integers: got {shown(arguments)}; allowed: two whole numbers")
    return Integers(low, high)


def _choice(arguments: object) -> Entry:
    if not isinstance(arguments, list | tuple) or not arguments:
        raise _WrongError(f"choice: got {shown(arguments)}; allowed: a list of at least one value")
    return Choice(tuple(arguments))


def _zero_or_uniform(arguments: object) -> Entry:
    if not isinstance(arguments, Mapping) or set(arguments) != {"p", "low", "high"}:
        raise _WrongError(f"zero_or_uniform: got {shown(arguments)}; allowed: {{p: 0.5, low: a, high: b}}")
    p = arguments["p"]
    if not _is_number(p) or not 0 <= p <= 1:
        raise _WrongError(f"zero_or_uniform: got p {p!r}; allowed: a probability from 0 to 1")
    low, high = _bounds("zero_or_uniform", [arguments["low"], arguments["high"]])
    return ZeroOrUniform(float(p), float(low), float(high))


_PARSERS: Mapping[str, Callable[[object], Entry]] = {
    "log_uniform": _log_uniform,
    "uniform": _uniform,
    "integers": _integers,
    "choice": _choice,
    "zero_or_uniform": _zero_or_uniform,
}


def _bounds(kind: str, arguments: object) -> tuple[float, float]:
    if not isinstance(arguments, list | tuple) or len(arguments) != 2 or not all(map(_is_number, arguments)):
        raise _WrongError(f"{kind}: got {shown(arguments)}; allowed: [low, high], two finite numbers")
    low, high = arguments
    if low > high:
        raise _WrongError(f"{kind}: got the range [{low}, {high}]; allowed: low <= high")
    return low, high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _extremes(entry: Entry) -> tuple[Any, ...]:
    """Values that are allowed if and only if everything the entry can yield is."""
    match entry:
        case Fixed(value):
            return (value,)
        case Choice(options):
            return options
        case ZeroOrUniform(_, low, high):
            return (0.0, low, high)
        case LogUniform(low, high) | Uniform(low, high) | Integers(low, high):
            return (low, high)


def _wrong_value(name: str, value: object, entry: Entry) -> Iterator[str]:
    continuous = isinstance(entry, LogUniform | Uniform | ZeroOrUniform)
    if continuous and RunSettings.model_fields[name].annotation is int:
        yield "takes whole numbers; allowed: {integers: [a, b]} or {choice: [...]}"
        return
    try:
        RunSettings.model_validate({name: value})
    except ValidationError as exc:
        yield from validation_sentences(exc, RunSettings)
