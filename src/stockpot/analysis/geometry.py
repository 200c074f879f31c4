"""Where fine-tunes lie around their initialisation: lengths, angles and distances, from inner products alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stockpot.errors import DataError
from stockpot.records import Geometry
from stockpot.types import InnerProducts

__all__ = ["NEARLY_EQUAL", "angle_degrees", "centred", "geometry", "near_duplicates", "whole_gram"]

Array = np.ndarray[Any, Any]
#: Two fine-tunes this much nearer to each other than to the start are one run, saved twice or rounded.
NEARLY_EQUAL = 0.02


def whole_gram(products: InnerProducts) -> Array:
    """``G[i, j] = <theta_i - theta_0, theta_j - theta_0>`` over all tensors together: [k, k] float64."""
    gram: Array = products.gram.sum(axis=0)
    return gram


def geometry(names: Sequence[str], products: InnerProducts, *, is_centred: bool = False) -> Geometry:
    """Lengths, cosines and distances of the directions theta_i - theta_0.

    ``norm_i = sqrt(G_ii)``, ``cos_ij = G_ij / (norm_i norm_j)``, ``distance_ij = sqrt(G_ii + G_jj - 2 G_ij)``, with
    ``G_ij = <theta_i - theta_0, theta_j - theta_0>`` summed over tensors. The inner products are streamed (see
    `stockpot.assembly.inner_products`), so memory does not grow with k.

    Args:
        names: of the k ingredients.
        products: one group per tensor, [groups, k, k].
        is_centred: whether theta_0 is the ingredients' mean.

    Returns:
        See `stockpot.records.Geometry`.

    Raises:
        DataError: another number of names.

    Source: Wortsman et al. 2022, section 4 (angles).

    Example:
        >>> found = geometry(["a", "b"], InnerProducts((("w",),), np.array([[[4.0, 2.0], [2.0, 2.0]]])))
        >>> found.norms, round(found.cosines[0][1], 4), round(found.distances[0][1], 4)
        ((2.0, 1.4142135623730951), 0.7071, 1.4142)
    """
    gram = whole_gram(products)
    if gram.shape != (len(names), len(names)):
        raise DataError(f"{len(names)} names for {len(gram)} ingredients", fix="give one name for each")
    return Geometry(
        names=tuple(names),
        norms=_floats(np.sqrt(np.diag(gram))),
        cosines=tuple(map(_floats, _cosines(gram))),
        distances=tuple(map(_floats, _distances(gram))),
        groups=tuple(" ".join(group) for group in products.groups),
        group_norms=tuple(_floats(np.sqrt(np.diag(group))) for group in products.gram),
        is_centred=is_centred,
    )


def centred(products: InnerProducts) -> InnerProducts:
    """The inner products around the ingredients' mean, from those around any point.

    ``<d_i - m, d_j - m> = G_ij - mean_a G_aj - mean_b G_ib + mean_ab G_ab`` with ``m = (1/k) sum_i d_i``.

    Example:
        >>> centred(InnerProducts((("w",),), np.array([[[0.0, 0.0], [0.0, 4.0]]]))).gram.tolist()
        [[[1.0, -1.0], [-1.0, 1.0]]]
    """
    gram = products.gram
    rows, columns = gram.mean(axis=1, keepdims=True), gram.mean(axis=2, keepdims=True)
    return InnerProducts(products.groups, gram - rows - columns + gram.mean(axis=(1, 2), keepdims=True))


def angle_degrees(cosine: float) -> float:
    """The angle of a cosine, in degrees, 0 to 180.

    Example:
        >>> round(angle_degrees(0.0), 6)
        90.0
    """
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def near_duplicates(found: Geometry) -> tuple[tuple[str, str], ...]:
    """Pairs that are far nearer to each other than to the start.

    Example:
        >>> products = InnerProducts((("w",),), np.array([[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]))
        >>> near_duplicates(geometry(["a", "b", "c"], products))
        (('a', 'b'),)
    """
    pairs = [(i, j) for i in range(len(found.names)) for j in range(i + 1, len(found.names))]
    return tuple(
        (found.names[i], found.names[j])
        for i, j in pairs
        if found.distances[i][j] <= NEARLY_EQUAL * min(found.norms[i], found.norms[j])
    )


def _cosines(gram: Array) -> Array:
    norms = np.sqrt(np.diag(gram))
    # Two roots, not the root of a product, which may leave float64.
    with np.errstate(divide="ignore", invalid="ignore"):
        found = gram / norms[:, None] / norms[None, :]
    cosines: Array = np.clip(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
    return cosines


def _distances(gram: Array) -> Array:
    squares = np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2 * gram
    distances: Array = np.sqrt(np.maximum(squares, 0.0))
    return distances


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(values.tolist())
