"""Where a mixture's values come from at every step: differences in memory, or the ingredients' files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from stockpot.assembly.tensors import fill, torch_dtype
from stockpot.kernel import blend
from stockpot.kernel.spans import Span, aligned, spans
from stockpot.types import ITEM_BYTES, Checkpoint, Coefficients, Ingredient, TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = ["Deltas", "SomeTensors", "Store", "Streamed"]

Array: TypeAlias = np.ndarray[Any, Any]
Map: TypeAlias = Callable[..., Iterable[Any]]

#: Read at once from each ingredient. Measured: smaller pays for calls; the sum and two of these stay in a cache.
READ_BYTES = 2**20


class Store(Protocol):
    """Sets the module's tensors and multiplies gradients with the ingredients' tensors, by stored name."""

    def load(self, names: Sequence[str], coefficients: Array) -> None:
        """Makes whole tensors those of `coefficients` [groups, k]."""

    def load_rows(self, name: str, rows: torch.Tensor, coefficients: Array) -> None:
        """Makes some rows [n] int64 of one tensor those of `coefficients` [groups, k]."""

    def products(self, gradients: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, Array]]:
        """``<g, theta_i>`` [k] of every name; a sparse gradient holds the rows that are not zero."""


class SomeTensors:
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
        """Fills `buffer` with the bytes of tensor `name` from byte `start` on."""
        self._checkpoint.read_into(self._checkpoint.tied.get(name, name), buffer, start)

    def close(self) -> None:
        """Closes the whole checkpoint."""
        self._checkpoint.close()


class Deltas:
    """In memory: the first ingredient and how the others differ from it, stacked by tensor, in the module's dtype.

    ``sum_i alpha_i theta_i = (sum_i alpha_i) theta_1 + sum_i alpha_i delta_i``; inner products with the small
    differences lose no digits to the large common part. Both are one product of a matrix [k - 1, n] with a vector.

    Args:
        module: its tensors are overwritten.
        checkpoints: k compatible ones; not read again afterwards.
        ingredients: what they are called in errors.
        names: the stored tensors to mix.
        row_by_name: the row of coefficients of each.
        map_: runs the work on single tensors.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        checkpoints: Sequence[Checkpoint],
        ingredients: Sequence[Ingredient],
        names: Sequence[str],
        row_by_name: Mapping[str, int],
        map_: Map,
    ) -> None:
        import torch

        self._row_by_name, self._map = row_by_name, map_
        state = module.state_dict()
        self._targets = {name: state[name] for name in names}
        self._first = {name: target.detach().reshape(-1).clone() for name, target in self._targets.items()}
        n_others = len(checkpoints) - 1
        self._deltas = {name: torch.empty((n_others, t.numel()), dtype=t.dtype, device=t.device)
                        for name, t in self._first.items()}  # fmt: skip
        for position, checkpoint in enumerate(checkpoints[1:]):
            label = ingredients[position + 1].name
            for chunk in blend([SomeTensors(checkpoint, names)], Coefficients.equal(1), labels=[label]):
                fill(self._deltas[chunk.name][position], chunk)
        for name, deltas in self._deltas.items():
            deltas -= self._first[name]

    def load(self, names: Sequence[str], coefficients: Array) -> None:
        """See `Store`."""
        for _ in self._map(lambda name: self._load(name, coefficients[self._row_by_name[name]]), names):
            pass

    def _load(self, name: str, row: Array) -> None:
        import torch

        target, first = self._targets[name].view(-1), self._first[name]
        factors = torch.as_tensor(row[1:], dtype=target.dtype, device=target.device)
        torch.addmv(first, self._deltas[name].t(), factors, beta=float(row.sum()), out=target)

    def load_rows(self, name: str, rows: torch.Tensor, coefficients: Array) -> None:
        """See `Store`."""
        first, deltas = self._rows_of(name, rows)
        common, *factors = coefficients[self._row_by_name[name]]
        mixed = first * float(common + sum(factors))
        for delta, factor in zip(deltas, factors, strict=True):
            # Multiplied, then added: one instruction for both would round otherwise at the end of a row than before.
            mixed += delta * float(factor)
        self._targets[name][rows] = mixed

    def products(self, gradients: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, Array]]:
        """See `Store`."""
        return zip(gradients, self._map(self._products, gradients.items()), strict=True)

    def _products(self, item: tuple[str, torch.Tensor]) -> Array:
        name, gradient = item
        first, deltas = self._first[name], self._deltas[name]
        if gradient.is_sparse:
            rows, gradient = _rows_and_values(gradient)
            first, deltas = (part.flatten(-2) for part in self._rows_of(name, rows))
        flat = gradient.reshape(-1).to(first.dtype)
        # In the parameters' own precision: with rows that sum to one this part changes nothing.
        common = float(flat.dot(first))
        return common + np.concatenate([[0.0], (deltas @ flat).double().cpu().numpy()])

    def _rows_of(self, name: str, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = self._targets[name].shape
        return self._first[name].view(shape)[rows], self._deltas[name].view(-1, *shape).index_select(1, rows)


class Streamed:
    """From the files, every time: memory of a few chunks whatever the number of ingredients.

    Sums are those of `Deltas`, in float32 (float64 for tensors of that dtype).

    Args:
        module: its tensors are overwritten.
        checkpoints: k compatible ones, read at every step.
        ingredients: what they are called in errors.
        names: the stored tensors to mix.
        row_by_name: the row of coefficients of each.
        map_: runs the work in its own threads, where torch uses one: no bit depends on the number of cores.

    Raises:
        BlendError: NaN or infinity in an ingredient; looked for here, once.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        checkpoints: Sequence[Checkpoint],
        ingredients: Sequence[Ingredient],
        names: Sequence[str],
        row_by_name: Mapping[str, int],
        map_: Map,
    ) -> None:
        state = module.state_dict()
        self._targets = {name: state[name] for name in names}
        self._checkpoints = [SomeTensors(checkpoint, names) for checkpoint in checkpoints]
        self._row_by_name, self._map = row_by_name, map_
        labels = [ingredient.name for ingredient in ingredients]
        for _ in blend(self._checkpoints, Coefficients.equal(len(labels)), labels=labels) if names else ():
            pass
        widest = max(
            (_row_bytes(spec) for spec in self._checkpoints[0].specs.values() if len(spec.shape) == 2), default=0
        )
        # Pages of their own: reading into memory that begins within a cache line takes several times as long.
        self._memory = [aligned(max(READ_BYTES, widest)) for _ in range(2)]

    def load(self, names: Sequence[str], coefficients: Array) -> None:
        """See `Store`."""
        # One job for all: there is one set of buffers, and reading is bound by memory.
        for _ in self._map(lambda every: self._load_all(every, coefficients), [names]):
            pass

    def _load_all(self, names: Sequence[str], coefficients: Array) -> None:
        for name in names:
            self._load(name, coefficients[self._row_by_name[name]])

    def _load(self, name: str, row: Array) -> None:
        target, dtype = self._targets[name].view(-1), self._dtype(name)
        for span in self._spans(name):
            part = target[span.start : span.stop]
            total = part.zero_() if part.dtype == dtype and part.is_cpu else part.cpu().to(dtype).zero_()
            for factor, values in zip(row, self._values(name, [span]), strict=True):
                total.add_(values, alpha=float(factor))
            if total is not part:
                part.copy_(total)

    def load_rows(self, name: str, rows: torch.Tensor, coefficients: Array) -> None:
        """See `Store`; in the caller's thread, which may be one of the pool's."""
        import torch

        target, row = self._targets[name], coefficients[self._row_by_name[name]]
        for some in torch.split(rows, self._rows_at_once(name)):
            total = torch.zeros(some.numel() * target[0].numel(), dtype=self._dtype(name))
            for factor, values in zip(row, self._values(name, self._runs(name, some)), strict=True):
                # Multiplied, then added, as above.
                total += values.mul(float(factor))
            target[some] = total.view(-1, *target.shape[1:]).to(target)

    def products(self, gradients: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, Array]]:
        """See `Store`."""
        found: Iterable[list[tuple[str, Array]]] = self._map(
            lambda items: [(name, self._products(name, gradient)) for name, gradient in items], [gradients.items()]
        )
        return chain.from_iterable(found)

    def _products(self, name: str, gradient: torch.Tensor) -> Array:
        sums = np.zeros(len(self._checkpoints))
        for runs, part in self._parts(name, gradient):
            ingredients_values = self._values(name, runs)
            first = next(ingredients_values)
            sums[0] += float(first.dot(part))
            for position, values in enumerate(ingredients_values, start=1):
                sums[position] += float(values.sub_(first).dot(part))  # the buffer is ours
        sums[1:] += sums[0]
        return sums

    def _parts(self, name: str, gradient: torch.Tensor) -> Iterator[tuple[list[Span], torch.Tensor]]:
        """The gradient's elements, flat, as many at once as the buffers take, and where they lie in the tensor."""
        import torch

        dtype = self._dtype(name)
        if gradient.is_sparse:
            rows, values = _rows_and_values(gradient)
            n_rows = self._rows_at_once(name)
            for some, part in zip(torch.split(rows, n_rows), torch.split(values, n_rows), strict=True):
                yield self._runs(name, some), part.reshape(-1).cpu().to(dtype)
            return
        flat = gradient.detach().reshape(-1)
        for span in self._spans(name):
            yield [span], flat[span.start : span.stop].cpu().to(dtype)

    def _values(self, name: str, runs: Sequence[Span]) -> Iterator[torch.Tensor]:
        """Those elements of each ingredient, flat; valid until the next, the first ingredient's to the end."""
        import torch

        dtype, stored = self._dtype(name), self._checkpoints[0].specs[name].dtype
        item_bytes = ITEM_BYTES[stored]
        n_bytes = sum(run.size for run in runs) * item_bytes
        for checkpoint, memory in zip(
            self._checkpoints, chain(self._memory[:1], repeat(self._memory[1])), strict=False
        ):
            view, offset = memoryview(memory)[:n_bytes], 0
            for run in runs:
                checkpoint.read_into(name, view[offset : offset + run.size * item_bytes], run.start * item_bytes)
                offset += run.size * item_bytes
            yield torch.frombuffer(view, dtype=torch.uint8).view(torch_dtype(stored)).to(dtype)

    def _dtype(self, name: str) -> torch.dtype:
        import torch

        return torch.float64 if self._targets[name].dtype == torch.float64 else torch.float32

    def _spans(self, name: str) -> Iterator[Span]:
        spec = self._checkpoints[0].specs[name]
        return spans(spec.n_elements, READ_BYTES // ITEM_BYTES[spec.dtype]) if spec.n_elements else iter(())

    def _rows_at_once(self, name: str) -> int:
        return max(1, READ_BYTES // _row_bytes(self._checkpoints[0].specs[name]))

    def _runs(self, name: str, rows: torch.Tensor) -> list[Span]:
        """Ascending rows as few spans of elements: neighbours are read together."""
        width, found = self._targets[name][0].numel(), list[Span]()
        for row in rows.tolist():
            start = row * width
            if found and found[-1].stop == start:
                start = found.pop().start
            found.append(Span(start, (row + 1) * width))
        return found


def _row_bytes(spec: TensorSpec) -> int:
    return spec.nbytes // spec.shape[0] if spec.nbytes else 1


def _rows_and_values(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows [n], ascending, that a sparse gradient holds, and their values [n, ...]."""
    whole = gradient.coalesce()
    return whole.indices()[0], whole.values()
