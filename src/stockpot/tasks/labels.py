"""From labels as files write them to class numbers: whose names count, in which order, and what a number means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stockpot.errors import DataError
from stockpot.tasks.data import Label, Split, finite_number
from stockpot.tasks.tables import nearest, raise_problems

__all__ = ["EncodedLabels", "class_names", "encode_labels", "encode_numbers"]

_MOST_CLASSES = 1_000_000
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")  # "007" stays a name


class EncodedLabels(NamedTuple):
    """Class names in order, and the class number of every row of every split."""

    names: tuple[str, ...]
    ids: dict[str, np.ndarray[Any, np.dtype[np.int64]]]


def encode_labels(
    splits: Mapping[str, Split], labels: Sequence[str] | None = None, *, model_labels: Sequence[str] | None = None
) -> EncodedLabels:
    """Class numbers for every row.

    The names, in order, are `labels`, else `model_labels`, else those that a file names its classes with, else what
    train and held_out hold: names sorted, or for integers 0 to the largest. Integers are class numbers, unless they
    occur among the names (a model with the classes "1" to "5"), or their file names them: then they mean the class of
    that name. A split may lack classes.

    Args:
        splits: as `load_splits` gives them.
        labels: the task's own order.
        model_labels: the model's names in the order of its outputs; None where they are mere placeholders.

    Returns:
        The names, and an int64 array [n] per split.

    Raises:
        DataError: labels that are not among the names, per split with their counts and the nearest name; numbers with a
            fraction where no names are given; `labels` that are the model's in another order; a file whose names of
            the classes are none of the model's.

    Example:
        >>> held_out = Split("held_out", (("a",), ("b",)), ("web", "net"), ("f:2", "f:3"))
        >>> names, ids = encode_labels({"held_out": held_out})
        >>> names, ids["held_out"].tolist()
        (('net', 'web'), [1, 0])
    """
    names = tuple(labels or model_labels or class_names(splits) or _names_in(splits))
    if labels and model_labels and names != tuple(model_labels) and sorted(names) == sorted(model_labels):
        raise DataError(
            f"`labels` is {', '.join(names[:8])}; the model's outputs are, in order, {', '.join(model_labels[:8])}",
            fix="leave out `labels`, or give them in the model's order",
        )
    unnamed = _numbers(names, [split for split in splits.values() if not split.class_names])
    number_of = {
        name: _named_numbers(split, names, is_listed=bool(labels)) if split.class_names else unnamed
        for name, split in splits.items()
    }
    problems = [line for name, split in splits.items() for line in _unknown(split, number_of[name], names)]
    known = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    raise_problems(problems, f"labels that are none of: {known}", fix="mend these rows, or give `labels` in the task")
    ids = {
        name: np.fromiter((number_of[name][label] for label in split.labels), dtype=np.int64, count=len(split))
        for name, split in splits.items()
    }
    return EncodedLabels(names, ids)


def encode_numbers(splits: Mapping[str, Split]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """What regression predicts: a float64 array [n] per split.

    Args:
        splits: as `load_splits` gives them with `numbers`.

    Example:
        >>> encode_numbers({"test": Split("test", (("a",),), ("0.5",), ("f:2",))})["test"].tolist()
        [0.5]
    """
    return {name: np.array([float(label) for label in split.labels]) for name, split in splits.items()}


def class_names(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """The names that the first file to name its classes gives them, in the order of their numbers; else none.

    Example:
        >>> class_names({"test": Split("test", (("a",),), (1,), ("f:1",), class_names=("no", "yes"))})
        ('no', 'yes')
    """
    return next((split.class_names for split in splits.values() if split.class_names), ())


def _names_in(splits: Mapping[str, Split]) -> list[str]:
    """What train and held_out hold.

    Raises:
        DataError: numbers with a fraction, or far too large, which are hardly names of classes: each would be a class
            of its own, or stand for millions; names that differ in blanks alone.
    """
    everything = [label for split in splits.values() for label in split.labels]
    if everything and not any(isinstance(label, int) or finite_number(label) is None for label in everything):
        raise DataError(
            f"the labels are numbers, such as {everything[0]}, not classes",
            fix="for regression use `metric: mse`, `r2` or `spearman`; names of classes go under `labels`",
        )
    found = {label for name in ("train", "held_out") if name in splits for label in splits[name].labels}
    integers = [label for label in found if isinstance(label, int)]
    if integers:
        if max(integers) >= _MOST_CLASSES:
            raise DataError(
                f"the label {max(integers)} is no class number: there would be as many classes",
                fix="correct `label`; numbers that are names (ids, dates) go under `labels`",
            )
        # Class numbers, not merely names: a small held-out split may lack a class, and the others must not move up.
        return [str(number) for number in range(max(integers) + 1)]
    names = sorted(str(label) for label in found)
    alike = Counter(" ".join(name.split()) for name in names)
    problems = [repr(name) for name in names if alike[" ".join(name.split())] > 1]
    raise_problems(problems, "labels that differ in blanks alone", fix="write them alike, or list them as `labels`")
    return names


def _numbers(names: Sequence[str], splits: Sequence[Split]) -> dict[Label, int]:
    """What labels mean in files that do not name their classes."""
    numbers: dict[Label, int] = {name: at for at, name in enumerate(names)}
    integers = {label for split in splits for label in split.labels if isinstance(label, int)}
    if any(str(label) in numbers for label in integers):
        return numbers | {int(name): at for at, name in enumerate(names) if _INTEGER.fullmatch(name)}
    return numbers | dict(zip(range(len(names)), range(len(names)), strict=True))


def _named_numbers(split: Split, names: Sequence[str], *, is_listed: bool) -> dict[Label, int]:
    """What names and numbers mean in a file that names its classes: by name, else the task's `labels` rename them.

    Raises:
        DataError: the names are neither the model's nor renamed.
    """
    exact = {name: at for at, name in enumerate(names)}
    alike = {_plain(name): at for at, name in enumerate(names)}
    alike = alike if len(alike) == len(names) else {}
    meant = {name: exact.get(name, alike.get(_plain(name))) for name in split.class_names}
    if all(at is None for at in meant.values()):
        if all(str(number) in exact for number in range(len(split.class_names))):
            meant = {name: exact[str(number)] for number, name in enumerate(split.class_names)}
        elif is_listed and len(names) == len(split.class_names):
            meant = {name: number for number, name in enumerate(split.class_names)}
        else:
            own, shown = ", ".join(split.class_names[:8]), ", ".join(names[:8])
            raise DataError(
                f"{split.name}: its file names the classes {own}; {'`labels`' if is_listed else 'the model'}: {shown}",
                fix="list the file's names as `labels`, in the order of the model's outputs",
            )
    numbers: dict[Label, int] = dict(exact.items())
    for number, name in enumerate(split.class_names):
        if (at := meant[name]) is not None:
            numbers |= {name: at, number: at}
    return numbers


def _plain(name: str) -> str:
    """A name without what writers differ in: case, blanks, dashes, underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def _unknown(split: Split, number_of: Mapping[Label, int], names: Sequence[str]) -> Iterator[str]:
    counts = Counter(label for label in split.labels if label not in number_of)
    for label, count in sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0]))):
        rows = f"{count} row{'s' if count > 1 else ''}"
        if isinstance(label, int) and 0 <= label < len(split.class_names):
            yield f"{split.name}: {label}, which its file names {split.class_names[label]!r} ({rows})"
            continue
        numbers = [number for number in number_of if isinstance(number, int)]
        near = f"; allowed: {min(numbers)} to {max(numbers)}" if isinstance(label, int) else nearest(str(label), names)
        yield f"{split.name}: {label!r} ({rows}){near}"
