"""Angles, lengths and distances against float64 references; around the start and around the mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.analysis.geometry import angle_degrees, centred, geometry, near_duplicates, whole_gram
from stockpot.errors import DataError
from stockpot.types import InnerProducts

often = settings(deadline=None, derandomize=True, max_examples=40)


def products(directions: list[np.ndarray]) -> InnerProducts:
    """Of directions by group, [groups][k, n]."""
    return InnerProducts(tuple((f"g{i}",) for i in range(len(directions))), np.array([d @ d.T for d in directions]))


@often
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_they_are_those_of_the_vectors(k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [generator.normal(size=(k, n)) * 10.0 ** generator.integers(-3, 3) for n in (3, 8)]
    whole = np.concatenate(parts, axis=1)
    found = geometry([str(i) for i in range(k)], products(parts))
    assert found.norms == pytest.approx(np.linalg.norm(whole, axis=1))
    for i in range(k):
        for j in range(k):
            cosine = whole[i] @ whole[j] / np.linalg.norm(whole[i]) / np.linalg.norm(whole[j])
            assert found.cosines[i][j] == pytest.approx(cosine, abs=1e-9)
            if i != j:
                assert found.distances[i][j] == pytest.approx(np.linalg.norm(whole[i] - whole[j]), rel=1e-6)
    assert found.group_norms[1] == pytest.approx(np.linalg.norm(parts[1], axis=1))


@often
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_around_the_mean_wherever_they_were_measured_from(k: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(k, 9))
    around = points - points.mean(axis=0)
    for origin in (points[0], np.zeros(9)):
        found = centred(products([points - origin])).gram[0]
        assert found == pytest.approx(around @ around.T, abs=1e-9)


def test_what_has_not_moved_has_no_angle() -> None:
    found = geometry(["a", "b"], InnerProducts((("w",),), np.array([[[0.0, 0.0], [0.0, 4.0]]])))
    assert found.cosines == ((0.0, 0.0), (0.0, 1.0))
    assert found.distances[0][1] == 2.0


def test_angles() -> None:
    assert angle_degrees(1.0 + 1e-15) == 0.0
    assert angle_degrees(0.5) == pytest.approx(60.0)
    assert angle_degrees(-1.0) == 180.0


def test_near_duplicates_are_found_and_neighbours_are_not() -> None:
    start = np.random.default_rng(0).normal(size=50)
    twin, neighbour = start * (1 + 1e-4), start + 0.3 * np.random.default_rng(1).normal(size=50)
    found = geometry(["a", "twin", "neighbour"], products([np.stack([start, twin, neighbour])]))
    assert near_duplicates(found) == (("a", "twin"),)


def test_names_must_fit() -> None:
    with pytest.raises(DataError, match="1 names for 2"):
        geometry(["a"], products([np.eye(2)]))


def test_the_whole_is_the_sum_of_its_tensors() -> None:
    parts = [np.eye(2), 2 * np.eye(2)]
    assert whole_gram(products(parts)).tolist() == [[5.0, 0.0], [0.0, 5.0]]
