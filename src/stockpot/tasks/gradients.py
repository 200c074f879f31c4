"""The gradient of the held-out loss by coefficients: the seam that learned soups are optimised through."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from stockpot.assembly import DELTAS_BUDGET_BYTES, Mixture, opened
from stockpot.errors import ConfigError, DataError
from stockpot.recipes import Granularity, tensor_groups
from stockpot.tasks.batches import Batch
from stockpot.types import Ingredient, LossAndGradient

if TYPE_CHECKING:
    import torch

__all__ = [
    "MICRO_ROWS",
    "GradientOptions",
    "ModuleGradient",
    "SummedLoss",
    "cross_entropy",
    "held_out_parts",
    "squared_error",
]

Array: TypeAlias = np.ndarray[Any, Any]
Rows: TypeAlias = Sequence[int]
SummedLoss: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
_T = TypeVar("_T")

#: Rows that one thread takes at once. Fixed, so that no bit depends on the number of threads.
MICRO_ROWS = 16


@dataclass(frozen=True, slots=True)
class GradientOptions:
    """What a learned soup is trained on, and by what rows of coefficients.

    Args:
        granularity: "model": one row; "tensor": one row per tensor, "learned by layer"; "block": one per block.
        batch_size: examples of a step, as published 256; fewer where the training part has fewer.
        stopping_fraction: share of the held-out split that is never trained on, in (0, 1).
        seed: of that share and of the order of the batches.
        rows_sum_to_one: whether every row of coefficients will; not for the parametrisation "free".

    Raises:
        ConfigError: values outside their ranges.
    """

    granularity: Granularity = "model"
    batch_size: int = 256
    stopping_fraction: float = 0.2
    seed: int = 0
    rows_sum_to_one: bool = True

    def __post_init__(self) -> None:
        problems = [] if self.batch_size >= 1 else [f"batch_size is {self.batch_size!r}, not at least 1"]
        if not 0 < self.stopping_fraction < 1:
            problems.append(f"stopping_fraction is {self.stopping_fraction!r}, not between 0 and 1")
        if problems:
            raise ConfigError("the learned soup was given options out of range", problems=problems, fix="correct them")


def held_out_parts(n: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """The held-out rows that are trained on, and those that are not: at least one each, drawn by the seed.

    Raises:
        DataError: fewer than two examples.

    Example:
        >>> training, stopping = held_out_parts(10, 0.2, seed=0)
        >>> len(training), len(stopping), sorted([*training.tolist(), *stopping.tolist()]) == list(range(10))
        (8, 2, True)
    """
    if n < 2:
        raise DataError(
            f"a learned soup needs at least 2 held-out examples, not {n}: one to learn from, one to stop by",
            fix="give a larger held-out split",
        )
    n_stopping = min(max(1, round(fraction * n)), n - 1)
    shuffled = np.random.default_rng([seed, 0]).permutation(n)
    return np.sort(shuffled[n_stopping:]), np.sort(shuffled[:n_stopping])


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The sum over examples of -log softmax(logits)[label], in nats: logits [n, classes], labels [n] int64."""
    import torch

    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


