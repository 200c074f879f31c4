"""A module whose parameters follow coefficients, and the way back: gradients by coefficient.

With ``theta_t = sum_i alpha_{g(t), i} theta_{i, t}`` the chain rule gives ``dL/dalpha_{g, i}`` as the sum over the
tensors t of group g of ``<dL/dtheta_t, theta_{i, t}>``: one backward pass through one model, whatever k is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stockpot.assembly.lookups import Lookups
from stockpot.assembly.opening import opened
from stockpot.assembly.resident import assign_to
from stockpot.assembly.stores import Deltas, SomeTensors, Store, Streamed
from stockpot.kernel import Chunk, blend
from stockpot.types import Checkpoint, Coefficients, Ingredient, TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = ["DELTAS_BUDGET_BYTES", "Mixture"]

#: Up to here the differences between ingredients are kept in memory; above, ingredients are read again for every step.
DELTAS_BUDGET_BYTES = 2 * 2**30

Array: TypeAlias = np.ndarray[Any, Any]


class Mixture:
    """Makes a module's weights those of given coefficients, and turns parameter gradients into coefficient gradients.

    Tensors are found by name, never by position. Buffers are mixed but have no gradient. Tensors that are the same in
    all ingredients (frozen embeddings) are loaded once: with rows that sum to one they change nothing. Of embeddings
    only the rows that a batch looks up are mixed, and multiplied with the gradient: see `Lookups`.

    Args:
        module: on its device, in its dtype; its own weights are overwritten.
        ingredients: k >= 1 compatible ones.
        groups: tensor names of each row of coefficients; None: one row.
        rows_sum_to_one: whether every row of coefficients will; then tensors that all ingredients share need no work.
        budget_bytes: memory for the differences between ingredients. 0 streams from the files: then memory does not
            grow with k.
        pool: runs the work on single tensors; None: one after the other. No bit depends on it.

    Raises:
        CheckpointError, IncompatibleError: ingredients that cannot be mixed, or do not fit the module.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        ingredients: Sequence[Ingredient],
        *,
        groups: tuple[tuple[str, ...], ...] | None = None,
        rows_sum_to_one: bool = True,
        budget_bytes: int = DELTAS_BUDGET_BYTES,
        pool: Executor | None = None,
    ) -> None:
        self._files = ExitStack()
        try:
            checkpoints = self._files.enter_context(opened(ingredients))
            _load_first(module, checkpoints[0], ingredients[0].name)
            floats = [name for name, spec in checkpoints[0].specs.items() if spec.is_float]
            varying = _varying(checkpoints, floats) if rows_sum_to_one else floats
            self._parameters = _parameters(module, checkpoints[0], varying)
            self._rows = _row_by_name(groups, floats)
            self._shape = (1 if groups is None else len(groups), len(ingredients))
            n_bytes = sum(checkpoints[0].specs[name].n_elements for name in varying) * 4 * len(ingredients)
            make = Deltas if n_bytes <= budget_bytes else Streamed
            map_ = map if pool is None else pool.map
            self._store: Store = make(module, checkpoints, ingredients, varying, self._rows, map_)
            self._coefficients: Array = np.tile(np.eye(1, len(ingredients)), (self._shape[0], 1))
            self._lookups = Lookups(module, self._parameters, self._load_rows)
            self._whole = tuple(name for name in varying if name not in self._lookups.names)
        except BaseException:
            self._files.close()
            raise
        if isinstance(self._store, Deltas):
            self._files.close()

    def __enter__(self) -> Mixture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Mixes what is left of the module's weights and closes the ingredients' files."""
        try:
            self.stop_lookups()
        finally:
            self._files.close()

    @property
    def is_streamed(self) -> bool:
        """Whether ingredients are read again for every step."""
        return isinstance(self._store, Streamed)

    @property
    def parameters(self) -> tuple[torch.nn.Parameter, ...]:
        """The parameters to take gradients by, in a fixed order."""
        return tuple(dict.fromkeys(self._parameters.values()))

    @property
    def has_lookups(self) -> bool:
        """Whether rows of embeddings are mixed as they are looked up; the others are NaN."""
        return bool(self._lookups.names)

    def load(self, coefficients: Array) -> None:
        """Makes the module's weights those of `coefficients` [groups, k]; embeddings' rows inside `looking_up`."""
        self._coefficients = np.array(coefficients, dtype=np.float64)
        self._lookups.forget()
        self._store.load(self._whole, self._coefficients)

    def looking_up(self) -> AbstractContextManager[None]:
        """Inside, forward passes mix the embeddings' rows that they need."""
        return self._lookups.active()

    def stop_lookups(self) -> None:
        """Mixes all rows of all embeddings, now and from now on."""
        names = tuple(sorted(self._lookups.names))
        self._lookups.close()
        if names:
            self._whole += names
            self._store.load(names, self._coefficients)

    def _load_rows(self, name: str, rows: torch.Tensor) -> None:
        self._store.load_rows(name, rows, self._coefficients)

    def coefficient_gradient(self, gradients: Sequence[torch.Tensor | None]) -> Array:
        """dL/dalpha [groups, k] float64 from dL/dtheta, one per entry of `parameters`; None counts as zero."""
        by_parameter = dict(zip((id(p) for p in self.parameters), gradients, strict=True))
        present = {
            name: gradient
            for name, parameter in self._parameters.items()
            if (gradient := by_parameter[id(parameter)]) is not None
        }
        result = np.zeros(self._shape)
        for name, products in self._store.products(present):
            result[self._rows[name]] += products
        return result


