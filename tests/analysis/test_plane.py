"""The plane: its basis, its grid, and the truth of a quadratic loss on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.analysis.line import barrier
from stockpot.analysis.plane import coarse_to_fine, grid_of, plane_basis
from stockpot.errors import DataError

often = settings(deadline=None, derandomize=True, max_examples=50)


@often
@given(st.integers(0, 10_000))
def test_coefficients_lead_to_the_point_and_back(seed: int) -> None:
    generator = np.random.default_rng(seed)
    start, d1, d2 = generator.normal(size=(3, 12))
    directions = np.stack([d1, d2])
    basis = plane_basis(directions @ directions.T)
    e1 = d1 / np.linalg.norm(d1)
    e2 = d2 - (d2 @ e1) * e1
    e2 /= np.linalg.norm(e2)
    x, y = generator.normal(size=2)
    shares = np.array(basis.coefficients(x, y))
    point = shares @ np.stack([start, start + d1, start + d2])
    assert shares.sum() == pytest.approx(1.0)
    assert point == pytest.approx(start + x * e1 + y * e2)
    assert basis.position((point - start) @ d1, (point - start) @ d2) == pytest.approx((x, y))
    # What is not in the plane falls onto it at a right angle.
    outside = generator.normal(size=12)
    assert basis.position(outside @ d1, outside @ d2) == pytest.approx((outside @ e1, outside @ e2))


def test_three_models_on_a_line_span_no_plane() -> None:
    for gram in (np.array([[1.0, 2.0], [2.0, 4.0]]), np.zeros((2, 2)), np.array([[0.0, 0.0], [0.0, 1.0]])):
        with pytest.raises(DataError, match="on one line"):
            plane_basis(gram)


def test_the_grid_holds_the_three_with_room() -> None:
    basis = plane_basis(np.array([[4.0, -2.0], [-2.0, 10.0]]))
    xs, ys = grid_of(basis, 5, margin=0.5)
    assert (xs[0], xs[-1]) == (-2.5, 3.5)
    assert (ys[0], ys[-1]) == (-1.5, 4.5)
    with pytest.raises(DataError):
        grid_of(basis, 1)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 9, 16, 17])
def test_every_point_once_the_corners_first(n: int) -> None:
    order = list(coarse_to_fine(n))
    assert sorted(order) == sorted((c, r) for c in range(n) for r in range(n))
    assert set(order[:4]) == {(0, 0), (n - 1, 0), (0, n - 1), (n - 1, n - 1)}


def test_a_quadratic_loss_has_its_minimum_and_its_contours_where_they_are() -> None:
    """Loss |theta - target|^2 with the target in the plane: a circle around its place, nothing else."""
    generator = np.random.default_rng(3)
    start, d1, d2 = generator.normal(size=(3, 20))
    directions = np.stack([d1, d2])
    basis = plane_basis(directions @ directions.T)
    models = np.stack([start, start + d1, start + d2])
    target = start + 0.4 * d1 + 0.5 * d2
    at = np.array(basis.position((target - start) @ d1, (target - start) @ d2))
    xs, ys = grid_of(basis, 41)
    losses = {
        (x, y): float(np.sum((np.array(basis.coefficients(x, y)) @ models - target) ** 2)) for x in xs for y in ys
    }
    for (x, y), loss in losses.items():
        assert loss == pytest.approx((x - at[0]) ** 2 + (y - at[1]) ** 2)
    nearest = min(losses, key=losses.__getitem__)
    spacing = np.array([xs[1] - xs[0], ys[1] - ys[0]])
    assert (np.abs(np.array(nearest) - at) <= spacing).all()


def test_the_barrier_of_two_valleys_is_its_hill() -> None:
    alphas = [i / 10 for i in range(11)]
    hill = [(1 - (2 * a - 1) ** 2) * 0.7 + 0.1 + 0.2 * a for a in alphas]
    assert barrier(alphas, hill) == pytest.approx(0.7)
    assert barrier(alphas, [(a - 0.3) ** 2 for a in alphas]) == 0.0
    with pytest.raises(DataError):
        barrier([0.0, 0.5], [1.0, 1.0])
