"""What went wrong with a tensor that has no valid blend: looked for only after the sum has shown that something did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stockpot.errors import BlendError
from stockpot.kernel.buffers import Buffers, read_values
from stockpot.kernel.codec import Doubles
from stockpot.kernel.compatibility import TensorPlan
from stockpot.kernel.mixing import MixingRule
from stockpot.kernel.passes import OVERFLOWS_AT
from stockpot.kernel.spans import Span, spans
from stockpot.types import Checkpoint, TensorSpec

__all__ = ["blend_fault", "tensor_fault"]

#: The next wider dtype that a user can ask for.
_WIDER = {"F8_E4M3": "fp16", "F8_E5M2": "bf16", "F16": "fp32", "BF16": "fp32", "F32": "fp64"}


@dataclass(slots=True)
class _NotFinite:
    """NaN and infinities of one tensor of one ingredient: how many, and the first."""

    count: int = 0
    flat_index: int = 0
    value: float = 0.0


def blend_fault(
    plan: TensorPlan, rule: MixingRule, span: Span, checkpoints: Sequence[Checkpoint], labels: Sequence[str]
) -> BlendError:
    """`tensor_fault` of a span whose blended values were not kept: they are made again.

    Args:
        plan: the tensor.
        rule: how it is blended.
        span: where in the tensor the blend failed.
        checkpoints: read again.
        labels: what the error calls them.
    """
    buffers = Buffers(max(span.size, 1))
    total = np.zeros(span.size)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for checkpoint, factor in zip(checkpoints, rule.factors, strict=True):
            if factor:
                dtype = plan.stored.dtype
                total += factor * read_values(checkpoint, plan.name, span, dtype, buffers.raw, buffers.values)
        total = total / rule.divisor * rule.multiplier
    return tensor_fault(plan, total, span, checkpoints, labels)


def tensor_fault(
    plan: TensorPlan, total: Doubles, span: Span, checkpoints: Sequence[Checkpoint], labels: Sequence[str]
) -> BlendError:
    """Why a blended span cannot be stored: NaN or infinity in ingredients, all of them named, or else an overflow.

    Args:
        plan: the tensor.
        total: [span.size] the blended values, before rounding.
        span: where they belong in the tensor.
        checkpoints: read again, this whole tensor.
        labels: what the error calls them.

    Returns:
        The error to raise.
    """
    problems = list(_problems(plan, checkpoints, labels))
    if problems:
        return BlendError(
            "NaN or infinity in an ingredient",
            problems=problems,
            fix="leave the ingredient out (its run diverged or its file is damaged); a coefficient of 0 does not help",
        )
    return _overflow(plan, total, span)


def _problems(plan: TensorPlan, checkpoints: Sequence[Checkpoint], labels: Sequence[str]) -> Iterator[str]:
    buffers = Buffers()
    for checkpoint, label in zip(checkpoints, labels, strict=True):
        found = _search(checkpoint, plan, buffers)
        if found.count:
            values = "1 value is" if found.count == 1 else f"{found.count} values are"
            where = _place(plan.stored, found.flat_index)
            yield f"{plan.name} in {label!r}: {values} not finite, the first is {found.value} at {where}"


def _search(checkpoint: Checkpoint, plan: TensorPlan, buffers: Buffers) -> _NotFinite:
    found = _NotFinite()
    for span in spans(plan.stored.n_elements, buffers.chunk_elements):
        values = read_values(checkpoint, plan.name, span, plan.stored.dtype, buffers.raw, buffers.values)
        indices = np.flatnonzero(~np.isfinite(values))
        if len(indices) and not found.count:
            found.flat_index, found.value = span.start + int(indices[0]), float(values[indices[0]])
        found.count += len(indices)
    return found


def _overflow(plan: TensorPlan, total: Doubles, span: Span) -> BlendError:
    position = int(np.argmax(~(np.abs(total) < OVERFLOWS_AT[plan.output.dtype])))
    value, where = float(total[position]), _place(plan.output, span.start + position)
    if not np.isfinite(value):
        message = f"{plan.name} at {where}: the sum of the ingredients overflows float64"
        return BlendError(message, fix="use smaller coefficients, or leave out the ingredient with the huge values")
    message = f"{plan.name} at {where}: {value:.6g} is beyond the largest {plan.output.dtype} value"
    wider = _WIDER.get(plan.output.dtype, "fp64")
    return BlendError(message, fix=f"store the blend wider: --dtype {wider}")


def _place(spec: TensorSpec, flat_index: int) -> str:
    """[1, 2] (flat index 5); only the flat index where a shape would add nothing."""
    if len(spec.shape) < 2:
        return f"index {flat_index}"
    return f"{[int(i) for i in np.unravel_index(flat_index, spec.shape)]} (flat index {flat_index})"
