"""The running sum of a soup of equal shares: one more ingredient costs one checkpoint's reading."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from stockpot.errors import BlendError
from stockpot.kernel.codec import Bytes, Doubles
from stockpot.kernel.combine import OnDifference
from stockpot.kernel.compatibility import Layout, TensorPlan, check_layouts, plan_tensors
from stockpot.kernel.faults import tensor_fault
from stockpot.kernel.fused import combine_for
from stockpot.kernel.passes import Rounding
from stockpot.kernel.scratch import Scratch
from stockpot.kernel.spans import CHUNK_ELEMENTS, Chunk, Span, aligned, read_bytes, spans
from stockpot.types import ITEM_BYTES, Checkpoint

__all__ = ["RunningBlend"]

_DEFAULT_BUDGET_BYTES = 4 * 2**30
_WIDEST_ITEM_BYTES = max(ITEM_BYTES.values())


@dataclass(slots=True)
class _State:
    """What is kept of the first ingredient, and the sums that stand on it.

    Args:
        layout: the first ingredient's names, specs and ties.
        label: what errors call it.
        sums: [blended elements] float64, the sum of all accepted ingredients.
        pending: [blended elements] float64, the same plus the proposed one.
        copied: [bytes] the first ingredient's tensors that are not blended.
        offset_by_name: where each tensor begins, in elements of `sums` or bytes of `copied`.
    """

    layout: Layout
    label: str
    sums: Doubles
    pending: Doubles
    copied: Bytes
    offset_by_name: dict[str, int]


@dataclass(slots=True, eq=False)
class _Proposal:
    checkpoint: Checkpoint
    label: str
    identity: Hashable
    differing: set[str] = field(default_factory=set)
    is_whole: bool = False


class RunningBlend:
    """Blends of equal shares that grow by one ingredient at a time, to the bytes of `blend` with `Coefficients.equal`.

    ::

        propose(x):  pending = sums + x,  y = round(pending / (n + 1))
        accept():    sums = pending,      n = n + 1

    Args:
        budget_bytes: more than this (about 16 bytes per blended element are needed) goes to memory-mapped files.
        scratch_folder: where these files go, in a temporary folder of its own; the system's by default.
        only: names or globs of the tensors to blend; the others are the first ingredient's.
        chunk_elements: elements handled at once.
        on_difference: told (tensor, label) for each integer or boolean tensor that differs from the first's.

    Example:
        >>> with RunningBlend() as running:
        ...     running.identities
        ()
    """

    def __init__(
        self,
        *,
        budget_bytes: int = _DEFAULT_BUDGET_BYTES,
        scratch_folder: str | Path | None = None,
        only: Sequence[str] | None = None,
        chunk_elements: int = CHUNK_ELEMENTS,
        on_difference: OnDifference | None = None,
    ) -> None:
        self._only = only
        self._on_difference = on_difference
        self._chunk_elements = chunk_elements
        self._raw, self._output = (aligned(chunk_elements * _WIDEST_ITEM_BYTES) for _ in range(2))
        self._scratch = Scratch(budget_bytes, scratch_folder)
        self._state: _State | None = None
        self._proposal: _Proposal | None = None
        self._identities: tuple[Hashable, ...] = ()

    @property
    def identities(self) -> tuple[Hashable, ...]:
        """What the accepted ingredients were called by `identity`, in order."""
        return self._identities

    def start(self, checkpoint: Checkpoint, label: str, *, identity: Hashable = None) -> None:
        """Begins anew with one ingredient.

        Args:
            checkpoint: read whole, once.
            label: what errors call it.
            identity: what `identities` calls it; the label by default.

        Raises:
            BlendError: NaN or infinity in it.
        """
        self._identities, self._proposal = (), None
        for _ in self.propose(checkpoint, label, identity=identity):
            pass
        self.accept()

    def propose(
        self, checkpoint: Checkpoint, label: str, *, identity: Hashable = None, dtype: str | None = None
    ) -> Iterator[Chunk]:
        """The blend of the accepted ingredients and one more, equal shares; replaces an earlier proposal.

        Args:
            checkpoint: the only one that is read.
            label: what errors call it.
            identity: what `identities` will call it; the label by default.
            dtype: output dtype of the blended tensors; the stored one by default.

        Returns:
            Chunks as `blend` gives them. Take them all before `accept`.

        Raises:
            IncompatibleError: it does not fit the first ingredient.
            BlendError: as for `blend`.
        """
        self._proposal = None
        layout = Layout.of(checkpoint)
        state = self._state if self._identities else None
        if state is not None:
            check_layouts(state.layout, [layout], (state.label, label), only=self._only)
        plans = plan_tensors(state.layout if state is not None else layout, dtype, self._only)
        if state is None:
            state = self._state = self._first_state(layout, label, plans)
        self._proposal = _Proposal(checkpoint, label, label if identity is None else identity)
        return self._chunks(state, plans, self._proposal)

    def accept(self) -> None:
        """Keeps the proposed ingredient; reads nothing.

        Raises:
            BlendError: nothing was proposed, or its chunks were not all taken.
        """
        state, proposal = self._state, self._proposal
        if state is None or proposal is None or not proposal.is_whole:
            raise BlendError(
                "there is no whole proposal to accept", fix="propose an ingredient and take all its chunks first"
            )
        state.sums, state.pending = state.pending, state.sums
        self._identities += (proposal.identity,)
        self._proposal = None

    def close(self) -> None:
        """Forgets everything and removes the scratch files."""
        self._state, self._proposal, self._identities = None, None, ()
        self._scratch.close()

    def __enter__(self) -> RunningBlend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _first_state(self, layout: Layout, label: str, plans: Sequence[TensorPlan]) -> _State:
        self._state = None  # its memory is free before new memory is taken
        blended = [plan for plan in plans if plan.is_blended]
        copied = [plan for plan in plans if not plan.is_blended]
        element_ends = list(itertools.accumulate((plan.stored.n_elements for plan in blended), initial=0))
        byte_ends = list(itertools.accumulate((plan.stored.nbytes for plan in copied), initial=0))
        sums, pending, kept = self._scratch.allocate([8 * element_ends[-1], 8 * element_ends[-1], byte_ends[-1]])
        offsets = dict(zip((plan.name for plan in blended), element_ends, strict=False))
        offsets |= dict(zip((plan.name for plan in copied), byte_ends, strict=False))
        return _State(layout, label, sums.view(np.float64), pending.view(np.float64), kept, offsets)

    def _chunks(self, state: _State, plans: Sequence[TensorPlan], proposal: _Proposal) -> Iterator[Chunk]:
        for plan in plans:
            for span in spans(plan.stored.n_elements, self._chunk_elements):
                if self._proposal is not proposal:
                    raise BlendError("this proposal was replaced by a later one", fix="take its chunks before the next")
                part = self._blended if plan.is_blended else self._copied
                yield part(state, plan, span, proposal)
        if self._proposal is proposal:
            proposal.is_whole = True

    def _blended(self, state: _State, plan: TensorPlan, span: Span, proposal: _Proposal) -> Chunk:
        place, dtype, output = _place(state, plan, span, 1), plan.stored.dtype, plan.output.dtype
        pending, n = state.pending[place], len(self._identities) + 1
        term = read_bytes(proposal.checkpoint, plan.name, span, ITEM_BYTES[dtype], self._raw)
        data = self._output[: span.size * ITEM_BYTES[output]]
        is_valid = combine_for(dtype, output)(
            [term],
            [1.0],
            dtype,
            span.size,
            before=state.sums[place].data if self._identities else None,
            after=pending.data,
            rounding=Rounding(float(n), 1.0, output, data),
        )
        if not is_valid:
            raise tensor_fault(plan, pending / n, span, [proposal.checkpoint], [proposal.label])
        return Chunk(plan.name, plan.output, span.start * ITEM_BYTES[output], data)

    def _copied(self, state: _State, plan: TensorPlan, span: Span, proposal: _Proposal) -> Chunk:
        item_bytes = ITEM_BYTES[plan.stored.dtype]
        kept = state.copied[_place(state, plan, span, item_bytes)].data
        if not self._identities:
            read_bytes(proposal.checkpoint, plan.name, span, item_bytes, kept)
        elif (
            self._on_difference
            and not plan.stored.is_float
            and plan.name not in proposal.differing
            and read_bytes(proposal.checkpoint, plan.name, span, item_bytes, self._raw) != kept
        ):
            proposal.differing.add(plan.name)  # told once
            self._on_difference(plan.name, proposal.label)
        data = self._output[: len(kept)]
        data[:] = kept  # a caller may change what it is handed, not what is kept
        return Chunk(plan.name, plan.output, span.start * item_bytes, data)


def _place(state: _State, plan: TensorPlan, span: Span, unit: int) -> slice:
    """Where a span lies in the store: `unit` is 1 for sums, which count elements, and an item's bytes for copies."""
    offset = state.offset_by_name[plan.name]
    return slice(offset + span.start * unit, offset + span.stop * unit)
