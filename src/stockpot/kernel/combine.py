"""The one linear combination of checkpoints, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from stockpot.kernel.compatibility import Layout, TensorPlan, check_layouts, labels_of, plan_tensors
from stockpot.kernel.fused import combine_for, file_sum
from stockpot.kernel.mixing import MixingRule, check_coefficients
from stockpot.kernel.native import FileSum, scratch_bytes
from stockpot.kernel.ordered import in_order
from stockpot.kernel.passes import MOST_TERMS, Rounding
from stockpot.kernel.spans import CHUNK_ELEMENTS, Chunk, Span, aligned, read_bytes, spans
from stockpot.types import ITEM_BYTES, Checkpoint, Coefficients

__all__ = ["OnDifference", "blend"]

OnDifference = Callable[[str, str], None]
_WIDEST_ITEM_BYTES = max(ITEM_BYTES.values())


def blend(
    checkpoints: Sequence[Checkpoint],
    coefficients: Coefficients,
    *,
    dtype: str | None = None,
    only: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
    threads: int = 0,
    on_difference: OnDifference | None = None,
) -> Iterator[Chunk]:
    """Blends checkpoints tensor by tensor, in memory that grows with neither their number nor their size.

    ::

        y = round(sum over i of c_i * x_i)

    The sum is float64, in the order given, from the first term with c_i != 0 on; equal coefficients are taken out
    of it (see `MixingRule`). It is rounded once, to the nearest value of the output dtype, ties to even. Hence
    coefficient 1 on one checkpoint gives its bytes. Integer and boolean tensors are the first checkpoint's.

    Args:
        checkpoints: k compatible ones; the same one may come several times.
        coefficients: one row of k numbers, or one row per group of tensors.
        dtype: output dtype of the blended tensors, e.g. "bf16"; the stored one by default.
        only: names or globs of the tensors to blend; the others are the first checkpoint's, unread elsewhere.
        labels: what errors call the checkpoints; their sources by default.
        chunk_elements: elements handled at once.
        threads: that read and sum ahead of the caller, each with buffers of its own; 0: the caller's own thread.
        on_difference: told (tensor, label) for each integer or boolean tensor that differs from the first's.

    Returns:
        Chunks, tensor by tensor in file order of the first checkpoint. All that can be checked from the headers has
        been checked before this returns; values are checked as they come.

    Raises:
        IncompatibleError: names, shapes, dtypes or ties differ.
        BlendError: coefficients, groups, `only` or `dtype` that do not fit; NaN or infinity in a checkpoint, also at
            coefficient 0; a result that the output dtype cannot hold.

    References:
        Wortsman et al., 2022: Model soups (arXiv:2203.05482).
    """
    labels = labels_of(checkpoints, labels)
    first, *others = [Layout.of(checkpoint) for checkpoint in checkpoints]
    check_layouts(first, others, labels, only=only)
    plans = plan_tensors(first, dtype, only)
    check_coefficients(coefficients, len(checkpoints), plans, first.tied)
    source = _Source(checkpoints, labels)
    lanes = [_Lane(chunk_elements, len(checkpoints)) for _ in range(threads + 1)]
    made = in_order(_jobs(source, plans, coefficients, chunk_elements, on_difference), lanes, threads=threads)
    return _chunks(made, labels, on_difference)


@dataclass(frozen=True, slots=True)
class _Source:
    checkpoints: Sequence[Checkpoint]
    labels: Sequence[str]


class _Lane:
    """The memory of one span under way; pages that are never touched cost nothing.

    Args:
        chunk_elements: of the longest span, at least 1.
        k: checkpoints; those beyond `MOST_TERMS` take their turn in the same memory.
    """

    def __init__(self, chunk_elements: int, k: int) -> None:
        n_bytes = chunk_elements * _WIDEST_ITEM_BYTES
        self.terms = [aligned(n_bytes) for _ in range(min(k, MOST_TERMS))]
        self.total = aligned(chunk_elements * 8)
        self.output = aligned(n_bytes)
        self.scratch = aligned(scratch_bytes(k))


@dataclass(frozen=True, slots=True)
class _Made:
    """A chunk, and which of the other checkpoints (by position) hold other bytes where it was copied."""

    chunk: Chunk
    differing: tuple[int, ...] = ()


def _jobs(
    source: _Source,
    plans: Sequence[TensorPlan],
    coefficients: Coefficients,
    chunk_elements: int,
    on_difference: OnDifference | None,
) -> Iterator[Callable[[_Lane], _Made]]:
    for plan in plans:
        if plan.is_blended:
            rule = MixingRule.of(coefficients.row_of(plan.name))
            files = file_sum(source.checkpoints, plan.name, rule, plan.stored.dtype, plan.output.dtype)
            make = partial(_blended, plan, rule, source, files)
        else:
            # Floats are copied where only other tensors are blended: then their differences are meant.
            make = partial(_copied, plan, source, on_difference is not None and not plan.stored.is_float)
        for span in spans(plan.stored.n_elements, chunk_elements):
            yield partial(make, span)


def _chunks(made: Iterator[_Made], labels: Sequence[str], on_difference: OnDifference | None) -> Iterator[Chunk]:
    told: set[tuple[str, int]] = set()
    for result in made:
        for position in result.differing:
            if on_difference and (result.chunk.name, position) not in told:
                told.add((result.chunk.name, position))
                on_difference(result.chunk.name, labels[position])
        yield result.chunk


def _blended(
    plan: TensorPlan, rule: MixingRule, source: _Source, files: FileSum | None, span: Span, lane: _Lane
) -> _Made:
    item_bytes = ITEM_BYTES[plan.output.dtype]
    data = lane.output[: span.size * item_bytes]
    is_valid = files.into(data, span.start, span.size, lane.scratch) if files is not None else None
    if is_valid is None:
        is_valid = _read_and_combined(plan, rule, source, span, lane, data)
    if not is_valid:
        from stockpot.kernel.faults import blend_fault

        raise blend_fault(plan, rule, span, source.checkpoints, source.labels)
    return _Made(Chunk(plan.name, plan.output, span.start * item_bytes, data))


def _read_and_combined(
    plan: TensorPlan, rule: MixingRule, source: _Source, span: Span, lane: _Lane, out: memoryview
) -> bool:
    """Sums a span over all checkpoints, some at a time, and rounds it with the last of them."""
    dtype, output = plan.stored.dtype, plan.output.dtype
    combine, k = combine_for(dtype, output), len(source.checkpoints)
    total = lane.total[: span.size * 8]
    is_started, is_valid = False, True
    for first in range(0, k, MOST_TERMS):
        members, factors = source.checkpoints[first : first + MOST_TERMS], rule.factors[first : first + MOST_TERMS]
        is_last = first + MOST_TERMS >= k
        is_valid &= combine(
            [
                read_bytes(checkpoint, plan.name, span, ITEM_BYTES[dtype], memory)
                for checkpoint, memory in zip(members, lane.terms, strict=False)
            ],
            factors,
            dtype,
            span.size,
            before=total if is_started else None,
            after=None if is_last else total,
            rounding=Rounding(rule.divisor, rule.multiplier, output, out) if is_last else None,
        )
        is_started |= any(factors)
    return is_valid


def _copied(plan: TensorPlan, source: _Source, is_compared: bool, span: Span, lane: _Lane) -> _Made:
    item_bytes = ITEM_BYTES[plan.stored.dtype]
    data = read_bytes(source.checkpoints[0], plan.name, span, item_bytes, lane.output)
    others = range(1, len(source.checkpoints)) if is_compared else ()
    differing = tuple(
        i for i in others if read_bytes(source.checkpoints[i], plan.name, span, item_bytes, lane.terms[0]) != data
    )
    return _Made(Chunk(plan.name, plan.output, span.start * item_bytes, data), differing)
