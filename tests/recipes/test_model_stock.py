"""Model Stock: its share against the geometry it comes from, and its conventions."""

from __future__ import annotations

import numpy as np
import pytest

from stockpot.errors import BlendError
from stockpot.recipes import model_stock
from stockpot.types import Ingredient, InnerProducts

START = Ingredient("start", "base")


def runs(k: int) -> list[Ingredient]:
    return [Ingredient(name, f"runs/{name}") for name in "abcdef"[:k]]


def stock(gram, k: int = 2):
    products = InnerProducts((("w",),), np.array([gram], dtype=float))
    *shares, start = model_stock(runs(k), initialisation=START, inner_products=products).coefficients.row_of("w")
    return [start, *shares]


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_share_is_the_foot_of_the_perpendicular_from_the_centre(k: int) -> None:
    """Fine-tunes around a centre, orthogonal to each other and to the way there: the point nearest to it."""
    generator = np.random.default_rng(k)
    basis = np.linalg.qr(generator.normal(size=(40, k + 1)))[0].T
    centre, radius = 3.0 * basis[0], 1.7
    deltas = centre + radius * basis[1:]
    mean = deltas.mean(axis=0)
    nearest = float(mean @ centre / (mean @ mean))
    row = stock((deltas @ deltas.T).tolist(), k)
    assert row[0] == pytest.approx(1 - nearest)
    assert row[1:] == pytest.approx([nearest / k] * k)


def test_two_fine_tunes_have_the_published_formula() -> None:
    for cosine in (0.1, 0.5, 0.9):
        share = 2 * cosine / (1 + cosine)
        assert stock([[1, cosine], [cosine, 1]]) == pytest.approx([1 - share, share / 2, share / 2])


def test_lengths_do_not_matter_only_angles() -> None:
    assert stock([[4.0, 1.0], [1.0, 1.0]]) == pytest.approx(stock([[1.0, 0.5], [0.5, 1.0]]))
    tiny, large = 1e-200, 1e200
    assert stock([[tiny, tiny / 2], [tiny / 2, tiny]]) == pytest.approx(stock([[large, large / 2], [large / 2, large]]))


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        ([[1, -0.5], [-0.5, 1]], [1, 0, 0]),  # apart: stay at the start
        ([[1, 0], [0, 1]], [1, 0, 0]),
        ([[1, 1], [1, 1]], [0, 0.5, 0.5]),  # the same: go all the way
        ([[0, 0], [0, 0]], [1, 0, 0]),  # nobody moved: the common value
        ([[1, 0], [0, 0]], [1, 0, 0]),
    ],
)
def test_conventions_at_the_ends(gram, expected) -> None:
    assert stock(gram) == pytest.approx(expected)


def test_one_ingredient_is_taken_whole() -> None:
    assert stock([[2.0]], 1) == [0.0, 1.0]


def test_each_group_has_its_own_share_and_the_soup_its_names() -> None:
    products = InnerProducts((("a",), ("b", "c")), np.array([[[1, 0.5], [0.5, 1]], [[1, 0.9], [0.9, 1]]]))
    soup = model_stock(runs(2), initialisation=START, inner_products=products)
    assert soup.recipe == "model_stock"
    assert [ingredient.name for ingredient in soup.ingredients] == ["a", "b", "start"]
    assert soup.coefficients.row_of("b") == soup.coefficients.row_of("c") != soup.coefficients.row_of("a")
    assert all(sum(row) == pytest.approx(1.0) for row in soup.coefficients.rows)


def test_products_of_other_ingredients_are_refused() -> None:
    with pytest.raises(BlendError, match="2 by 2"):
        stock([[1.0]], 2)
    with pytest.raises(BlendError, match="not all finite"):
        stock([[float("nan"), 0], [0, 1]])
