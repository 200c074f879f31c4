"""Everything that can go wrong and that a user can mend.

::

    StockpotError                  exit code 2
    ├── CheckpointError            a source that cannot be opened, read or trusted
    │   └── IncompatibleError      checkpoints that cannot be blended; lists every mismatch
    ├── BlendError                 NaN or infinity in an ingredient, overflow, wrong coefficients
    ├── ConfigError                task.yaml, experiment.yaml, options; lists every wrong key
    ├── DataError                  rows, columns, labels, splits that share rows
    ├── EvaluationError            a user's evaluate raised, or returned no finite number
    │   └── DivergedError          weights or logits that are NaN or infinite
    ├── RunError                   fine-tuning runs that failed
    ├── OutputError                the output folder: taken, locked, another experiment, disk full
    ├── RecordError                soup.json or results.json that is not what it says
    └── MissingExtraError          an optional package is not installed; names the extra

A message says what is wrong, where, and how to mend it. Third-party exceptions are translated in the room that owns the
library, always with ``from exc``; what is left is a defect of stockpot and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BlendError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "EvaluationError",
    "IncompatibleError",
    "MissingExtraError",
    "OutputError",
    "RecordError",
    "RunError",
    "StockpotError",
]


class StockpotError(Exception):
    """A mistake the user can mend: what is wrong, every instance of it, and the way out.

    Args:
        message: what is wrong and where, one sentence.
        problems: every single problem, one line each, all of them at once.
        fix: what to do about it.

    Example:
        >>> error = StockpotError("2 tensors differ", problems=["a: 1 != 2", "b: 3 != 4"], fix="drop one ingredient")
        >>> print(error)
        2 tensors differ
          a: 1 != 2
          b: 3 != 4
        fix: drop one ingredient
    """

    exit_code = 2

    def __init__(self, message: str, *, problems: Sequence[str] = (), fix: str | None = None) -> None:
        self.message = message
        self.problems = tuple(problems)
        self.fix = fix
        lines = [message, *(f"  {problem}" for problem in self.problems)]
        if fix:
            lines.append(f"fix: {fix}")
        super().__init__("\n".join(lines))


class CheckpointError(StockpotError):
    """A source cannot be opened, read or trusted."""


class IncompatibleError(CheckpointError):
    """Checkpoints differ in names, shapes, dtypes or ties; every mismatch is listed with both sides."""


class BlendError(StockpotError):
    """The linear combination has no valid result: NaN, infinity, overflow, or coefficients that do not fit."""


class ConfigError(StockpotError):
    """A configuration file or option is wrong; every wrong key is listed."""


class DataError(StockpotError):
    """Rows, columns, labels or splits are not what the task needs."""


class EvaluationError(StockpotError):
    """An evaluation failed or its score is not a finite number."""


class DivergedError(EvaluationError):
    """A model's weights or logits are NaN or infinite."""


class RunError(StockpotError):
    """One or more fine-tuning runs failed; those that succeeded are kept."""


class OutputError(StockpotError):
    """The output folder is taken, locked, holds another experiment, or the disk is full."""


class RecordError(StockpotError):
    """A record (soup.json, results.json) is damaged or of an unknown version."""


class MissingExtraError(StockpotError):
    """A package of an optional extra is missing.

    Example:
        >>> print(MissingExtraError("torch", extra="torch", needed_for="reading .pt files"))
        reading .pt files needs 'torch', which is not installed
        fix: pip install 'stockpot[torch]'
    """

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs {package!r}, which is not installed", fix=f"pip install 'stockpot[{extra}]'"
        )
