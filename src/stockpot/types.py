"""The values that travel between the rooms, and the seams between them. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from stockpot.errors import BlendError, EvaluationError, StockpotError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "FLOAT_DTYPES",
    "ITEM_BYTES",
    "Checkpoint",
    "Coefficients",
    "CurvePoint",
    "Evaluate",
    "Gradient",
    "Incumbent",
    "Ingredient",
    "InnerProducts",
    "LossAndGradient",
    "PairedGain",
    "Predictions",
    "Score",
    "Soup",
    "Step",
    "TensorSpec",
    "as_evaluate",
]

#: Bytes of one element, by the dtype's name in the safetensors format.
ITEM_BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
#: The dtypes that are blended; all others are taken from the first ingredient.
FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor's bytes mean.

    Example:
        >>> TensorSpec("BF16", (2, 3)).nbytes
        12
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def n_elements(self) -> int:
        """Number of elements; 1 for a 0-dimensional tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the tensor's little-endian bytes."""
        return self.n_elements * ITEM_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether the tensor is blended (integers and booleans are copied)."""
        return self.dtype in FLOAT_DTYPES

    def __str__(self) -> str:
        return f"{list(self.shape)} {self.dtype}"


@runtime_checkable
class Checkpoint(Protocol):
    """An opened checkpoint: specs at once, bytes on demand. The currency is little-endian bytes with a spec."""

    @property
    def source(self) -> str:
        """Where it comes from, as the user gave it."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """The stored tensors in file order, tied names left out."""

    @property
    def tied(self) -> Mapping[str, str]:
        """Name -> the stored name that it shares memory with."""

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        """Fills all of `buffer` with the bytes [start, start + len(buffer)) of tensor `name`."""

    def close(self) -> None:
        """Releases files and maps; reading afterwards is an error."""


class FileRange(Protocol):
    """A tensor's place in an open file, which stays open as long as this is held."""

    @property
    def offset(self) -> int:
        """Of its first byte."""

    def fileno(self) -> int:
        """The file's descriptor."""


