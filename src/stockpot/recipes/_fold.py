"""The logit scale of a learned soup as part of its classifier head."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from stockpot.errors import BlendError
from stockpot.types import Coefficients, Soup

__all__ = ["fold_logit_scale"]


def fold_logit_scale(soup: Soup, head: Collection[str], names: Iterable[str]) -> Soup:
    """The same soup with beta multiplied into the head's coefficients, so that no code is needed to apply it.

    ``beta (W h + b) = (beta W) h + (beta b)``: the rows of the head's tensors are multiplied with `soup.logit_scale`,
    which becomes 1.

    Args:
        soup: combine must be "weights".
        head: names of all tensors that the logits are linear in: the last layer's weight and bias.
        names: of all blended tensors of the ingredients.

    Returns:
        A soup with one row of coefficients per group; the soup itself where beta is 1.

    Raises:
        BlendError: an ensemble, no head, or a head that is not among the names.

    Example:
        >>> from stockpot.types import Ingredient
        >>> learned = Soup((Ingredient("a", "a"),), Coefficients.equal(1), "learned", logit_scale=2.0)
        >>> fold_logit_scale(learned, ["head.weight"], ["body.weight", "head.weight"]).coefficients
        Coefficients(rows=((1.0,), (2.0,)), groups=(('body.weight',), ('head.weight',)))
    """
    if soup.logit_scale == 1.0:
        return soup
    given = tuple(names)
    lost = [name for name in head if name not in given]
    if soup.combine != "weights" or not head or lost:
        raise BlendError(
            f"the logit scale of {soup.recipe!r} cannot be folded into {', '.join(lost or head) or 'no tensor'}",
            fix="name the weight and bias of the last layer, as the checkpoint stores them",
        )
    rows, groups = soup.coefficients.rows, soup.coefficients.groups or (given,)
    split = [
        (row, scale, part)
        for row, group in zip(rows, groups, strict=True)
        for scale, part in (
            (1.0, tuple(name for name in group if name not in head)),
            (soup.logit_scale, tuple(name for name in group if name in head)),
        )
        if part
    ]
    scaled = tuple(tuple(scale * value for value in row) for row, scale, _ in split)
    return replace(soup, coefficients=Coefficients(scaled, tuple(part for _, _, part in split)), logit_scale=1.0)
