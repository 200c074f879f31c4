"""What fine-tunes and their start have in common: the start often lacks the head, or names its tensors otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stockpot.types import Checkpoint, TensorSpec

__all__ = ["SharedStart", "Shifted", "shared_start"]


@dataclass(frozen=True, slots=True)
class SharedStart:
    """The tensors that fine-tunes share with their start.

    Args:
        names: as the fine-tunes have them.
        prefix: stands before every name there, and not in the start.
        missing: tensors of the fine-tunes that the start lacks, or has in another shape.
        extra: tensors of the start that the fine-tunes lack.
        recast: tensors that the start has in another floating dtype.
    """

    names: tuple[str, ...]
    prefix: str = ""
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    recast: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the start could be one of the ingredients."""
        return not (self.missing or self.prefix or self.extra or self.recast)


def shared_start(runs: Mapping[str, TensorSpec], start: Mapping[str, TensorSpec]) -> SharedStart:
    """Floating tensors that agree by name and shape; a prefix such as `bert.` may stand before the runs' names.

    Their dtypes may differ: what is compared is compared in float64.

    Args:
        runs: specs of the fine-tunes.
        start: specs of what they were fine-tuned from.

    Example:
        >>> spec = TensorSpec("F32", (2, 2))
        >>> shared_start({"bert.w": spec, "head": spec}, {"w": spec})
        SharedStart(names=('bert.w',), prefix='bert.', missing=('head',), extra=(), recast=())
    """
    floating = {name: spec for name, spec in runs.items() if spec.is_float}
    prefixes = dict.fromkeys(["", *(name.partition(".")[0] + "." for name in floating if "." in name)])

    def agreeing(prefix: str) -> tuple[str, ...]:
        return tuple(
            name
            for name, spec in floating.items()
            if name.startswith(prefix) and _is_alike(spec, start.get(name.removeprefix(prefix)))
        )

    prefix = max(prefixes, key=lambda prefix: len(agreeing(prefix)))  # of equals the first, which is none
    names = agreeing(prefix)
    missing = tuple(name for name in floating if name not in set(names))
    extra = tuple(name for name in start if prefix + name not in runs)
    recast = tuple(name for name in names if start[name.removeprefix(prefix)].dtype != runs[name].dtype)
    return SharedStart(names, prefix, missing, extra, recast)


def _is_alike(spec: TensorSpec, other: TensorSpec | None) -> bool:
    return other is not None and other.is_float and other.shape == spec.shape


class Shifted:
    """A checkpoint with a prefix before every name."""

    def __init__(self, checkpoint: Checkpoint, prefix: str) -> None:
        self._checkpoint, self._prefix = checkpoint, prefix
        self.source = checkpoint.source
        self.specs: Mapping[str, TensorSpec] = {prefix + name: spec for name, spec in checkpoint.specs.items()}
        self.tied: Mapping[str, str] = {prefix + alias: prefix + name for alias, name in checkpoint.tied.items()}

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        """As the checkpoint behind it."""
        self._checkpoint.read_into(name.removeprefix(self._prefix), buffer, start)

    def close(self) -> None:
        """Closes the checkpoint behind it."""
        self._checkpoint.close()
