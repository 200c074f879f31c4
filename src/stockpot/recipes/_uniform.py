"""Equal shares of everything: the uniform soup, and the ensemble it imitates at 1/k of the cost."""

from __future__ import annotations

from collections.abc import Iterable

from stockpot.recipes._parts import equal_soup
from stockpot.types import Ingredient, Soup

__all__ = ["ensemble", "uniform"]


def uniform(ingredients: Iterable[Ingredient]) -> Soup:
    """The mean of all ingredients' weights (Wortsman et al. 2022, "Model soups", section 2).

    ``theta = (1/k) sum_i theta_i``. Nothing is evaluated.

    Args:
        ingredients: at least one; the order is part of the soup.

    Returns:
        A soup with coefficients 1/k and no steps.

    Raises:
        BlendError: no ingredients.

    Example:
        >>> list(uniform([Ingredient("a", "runs/a"), Ingredient("b", "runs/b")]).coefficients)
        [0.5, 0.5]
    """
    return equal_soup(ingredients, recipe="uniform")


def ensemble(ingredients: Iterable[Ingredient]) -> Soup:
    """The mean of all ingredients' logits: k forward passes, the baseline a soup wants to reach with one.

    ``f(x) = (1/k) sum_i f(x; theta_i)`` (Wortsman et al. 2022, "Model soups", table 2). Nothing is evaluated.

    Args:
        ingredients: at least one.

    Returns:
        A soup with coefficients 1/k that combines logits.

    Raises:
        BlendError: no ingredients.

    Example:
        >>> ensemble([Ingredient("a", "runs/a"), Ingredient("b", "runs/b")]).combine
        'logits'
    """
    return equal_soup(ingredients, recipe="ensemble", combine="logits")
