"""Model Stock: how far to go from the initialisation to the mean, tensor by tensor, from angles alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

from stockpot.errors import BlendError
from stockpot.recipes._parts import listed
from stockpot.types import Coefficients, Ingredient, InnerProducts, Soup

__all__ = ["model_stock"]

Gram = Sequence[Sequence[float]]


def model_stock(
    ingredients: Iterable[Ingredient], *, initialisation: Ingredient, inner_products: InnerProducts
) -> Soup:
    """Between the initialisation and the mean, by the angle between the fine-tunes (Jang et al. 2024, "Model Stock").

    For each group of tensors, with ``delta_i = theta_i - theta_0``::

        theta = (1 - t) theta_0 + t mean_i(theta_i),      t = k cos / (1 + (k - 1) cos),
        cos = mean over pairs i < j of  <delta_i, delta_j> / (|delta_i| |delta_j|)

    t makes theta the point of that line nearest to the centre that the fine-tunes scatter around, if they scatter
    orthogonally to each other and to the way from theta_0 to the centre, all equally far. For two of them
    t = 2 cos / (1 + cos). Nothing is evaluated.

    Conventions: `cos` is the mean of the pairwise *cosines* (some implementations average the angles). A delta of zero
    has no direction: its cosines count as 0. Where `cos` is 0 or less, t is 0; t never exceeds 1. In a group that no
    ingredient has changed t is 0 too: theta is the common value to the bit. One ingredient has no pair: t is 1 (0 where
    it has not moved).

    Args:
        ingredients: k of them, at least one, in the order of `inner_products`.
        initialisation: theta_0, the checkpoint that all were fine-tuned from.
        inner_products: of the deltas, one group per tensor as published; `stockpot.assembly.inner_products` makes them.

    Returns:
        A soup of the initialisation and the ingredients, in this order, with the row ``(1 - t, t/k, ..., t/k)`` for
        each group; no steps.

    Raises:
        BlendError: no ingredients, or inner products of another number of them or that are not finite.

    Example:
        >>> import numpy as np
        >>> runs, start = [Ingredient("a", "runs/a"), Ingredient("b", "runs/b")], Ingredient("start", "base")
        >>> products = InnerProducts((("w",),), np.array([[[2.0, 1.0], [1.0, 2.0]]]))  # cos = 1/2, so t = 2/3
        >>> soup = model_stock(runs, initialisation=start, inner_products=products)
        >>> [round(coefficient, 4) for coefficient in soup.coefficients.row_of("w")]
        [0.3333, 0.3333, 0.3333]
    """
    given = listed(ingredients)
    grams: Sequence[Gram] = inner_products.gram.tolist()
    _check(grams, len(inner_products.groups), len(given))
    rows = tuple(_row(_share_of_mean(gram), len(given)) for gram in grams)
    # The start comes last: what is not blended, configuration and vocabulary too, is the first fine-tune's.
    return Soup((*given, initialisation), Coefficients(rows, inner_products.groups), "model_stock")


def _row(share: float, k: int) -> tuple[float, ...]:
    return (*(share / k,) * k, 1.0 - share)


def _share_of_mean(gram: Gram) -> float:
    """t of one group."""
    k = len(gram)
    if k == 1:
        return 1.0 if gram[0][0] > 0 else 0.0
    cosine = math.fsum(_cosine(gram, i, j) for i, j in combinations(range(k), 2)) / math.comb(k, 2)
    # Below -1/(k - 1) no mean of cosines can fall, so the denominator is positive wherever the cosine is.
    return min(k * cosine / (1 + (k - 1) * cosine), 1.0) if cosine > 0 else 0.0


def _cosine(gram: Gram, i: int, j: int) -> float:
    # Roots first: the product of two squared lengths may underflow or overflow.
    lengths = math.sqrt(gram[i][i]) * math.sqrt(gram[j][j])
    return gram[i][j] / lengths if lengths > 0 else 0.0


def _check(grams: Sequence[Gram], n_groups: int, k: int) -> None:
    fits = len(grams) == n_groups and all(len(gram) == k == len(row) for gram in grams for row in gram)
    if not fits:
        raise BlendError(
            f"the inner products are not one table of {k} by {k} for each of {n_groups} groups",
            fix="make them of the same ingredients: stockpot.assembly.inner_products(ingredients, initialisation)",
        )
    if not all(math.isfinite(value) for gram in grams for row in gram for value in row):
        raise BlendError("the inner products are not all finite", fix="leave out the ingredients that diverged")
