"""The one linear combination of checkpoints, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from stockpot.kernel.buffers import CHUNK_ELEMENTS, Buffers, Chunk, Span, read_bytes, read_values, spans
from stockpot.kernel.codec import Bytes, Doubles, encode, fits
from stockpot.kernel.compatibility import Layout, TensorPlan, check_layouts, labels_of, plan_tensors
from stockpot.kernel.faults import tensor_fault
from stockpot.kernel.mixing import MixingRule, check_coefficients, scale
from stockpot.types import ITEM_BYTES, Checkpoint, Coefficients

__all__ = ["OnDifference", "blend", "rounded"]

OnDifference = Callable[[str, str], None]


def blend(
    checkpoints: Sequence[Checkpoint],
    coefficients: Coefficients,
    *,
    dtype: str | None = None,
    only: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
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
    return _chunks(checkpoints, coefficients, plans, labels, Buffers(chunk_elements), on_difference)


def _chunks(
    checkpoints: Sequence[Checkpoint],
    coefficients: Coefficients,
    plans: Sequence[TensorPlan],
    labels: Sequence[str],
    buffers: Buffers,
    on_difference: OnDifference | None,
) -> Iterator[Chunk]:
    for plan in plans:
        if plan.is_blended:
            rule = MixingRule.of(coefficients.row_of(plan.name))
            yield from _blended(plan, rule, checkpoints, labels, buffers)
        else:
            yield from _copied(plan, checkpoints, labels, buffers, on_difference)


def _blended(
    plan: TensorPlan, rule: MixingRule, checkpoints: Sequence[Checkpoint], labels: Sequence[str], buffers: Buffers
) -> Iterator[Chunk]:
    for span in spans(plan.stored.n_elements, buffers.chunk_elements):
        total = _weighted_sum(plan, span, rule, checkpoints, buffers)
        if total is None or not fits(total, plan.output.dtype):
            raise tensor_fault(plan, buffers.total[: span.size], span, checkpoints, labels)
        yield rounded(plan, span, total, buffers.output)


def _weighted_sum(
    plan: TensorPlan, span: Span, rule: MixingRule, checkpoints: Sequence[Checkpoint], buffers: Buffers
) -> Doubles | None:
    """The blend of a span before rounding; None when a term that is not added holds NaN or infinity.

    Terms that are added need no look of their own: NaN and infinity never leave a sum again.
    """
    total = buffers.total[: span.size]
    is_started = False
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for checkpoint, factor in zip(checkpoints, rule.factors, strict=True):
            target = buffers.values if is_started or not factor else total
            values = read_values(checkpoint, plan.name, span, plan.stored.dtype, buffers.raw, target)
            if not factor:
                if not fits(values, "F64"):
                    return None
                continue
            if factor != 1.0:
                np.multiply(values, factor, out=values)
            if is_started:
                np.add(total, values, out=total)
            is_started = True
        if not is_started:
            total.fill(0.0)
        scale(total, rule)
    return total


def rounded(plan: TensorPlan, span: Span, total: Doubles, output: Bytes) -> Chunk:
    """Rounds a span's blended values, all of which fit, into the chunk that is handed out."""
    item_bytes = ITEM_BYTES[plan.output.dtype]
    data = output[: span.size * item_bytes]
    encode(total, plan.output.dtype, data)
    return Chunk(plan.name, plan.output, span.start * item_bytes, data.data)


def _copied(
    plan: TensorPlan,
    checkpoints: Sequence[Checkpoint],
    labels: Sequence[str],
    buffers: Buffers,
    on_difference: OnDifference | None,
) -> Iterator[Chunk]:
    item_bytes = ITEM_BYTES[plan.stored.dtype]
    first, *others = zip(checkpoints, labels, strict=True)
    # Floats are copied where only other tensors are blended: then their differences are meant.
    unlike_first = others if on_difference and not plan.stored.is_float else []
    for span in spans(plan.stored.n_elements, buffers.chunk_elements):
        data = read_bytes(first[0], plan.name, span, item_bytes, buffers.output)
        same = []
        for checkpoint, label in unlike_first:
            if np.array_equal(read_bytes(checkpoint, plan.name, span, item_bytes, buffers.raw), data):
                same.append((checkpoint, label))
            elif on_difference:
                on_difference(plan.name, label)
        unlike_first = same  # told once; no need to read its rest
        yield Chunk(plan.name, plan.output, span.start * item_bytes, data.data)
