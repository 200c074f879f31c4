"""A module whose parameters follow coefficients, and the way back: gradients by coefficient.

With ``theta_t = sum_i alpha_{g(t), i} theta_{i, t}`` the chain rule gives ``dL/dalpha_{g, i}`` as the sum over the
tensors t of group g of ``<dL/dtheta_t, theta_{i, t}>``: one backward pass through one model, whatever k is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from stockpot.assembly.opened import opened
from stockpot.assembly.resident import assign_to
from stockpot.assembly.tensors import fill
from stockpot.kernel import Chunk, blend, dot_products
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
    all ingredients (frozen embeddings) are loaded once: with rows that sum to one they change nothing.

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
            make = _Deltas if n_bytes <= budget_bytes else _Streamed
            map_ = map if pool is None else pool.map
            self._store: _Store = make(module, checkpoints, ingredients, varying, self._rows, map_)
        except BaseException:
            self._files.close()
            raise
        if isinstance(self._store, _Deltas):
            self._files.close()

    def __enter__(self) -> Mixture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the ingredients' files."""
        self._files.close()

    @property
    def is_streamed(self) -> bool:
        """Whether ingredients are read again for every step."""
        return isinstance(self._store, _Streamed)

    @property
    def parameters(self) -> tuple[torch.nn.Parameter, ...]:
        """The parameters to take gradients by, in a fixed order."""
        return tuple(dict.fromkeys(self._parameters.values()))

    def load(self, coefficients: Array) -> None:
        """Makes the module's weights those of `coefficients` [groups, k]."""
        self._store.load(coefficients)

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


class _Store(Protocol):
    """Where the ingredients' values come from."""

    def load(self, coefficients: Array) -> None: ...

    def products(self, gradients: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, Array]]: ...


_Map: TypeAlias = Callable[..., Iterable[Any]]


class _Deltas:
    """In memory: the first ingredient and how the others differ from it, in the module's dtype.

    ``sum_i alpha_i theta_i = (sum_i alpha_i) theta_1 + sum_i alpha_i delta_i``; inner products with the small
    differences lose no digits to the large common part.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        checkpoints: Sequence[Checkpoint],
        ingredients: Sequence[Ingredient],
        varying: Sequence[str],
        rows: Mapping[str, int],
        map_: _Map,
    ) -> None:
        import torch

        self._rows, self._map, self._k = rows, map_, len(checkpoints)
        self._targets = {name: _flat(module.state_dict()[name]) for name in varying}
        self._first = {name: target.clone() for name, target in self._targets.items()}
        self._deltas = {name: torch.empty((self._k - 1, t.numel()), dtype=t.dtype, device=t.device)
                        for name, t in self._targets.items()}  # fmt: skip
        for position, checkpoint in enumerate(checkpoints[1:]):
            for chunk in blend(
                [_Some(checkpoint, varying)], Coefficients.equal(1), labels=[ingredients[position + 1].name]
            ):
                fill(self._deltas[chunk.name][position], chunk)
        for name, deltas in self._deltas.items():
            deltas -= self._first[name]

    def load(self, coefficients: Array) -> None:
        for _ in self._map(lambda name: self._load(name, coefficients[self._rows[name]]), self._targets):
            pass

    def _load(self, name: str, row: Array) -> None:
        import torch

        target, first = self._targets[name], self._first[name]
        factors = torch.as_tensor(row[1:], dtype=target.dtype, device=target.device)
        torch.addmv(first, self._deltas[name].t(), factors, beta=float(row.sum()), out=target)

    def products(self, gradients: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, Array]]:
        return zip(gradients, self._map(self._products, gradients.items()), strict=True)

    def _products(self, item: tuple[str, torch.Tensor]) -> Array:
        name, gradient = item
        flat = gradient.reshape(-1).to(self._first[name].dtype)
        # In the parameters' own precision: with rows that sum to one this part changes nothing, and costs a pass else.
        common = float(flat.dot(self._first[name]))
        return common + np.concatenate([[0.0], (self._deltas[name] @ flat).double().cpu().numpy()])


class _Streamed:
    """From the files, every time: memory of one chunk whatever the number of ingredients."""

    def __init__(
        self,
        module: torch.nn.Module,
        checkpoints: Sequence[Checkpoint],
        ingredients: Sequence[Ingredient],
        varying: Sequence[str],
        rows: Mapping[str, int],
        map_: _Map,
    ) -> None:
        del map_  # reading is bound by memory and disk, and one set of buffers is the point of it
        self._targets = {name: module.state_dict()[name] for name in varying}
        self._checkpoints = [_Some(checkpoint, varying) for checkpoint in checkpoints]
        self._labels = [ingredient.name for ingredient in ingredients]
        self._rows = rows
        self._names_by_row: dict[int, list[str]] = {}
        for name in varying:
            self._names_by_row.setdefault(rows[name], []).append(name)

    def load(self, coefficients: Array) -> None:
        rows = tuple(tuple(float(value) for value in coefficients[row]) for row in self._names_by_row)
        groups = tuple(tuple(names) for names in self._names_by_row.values())
        if not rows:
            return
        for chunk in blend(self._checkpoints, Coefficients(rows, groups), labels=self._labels):
            fill(self._targets[chunk.name], chunk)

    def products(self, gradients: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, Array]]:
        for name, gradient in gradients.items():
            yield name, dot_products(self._checkpoints, name, gradient.detach().reshape(-1).float().cpu().numpy())


class _Some:
    """A checkpoint of which only some tensors are seen."""

    def __init__(self, checkpoint: Checkpoint, names: Collection[str]) -> None:
        self._checkpoint = checkpoint
        self.source = checkpoint.source
        # Another ingredient may store a tied tensor under another of its names.
        self.specs: Mapping[str, TensorSpec] = {
            name: checkpoint.specs[checkpoint.tied.get(name, name)] for name in names
        }
        self.tied: Mapping[str, str] = {}

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        self._checkpoint.read_into(self._checkpoint.tied.get(name, name), buffer, start)

    def close(self) -> None:
        self._checkpoint.close()


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


class _AsBytes(_Some):
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
    by_name = dict(module.named_parameters(remove_duplicate=False))
    last = {id(by_name[name]): name for name in checkpoint.specs if name in by_name}
    return {name: by_name[name] for name in varying if name in by_name and last[id(by_name[name])] == name}


def _row_by_name(groups: tuple[tuple[str, ...], ...] | None, names: Sequence[str]) -> dict[str, int]:
    if groups is None:
        return dict.fromkeys(names, 0)
    return {name: row for row, group in enumerate(groups) for name in group}


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(-1)
