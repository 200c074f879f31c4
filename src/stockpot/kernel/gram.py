"""Inner products of what fine-tuning has changed, streamed: lengths and angles in memory of a few chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from stockpot.kernel.buffers import Buffers, read_values
from stockpot.kernel.codec import Doubles, decode, encode, fits
from stockpot.kernel.compatibility import Layout, TensorPlan, check_layouts, labels_of, plan_tensors
from stockpot.kernel.faults import tensor_fault
from stockpot.kernel.spans import CHUNK_ELEMENTS, Span, spans
from stockpot.types import ITEM_BYTES, Checkpoint, InnerProducts, TensorSpec

__all__ = ["inner_products"]

#: Fewer would make a read of many checkpoints a read of many crumbs.
_LEAST_ELEMENTS = 2**10


def inner_products(
    initialisation: Checkpoint,
    checkpoints: Sequence[Checkpoint],
    *,
    labels: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    any_start_dtype: bool = False,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> InnerProducts:
    """``<theta_i - theta_0, theta_j - theta_0>`` for every floating tensor, in float64.

    Every checkpoint is read once, in spans that are shorter the more checkpoints there are, so memory grows with
    neither their number (up to 256) nor their size. Integer and boolean tensors are left out; tied ones count once,
    under their stored name in the initialisation. Sums are numpy's own, so no bit depends on the number of threads.

    Args:
        initialisation: theta_0.
        checkpoints: k compatible ones; the same one may come several times.
        labels: what errors call them, the initialisation first; their sources by default.
        only: names or globs of the tensors that count; the others may differ.
        any_start_dtype: whether the initialisation's floating tensors may have another dtype: float64 holds both;
            a wider one is rounded to that of the checkpoints first, as they were when they began.
        chunk_elements: elements of all checkpoints together that are held at once.

    Returns:
        One group per tensor, in file order of the initialisation; gram [tensors, k, k].

    Raises:
        IncompatibleError: names, shapes, dtypes or ties differ.
        BlendError: no checkpoints, or NaN or infinity in one.

    Example:
        >>> import tempfile, pathlib, safetensors.numpy
        >>> from stockpot.checkpoints import open_checkpoint
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, values in {"start": [1, 1], "a": [1, 3], "b": [2, 2]}.items():
        ...     safetensors.numpy.save_file({"w": np.float32(values)}, folder / f"{name}.safetensors")
        >>> start, a, b = (open_checkpoint(folder / f"{name}.safetensors") for name in ("start", "a", "b"))
        >>> inner_products(start, [a, b]).gram.tolist()
        [[[4.0, 2.0], [2.0, 2.0]]]
    """
    everything = [initialisation, *checkpoints]
    labels_of(checkpoints, None)  # none at all is refused
    labels = labels_of(everything, labels)
    first, *others = [Layout.of(checkpoint) for checkpoint in everything]
    check_layouts(_in_dtypes_of(others[0], first) if any_start_dtype else first, others, labels, only=only)
    plans = [plan for plan in plan_tensors(first, only=only) if plan.is_blended]
    buffers = Buffers(max(chunk_elements // len(checkpoints), _LEAST_ELEMENTS))
    deltas = np.empty((len(checkpoints), buffers.chunk_elements))
    grams = [_gram(plan, everything, labels, buffers, deltas) for plan in plans]
    shape = (len(plans), len(checkpoints), len(checkpoints))
    return InnerProducts(tuple((plan.name,) for plan in plans), np.array(grams).reshape(shape))


def _in_dtypes_of(model: Layout, layout: Layout) -> Layout:
    """The layout, floating tensors with the dtypes that `model` has for them."""

    def spec(name: str, own: TensorSpec) -> TensorSpec:
        other = model.specs.get(model.tied.get(name, name), own)
        return replace(own, dtype=other.dtype) if own.is_float and other.is_float else own

    return replace(layout, specs={name: spec(name, own) for name, own in layout.specs.items()})


def _gram(
    plan: TensorPlan,
    checkpoints: Sequence[Checkpoint],
    labels: Sequence[str],
    buffers: Buffers,
    deltas: npt.NDArray[np.float64],
) -> Doubles:
    """[k, k] of one tensor; `deltas` [k, chunk] is scratch."""
    k = len(deltas)
    upper = np.zeros((k, k))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for span in spans(plan.stored.n_elements, buffers.chunk_elements):
            part = deltas[:, : span.size]
            _read_deltas(plan, span, checkpoints, buffers, part)
            for i in range(k):
                # Not BLAS: its sums depend on the number of threads.
                upper[i, i:] += np.einsum("n,jn->j", part[i], part[i:])
    if not np.isfinite(upper).all():
        raise tensor_fault(plan, np.array([np.inf]), Span(0, 1), checkpoints, labels)
    gram: Doubles = np.triu(upper) + np.triu(upper, 1).T
    return gram


def _read_deltas(
    plan: TensorPlan,
    span: Span,
    checkpoints: Sequence[Checkpoint],
    buffers: Buffers,
    deltas: npt.NDArray[np.float64],
) -> None:
    """Fills `deltas` [k, span] with what checkpoints 1 to k have over checkpoint 0."""
    own = plan.stored.dtype
    dtype = checkpoints[1].specs[checkpoints[1].tied.get(plan.name, plan.name)].dtype
    start = read_values(checkpoints[0], plan.name, span, own, buffers.raw, buffers.total)
    if ITEM_BYTES[dtype] < ITEM_BYTES[own] and fits(start, dtype):
        rounded = buffers.raw[: span.size * ITEM_BYTES[dtype]]
        encode(start, dtype, rounded)  # else the rounding of all weights would count as a way gone
        decode(rounded, dtype, start)
    for checkpoint, delta in zip(checkpoints[1:], deltas, strict=True):
        values = read_values(checkpoint, plan.name, span, dtype, buffers.raw, buffers.values)
        np.subtract(values, start, out=delta)
