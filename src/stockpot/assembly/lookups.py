"""Embeddings of which a step needs only the rows that its batch looks up: the others are mixed when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

__all__ = ["Lookups"]

MixRows: TypeAlias = "Callable[[str, torch.Tensor], None]"


class Lookups:
    """Mixes rows of embeddings as they are looked up; their gradients are sparse.

    A row that was not looked up since the weights last changed is NaN. So a model that uses such a table otherwise, too
    (an output layer that reads the weight by itself), gives no finite loss instead of a wrong one.

    Args:
        module: its embeddings are found by structure, never by name: an `Embedding` with the forward pass of torch,
            whose weight shares memory with no other tensor.
        parameters: stored name -> parameter, of those that are mixed.
        mix_rows: makes the rows [n] int64, ascending, of a stored tensor those of the present coefficients.
    """

    def __init__(
        self, module: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter], mix_rows: MixRows
    ) -> None:
        self._mix_rows, self._is_active, self._lock = mix_rows, False, Lock()
        self._embeddings = _embeddings(module, parameters)
        self._is_ready = {name: _no_rows(embedding) for name, embedding in self._embeddings.items()}
        self._hooks = [
            embedding.register_forward_pre_hook(self._hook(name), with_kwargs=True)
            for name, embedding in self._embeddings.items()
        ]
        for name, embedding in self._embeddings.items():
            embedding.sparse = True
            embedding.weight.detach().fill_(float("nan"))
            self._is_ready[name].fill_(False)

    @property
    def names(self) -> frozenset[str]:
        """Stored names of the tensors that are mixed row by row."""
        return frozenset(self._embeddings)

    def forget(self) -> None:
        """Says that the coefficients have changed: no row is what it should be."""
        for name, embedding in self._embeddings.items():
            is_ready = self._is_ready[name]
            embedding.weight.detach()[is_ready] = float("nan")
            is_ready.fill_(False)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, forward passes mix the rows they look up; outside, the module is left alone."""
        self._is_active = True
        try:
            yield
        finally:
            self._is_active = False

    def close(self) -> None:
        """The embeddings are torch's again; rows that were not looked up stay NaN."""
        for hook in self._hooks:
            hook.remove()
        for embedding in self._embeddings.values():
            embedding.sparse = False
        self._embeddings, self._is_ready, self._hooks = {}, {}, []

    def _hook(self, name: str) -> Callable[..., None]:
        def before(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._is_active:
                self._prepare(name, args[0] if args else kwargs["input"])

        return before

    def _prepare(self, name: str, looked_up: torch.Tensor) -> None:
        import torch

        rows = torch.unique(looked_up.detach().reshape(-1).long())
        is_ready = self._is_ready[name]
        if rows.numel() and not 0 <= int(rows[0]) <= int(rows[-1]) < len(is_ready):
            return  # the module's own error names the index
        with self._lock:  # pieces of a batch run side by side
            missing = rows[~is_ready[rows]]
            if missing.numel():
                self._mix_rows(name, missing)
                is_ready[missing] = True


def _embeddings(module: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.nn.Embedding]:
    import torch

    tensors = module.state_dict(keep_vars=True).values()
    n_uses = Counter(t.untyped_storage().data_ptr() for t in tensors if isinstance(t, torch.Tensor))
    found = {
        id(embedding.weight): embedding
        for embedding in module.modules()
        if isinstance(embedding, torch.nn.Embedding)
        and type(embedding).forward is torch.nn.Embedding.forward
        and not (embedding.sparse or embedding.scale_grad_by_freq or embedding.max_norm is not None)
        and embedding.weight.numel()
        and n_uses[embedding.weight.untyped_storage().data_ptr()] == 1
    }
    return {name: found[id(parameter)] for name, parameter in parameters.items() if id(parameter) in found}


def _no_rows(embedding: torch.nn.Embedding) -> torch.Tensor:
    import torch

    return torch.zeros(embedding.num_embeddings, dtype=torch.bool, device=embedding.weight.device)