def _load_first(module: torch.nn.Module, checkpoint: Checkpoint, label: str) -> None:
    """All of the first ingredient: what is not mixed (integers, shared tensors) stays its own."""
    assign: Callable[[Chunk], None] = assign_to(module, checkpoint, label=label)
    for chunk in blend([checkpoint], Coefficients.equal(1), labels=[label]):
        assign(chunk)


def _varying(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> list[str]:
    """The tensors that differ between ingredients, in file order."""
    differing: set[str] = set()
    first, *others = (_AsBytes(checkpoint, names) for checkpoint in dict.fromkeys(checkpoints))
    for other in others:
        unsettled = [name for name in names if name not in differing]
        if unsettled:
            pair = [first.only(unsettled), other.only(unsettled)]
            for _ in blend(pair, Coefficients.equal(2), on_difference=lambda name, _: differing.add(name)):
                pass
    return [name for name in names if name in differing]


class _AsBytes(SomeTensors):
    """The same tensors declared as bytes, so that the kernel compares instead of adding."""

    def __init__(self, checkpoint: Checkpoint, names: Collection[str]) -> None:
        super().__init__(checkpoint, names)
        self.specs = {name: TensorSpec("U8", (spec.nbytes,)) for name, spec in self.specs.items()}

    def only(self, names: Collection[str]) -> _AsBytes:
        """Fewer of them."""
        return _AsBytes(self._checkpoint, names)


def _parameters(
    module: torch.nn.Module, checkpoint: Checkpoint, varying: Collection[str]
) -> dict[str, torch.nn.Parameter]:
    """Stored name -> the parameter it sets. A parameter with several stored names follows the last, as when loading."""
    # The names of named_parameters() are no help: a module may give its state dict those that its files have.
    own = {id(parameter): parameter for parameter in module.parameters()}
    state = module.state_dict(keep_vars=True)
    by_name = {name: own[id(value)] for name, value in state.items() if id(value) in own}
    last = {id(by_name[name]): name for name in checkpoint.specs if name in by_name}
    return {name: by_name[name] for name in varying if name in by_name and last[id(by_name[name])] == name}


def _row_by_name(groups: tuple[tuple[str, ...], ...] | None, names: Sequence[str]) -> dict[str, int]:
    if groups is None:
        return dict.fromkeys(names, 0)
    return {name: row for row, group in enumerate(groups) for name in group}