def squared_error(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over examples of (prediction - target)^2: predictions [n, 1], targets [n] float32."""
    return (predictions.squeeze(1) - targets).square().sum()


class ModuleGradient:
    """Loss of a torch module whose weights are mixed, and its gradient by coefficient: a Gradient.

    One forward and one backward pass through one model, then inner products with the ingredients: memory does not grow
    with their number where they are streamed. Rows go through the module in pieces of fixed size, one torch thread
    each, so the result is the same to the bit on any number of cores.

    Args:
        module: gives the logits; its weights are overwritten.
        ingredients: k >= 1.
        forward: logits [rows of the batch, classes] float32 of the module, dummies included.
        labels: [n] classes, or numbers, of the held-out split.
        batches: cuts rows of the split into batches.
        loss: sum over examples, of logits and labels.
        options: see `GradientOptions`.
        n_threads: pieces in flight on a CPU.
        budget_bytes: see `Mixture`.
        when_changed: told when the module's weights have changed.

    Raises:
        CheckpointError, IncompatibleError: ingredients that cannot be mixed, or do not fit the module.
        DataError: fewer than two examples.

    Source: Wortsman et al. 2022, section 2 and appendix on learned soups.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        ingredients: Sequence[Ingredient],
        *,
        forward: Callable[[Batch], torch.Tensor],
        labels: Array,
        batches: Callable[[Rows], Sequence[Batch]],
        options: GradientOptions,
        loss: SummedLoss = cross_entropy,
        n_threads: int = 1,
        budget_bytes: int = DELTAS_BUDGET_BYTES,
        when_changed: Callable[[], None] = lambda: None,
    ) -> None:
        import torch

        self._torch, self._forward, self._batches, self._summed_loss = torch, forward, batches, loss
        self._when_changed, self._options = when_changed, options
        dtype = torch.float32 if labels.dtype.kind == "f" else torch.int64
        self._labels = torch.as_tensor(labels, dtype=dtype, device=next(module.parameters()).device)
        self._training, self._stopping = held_out_parts(len(labels), options.stopping_fraction, options.seed)
        self._groups = _groups(ingredients, options.granularity)
        self._pool = ThreadPoolExecutor(n_threads, initializer=lambda: torch.set_num_threads(1))
        when_changed()
        self._mixture = Mixture(
            module,
            ingredients,
            groups=self._groups,
            rows_sum_to_one=options.rows_sum_to_one,
            budget_bytes=budget_bytes,
            pool=self._pool,
        )
        wanted = {id(parameter) for parameter in self._mixture.parameters}
        self._required = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
        for parameter, _ in self._required:
            parameter.requires_grad_(id(parameter) in wanted)
        self._loaded: bytes | None = None

    def __enter__(self) -> ModuleGradient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes files and threads; the module's parameters require gradients as before."""
        try:
            self._when_changed()  # what is left of the weights is mixed now, on the threads
            self._mixture.close()
        finally:
            self._pool.shutdown()
            for parameter, required in self._required:
                parameter.requires_grad_(required)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...] | None:
        """Tensor names of each row of coefficients; None for one row."""
        return self._groups

    @property
    def n_batches(self) -> int:
        """Batches of one pass over the training part."""
        return math.ceil(len(self._training) / self._options.batch_size)

    def __call__(self, coefficients: Array, logit_scale: float, batch: int) -> LossAndGradient:
        """Mean loss (nats for classes) of a batch by number, its gradient [groups, k] and that by the logit scale."""
        rows = self._rows_of(batch)
        loss, scale_gradient, gradients = self._finite(
            coefficients, lambda: self._summed(rows, logit_scale), lambda found: found[0]
        )
        return LossAndGradient(loss, self._mixture.coefficient_gradient(gradients), scale_gradient)

    def stopping_loss(self, coefficients: Array, logit_scale: float) -> float:
        """Mean loss (nats for classes) on the part that is not trained on."""
        rows = self._stopping.tolist()

        def loss() -> float:
            parts = self._pool.map(
                lambda part: float(self._loss(part, logit_scale, len(rows), with_gradient=False)), self._batches(rows)
            )
            return math.fsum(parts)

        return self._finite(coefficients, loss, lambda found: found)

    def _finite(self, coefficients: Array, evaluate: Callable[[], _T], loss: Callable[[_T], float]) -> _T:
        """What `evaluate` finds at these coefficients; NaN is believed only where no weight is missing."""
        self._load(coefficients)
        with self._mixture.looking_up():
            found = evaluate()
        if math.isfinite(loss(found)) or not self._mixture.has_lookups:
            return found
        self._mixture.stop_lookups()
        return evaluate()

    def _summed(self, rows: Rows, logit_scale: float) -> tuple[float, float, list[torch.Tensor | None]]:
        """The pieces' losses, gradients by the logit scale and by the parameters, added in the pieces' order."""
        parts = self._pool.map(lambda part: self._backward(part, logit_scale, len(rows)), self._batches(rows))
        loss, scale_gradient = 0.0, 0.0
        totals: list[torch.Tensor | None] = [None] * len(self._mixture.parameters)
        for part_loss, part_scale_gradient, gradients in parts:
            loss += part_loss
            scale_gradient += part_scale_gradient
            totals = [_added(total, gradient) for total, gradient in zip(totals, gradients, strict=True)]
        return loss, scale_gradient, totals

    def _rows_of(self, batch: int) -> Rows:
        """The training rows of a batch: every pass has its own order, drawn by (seed, pass)."""
        epoch, position = divmod(batch, self.n_batches)
        shuffled = np.random.default_rng([self._options.seed, 1, epoch]).permutation(self._training)
        size = self._options.batch_size
        rows: list[int] = shuffled[position * size : (position + 1) * size].tolist()
        return rows

    def _load(self, coefficients: Array) -> None:
        wanted = np.ascontiguousarray(coefficients, dtype=np.float64).tobytes()
        if wanted != self._loaded:
            self._loaded = None
            self._when_changed()
            self._mixture.load(coefficients)
            self._loaded = wanted

    def _backward(
        self, batch: Batch, logit_scale: float, n_rows: int
    ) -> tuple[float, float, Sequence[torch.Tensor | None]]:
        torch = self._torch
        scale = torch.tensor(logit_scale, dtype=torch.float32, device=self._labels.device, requires_grad=True)
        loss = self._loss(batch, scale, n_rows, with_gradient=True)
        inputs = [scale, *self._mixture.parameters]
        scale_gradient, *gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        return float(loss.detach()), float(scale_gradient), gradients

    def _loss(self, batch: Batch, logit_scale: Any, n_rows: int, *, with_gradient: bool) -> torch.Tensor:
        """The batch's share of the mean over `n_rows` rows."""
        with self._torch.set_grad_enabled(with_gradient):  # the switch belongs to the thread
            logits = self._forward(batch)[: len(batch.rows)] * logit_scale
            labels = self._labels[self._torch.from_numpy(batch.rows).to(self._labels.device)]
            return self._summed_loss(logits, labels) / n_rows


def _groups(ingredients: Sequence[Ingredient], granularity: Granularity) -> tuple[tuple[str, ...], ...] | None:
    with opened(ingredients) as checkpoints:
        floats: Iterable[str] = [name for name, spec in checkpoints[0].specs.items() if spec.is_float]
        return tensor_groups(floats, granularity)


def _added(total: Any, gradient: Any) -> Any:
    if gradient is None:
        return total
    if total is None:
        return gradient
    if total.is_sparse:
        return gradient + total  # sparse if both are
    return total.add_(gradient)