@runtime_checkable
class InFiles(Protocol):
    """A checkpoint whose tensors lie in files as they are: then a compiled pass reads them without Python."""

    def file_range(self, name: str) -> FileRange | None:
        """Where tensor `name`, stored or tied, lies; None where it can only be read."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A fine-tuned checkpoint by reference.

    Args:
        name: short name, unique among the ingredients of one command where possible.
        source: path of a file or folder (or a hub id), as given.
        settings: hyperparameters of the run that made it, when known.
        digest: SHA-256 of its weight files, when taken.
        key: which state dict inside a wrapped `.pt` file.

    Example:
        >>> Ingredient("a", "runs/a") == Ingredient("a", "runs/a")
        True
    """

    name: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    digest: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Mixing numbers: one row over all tensors, or one row per named group of tensors.

    Args:
        rows: [groups, k] coefficients.
        groups: tensor names of each row; None when one row holds for every tensor.

    Raises:
        BlendError: rows of different lengths, numbers that are not finite, or groups that do not fit.

    Example:
        >>> list(Coefficients.equal(4))
        [0.25, 0.25, 0.25, 0.25]
    """

    rows: tuple[tuple[float, ...], ...]
    groups: tuple[tuple[str, ...], ...] | None = None
    _row_by_name: Mapping[str, tuple[float, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.rows}
        if len(widths) != 1 or 0 in widths:
            raise BlendError(f"coefficients need rows of one length, at least 1 wide, not {sorted(widths)}")
        if not all(math.isfinite(value) for row in self.rows for value in row):
            raise BlendError(f"coefficients must be finite numbers, not {self.rows}")
        if (1 if self.groups is None else len(self.groups)) != len(self.rows):
            raise BlendError(f"{len(self.rows)} rows of coefficients do not fit the groups of tensors")
        by_name = {name: row for names, row in zip(self.groups or (), self.rows, strict=False) for name in names}
        object.__setattr__(self, "_row_by_name", by_name)

    @classmethod
    def equal(cls, k: int) -> Coefficients:
        """1/k for each of k ingredients."""
        return cls(((1.0 / k,) * k,))

    @classmethod
    def of(cls, values: Sequence[float]) -> Coefficients:
        """One row from a plain sequence."""
        return cls((tuple(float(value) for value in values),))

    @property
    def k(self) -> int:
        """Number of ingredients."""
        return len(self.rows[0])

    @property
    def is_equal(self) -> bool:
        """Whether this is one row of 1/k each."""
        return self == Coefficients.equal(self.k)

    def row_of(self, tensor: str) -> tuple[float, ...]:
        """The row that holds for one tensor."""
        if self.groups is None:
            return self.rows[0]
        if tensor not in self._row_by_name:
            raise BlendError(f"no row of coefficients for tensor {tensor!r}", fix="add it to one of the groups")
        return self._row_by_name[tensor]

    def __iter__(self) -> Iterator[float]:
        if len(self.rows) != 1:
            raise BlendError("coefficients by group do not iterate as plain numbers", fix="use .rows and .groups")
        return iter(self.rows[0])

    def __len__(self) -> int:
        return self.k


@dataclass(frozen=True, slots=True)
class PairedGain:
    """How a candidate differs from the incumbent on the same examples.

    Args:
        difference: value of the candidate minus that of the incumbent, in the metric's unit and natural direction.
        stderr: paired standard error of `difference`; None where there is no estimate.
        p: two-sided p of "no difference"; None where there is no test.
        n_changed: examples that count differently in the two.
    """

    difference: float
    stderr: float | None
    p: float | None
    n_changed: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A measured number with its uncertainty.

    Args:
        value: in the metric's natural direction; nan for an abandoned candidate.
        stderr: standard error of `value`, same unit.
        n_examples: examples the score is about.
        n_evaluated: examples really evaluated; fewer than n_examples means abandoned.
        at_most: for an abandoned candidate, the bound on its utility's value.
        metric: name of the metric.
        higher_is_better: the metric's direction.
        paired: how it compares with the incumbent it was measured against, where that is known by example.

    Example:
        >>> Score(0.2, metric="nll", higher_is_better=False).utility
        -0.2
    """

    value: float
    stderr: float | None = None
    n_examples: int | None = None
    n_evaluated: int | None = None
    at_most: float | None = None
    metric: str = "score"
    higher_is_better: bool = True
    paired: PairedGain | None = None

    @property
    def utility(self) -> float:
        """The value, signed so that more is better: the only thing recipes compare."""
        return self.value if self.higher_is_better else -self.value

    @property
    def is_abandoned(self) -> bool:
        """Whether the evaluation stopped because the candidate could not be accepted any more."""
        return math.isnan(self.value)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a recipe's acceptance log: a soup that was tried.

    Args:
        ingredient: what the step is about; added to the soup so far, unless the label says otherwise.
        score: of the soup that was tried.
        accepted: whether that soup was taken.
        label: what was tried, where "the soup so far and this ingredient" does not say it: "without NAME", "alpha 0.3".
    """

    ingredient: Ingredient
    score: Score
    accepted: bool
    label: str = ""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point that a learned soup was compared at.

    Args:
        label: "uniform", "only NAME", or "step 50".
        stopping_loss: on the part of the held-out set that is not trained on, natural log units.
        training_loss: mean over the batches since the point before; None where nothing was trained.
        kept: whether it was the best so far.
    """

    label: str
    stopping_loss: float
    training_loss: float | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Soup:
    """Coefficients over ingredients: what a recipe returns. It is data; blending it is a function.

    Args:
        ingredients: in the order that is part of the soup.
        coefficients: one number per ingredient, or one row per group of tensors.
        recipe: name of the recipe that made it.
        combine: "weights" for one blended model, "logits" for an ensemble.
        logit_scale: beta of a learned soup: logits are multiplied with it.
        steps: what was tried, scored and kept.
        curve: what a learned soup was compared at.
        approximate: whether the search left out evaluations that its recipe makes, so that another soup may be right.

    Raises:
        BlendError: no ingredients, or coefficients of another number.

    Example:
        >>> soup = Soup((Ingredient("a", "a"), Ingredient("b", "b")), Coefficients.equal(2), "uniform")
        >>> list(soup.coefficients)
        [0.5, 0.5]
    """

    ingredients: tuple[Ingredient, ...]
    coefficients: Coefficients
    recipe: str
    combine: Literal["weights", "logits"] = "weights"
    logit_scale: float = 1.0
    steps: tuple[Step, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    approximate: bool = False

    def __post_init__(self) -> None:
        if not self.ingredients:
            raise BlendError("a soup needs at least one ingredient", fix="give at least one checkpoint")
        if self.coefficients.k != len(self.ingredients):
            raise BlendError(f"{self.coefficients.k} coefficients for {len(self.ingredients)} ingredients")


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The soup a candidate has to match, and the rule of acceptance.

    Args:
        soup: what is to be replaced.
        score: its score.
        minimum_gain: what a candidate must add, in the metric's unit.
        strict: whether it must be better (>) rather than not worse (>=).
        significance: largest two-sided p of the paired test at which a gain is believed; None: no test.
    """

    soup: Soup
    score: Score
    minimum_gain: float = 0.0
    strict: bool = False
    significance: float | None = None

    def yields_to(self, candidate: Score) -> bool:
        """candidate >= incumbent + minimum gain (> when strict), and believed; never to an abandoned candidate.

        Raises:
            EvaluationError: a test is wanted, but the candidate was not compared by example.

        Example:
            >>> soup = Soup((Ingredient("a", "a"),), Coefficients.equal(1), "best")
            >>> Incumbent(soup, Score(0.5)).yields_to(Score(0.5))
            True
            >>> Incumbent(soup, Score(0.5), strict=True).yields_to(Score(0.5))
            False
            >>> Incumbent(soup, Score(0.5), significance=0.05).yields_to(Score(0.6, paired=PairedGain(0.1, 0.04, 0.01)))
            True
        """
        needed = self.score.utility + self.minimum_gain
        reached = candidate.utility > needed if self.strict else candidate.utility >= needed
        return reached and (self.significance is None or self._believes(candidate))

    def _believes(self, candidate: Score) -> bool:
        if candidate.paired is None:
            raise EvaluationError(
                "acceptance by a paired test needs an evaluation by example, and this one gives scores alone",
                fix="use `stockpot soup --task ... --significance` (in Python: experiment.cook(..., task=...)), return "
                "a Score with `paired`, or leave out the significance",
            )
        p = candidate.paired.p
        return p is not None and self.significance is not None and p <= self.significance


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Logits [n, classes] float32 and labels [n] of one soup on one split.

    Args:
        logits, labels: of every example in its own order, or of `rows`.
        rows: [m] which examples, in the order of evaluation, where the soup was given up; None: all.
    """

    logits: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LossAndGradient:
    """Loss (natural log units, mean over the batch) and its gradient by coefficients [groups, k] and logit scale."""

    loss: float
    gradient: np.ndarray[Any, Any]
    logit_scale_gradient: float


@dataclass(frozen=True, slots=True, eq=False)
class InnerProducts:
    """How k fine-tunes have moved away from their initialisation: ``gram[g, i, j] = <delta_i, delta_j>``.

    ``delta_i = theta_i - theta_0`` over the tensors of group g. Lengths are the roots of the diagonal, cosines
    ``gram[g, i, j] / sqrt(gram[g, i, i] gram[g, j, j])``; the sum over groups is that of the joined tensors.

    Args:
        groups: tensor names of each group.
        gram: [groups, k, k] float64, symmetric.
    """

    groups: tuple[tuple[str, ...], ...]
    gram: np.ndarray[Any, Any]


class Evaluate(Protocol):
    """Scores a soup on the held-out split: the one seam between recipes and the outside."""

    def __call__(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        """The score of `soup`; may be abandoned once it provably cannot replace `against`."""


class Gradient(Protocol):
    """Loss of a learned soup on the held-out split and its gradient by coefficients: the second seam of the recipes.

    Its training part comes in batches that a number names; the stopping part is never trained on.
    """

    @property
    def groups(self) -> tuple[tuple[str, ...], ...] | None:
        """Tensor names of each row of coefficients; None where one row holds for every tensor."""

    @property
    def n_batches(self) -> int:
        """Batches of one pass over the training part; batch numbers go on from pass to pass."""

    def __call__(self, coefficients: np.ndarray[Any, Any], logit_scale: float, batch: int) -> LossAndGradient:
        """Evaluates at `coefficients` [groups, k] on batch number `batch`, from 0 on."""

    def stopping_loss(self, coefficients: np.ndarray[Any, Any], logit_scale: float) -> float:
        """The loss on the stopping part."""


def as_evaluate(function: Callable[..., float | Score]) -> Evaluate:
    """Adapts any callable soup -> float | Score; the only adapter there is.

    A float becomes `Score(value)`. The keyword `against` is passed only to callables that declare it.

    Args:
        function: takes a Soup; may be an Evaluate already.

    Returns:
        An Evaluate whose scores are finite or abandoned.

    Raises:
        EvaluationError: when called, if the function raises or returns something that is no finite number.

    Example:
        >>> from stockpot.types import Coefficients, Ingredient, Soup
        >>> soup = Soup((Ingredient("a", "a"),), Coefficients.equal(1), "best")
        >>> as_evaluate(lambda soup: 0.5)(soup).value
        0.5
    """
    takes_against = _declares(function, "against")

    def evaluate(soup: Soup, *, against: Incumbent | None = None) -> Score:
        try:
            result = function(soup, against=against) if takes_against else function(soup)
        except (StockpotError, KeyboardInterrupt):
            raise
        except Exception as exc:
            raise EvaluationError(
                f"evaluate raised {type(exc).__name__} on the {_describe(soup)}: {exc}",
                fix="mend it and start again; scores taken before count as long as its source file is unchanged",
            ) from exc
        return _as_score(result, soup)

    return evaluate


def _declares(function: Callable[..., Any], keyword: str) -> bool:
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins without a signature
        return False
    return any(p.name == keyword or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _as_score(result: Any, soup: Soup) -> Score:
    if isinstance(result, Score):
        if math.isfinite(result.value) or (result.is_abandoned and result.at_most is not None):
            return result
        value: Any = result.value
    else:
        value = result
        if not isinstance(value, bool | str | bytes):
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.nan
            if math.isfinite(number):
                return Score(number)
    raise EvaluationError(
        f"evaluate returned {value!r} for the {_describe(soup)}, which is not a finite number",
        fix="return a float or a stockpot.Score",
    )


def _describe(soup: Soup) -> str:
    names = [ingredient.name for ingredient in soup.ingredients]
    shown = ", ".join(names[:4]) + (f", ... ({len(names)} in all)" if len(names) > 4 else "")
    return f"soup of {shown}"
