"""Inner products of checkpoints with a vector, chunk by chunk: what a gradient by coefficients is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stockpot.kernel.buffers import Buffers, read_values
from stockpot.kernel.codec import Doubles
from stockpot.kernel.spans import spans
from stockpot.types import Checkpoint

__all__ = ["dot_products"]


def dot_products(
    checkpoints: Sequence[Checkpoint], name: str, vector: npt.NDArray[np.floating], buffers: Buffers | None = None
) -> Doubles:
    """``<x_i, v>`` for the tensor `name` of every checkpoint i, in float64, in memory of one chunk.

    Args:
        checkpoints: k compatible ones.
        name: a floating tensor of theirs with n elements.
        vector: [n] floating.
        buffers: scratch; made here if None.

    Returns:
        [k] float64.

    Example:
        >>> import tempfile, pathlib, safetensors.numpy
        >>> from stockpot.checkpoints import open_checkpoint
        >>> file = pathlib.Path(tempfile.mkdtemp(), "a.safetensors")
        >>> safetensors.numpy.save_file({"w": np.float32([[1, 2], [3, 4]])}, file)
        >>> with open_checkpoint(file) as checkpoint:
        ...     dot_products([checkpoint], "w", np.ones(4))
        array([10.])
    """
    buffers = buffers or Buffers()
    spec = checkpoints[0].specs[name]
    products = np.zeros(len(checkpoints))
    for span in spans(spec.n_elements, buffers.chunk_elements):
        part = buffers.total[: span.size]
        part[:] = vector[span.start : span.stop]
        for position, checkpoint in enumerate(checkpoints):
            values = read_values(checkpoint, name, span, spec.dtype, buffers.raw, buffers.values)
            # Not np.dot: its sum would depend on the number of threads.
            products[position] += np.multiply(values, part, out=values).sum()
    return products
