"""Lengths alone: who went too far, who stayed; the real networks are in tests/experiment/test_diagnosing.py."""

from __future__ import annotations

import numpy as np
import pytest

from stockpot.analysis.diagnosis import movement_findings, origins, start_findings, weight_angles
from stockpot.records import Geometry


def around(*norms: float, is_centred: bool = False) -> Geometry:
    """Runs on axes of their own."""
    names = tuple("abcdef"[: len(norms)])
    distances = tuple(
        tuple(0.0 if i == j else float(np.hypot(x, y)) for j, y in enumerate(norms)) for i, x in enumerate(norms)
    )
    return Geometry(names, norms, (), distances, is_centred=is_centred)


def told(geometry: Geometry, **more: object) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.ingredients for finding in movement_findings(geometry, **more)}


@pytest.mark.parametrize(
    ("norms", "start", "expected"),
    [
        ((1.0, 9.0), 10.0, {"diverged": ("b",)}),
        ((0.005, 1.0), 10.0, {"barely_moved": ("a",)}),
        ((0.1, 1.0), 10.0, {"uneven": ("a", "b")}),
        ((0.0, 1.0), 0.0, {"uneven": ("a", "b")}),
        ((1.0, 7.9), 1.0, {}),
        ((0.0, 0.0), 1.0, {}),
    ],
)
def test_of_two_runs_the_start_is_the_measure(norms: tuple[float, ...], start: float, expected: dict) -> None:
    assert told(around(*norms), start_length=start) == expected


def test_of_many_runs_the_median_is_the_measure() -> None:
    assert told(around(1.0, 1.1, 0.9, 30.0, 0.01)) == {"diverged": ("d",), "barely_moved": ("e",)}
    assert told(around(1.0, 1.1, 0.9, 30.0, 0.01), ignored=("d", "e")) == {}


def test_without_a_start_only_the_far_one_can_be_told() -> None:
    assert told(around(1.0, 1.1, 0.9, 30.0, 0.01, is_centred=True)) == {"diverged": ("d",)}
    assert told(around(1.0, 30.0, is_centred=True)) == {}


def test_cosines_of_whole_models_equal_those_of_the_vectors() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 50)) + 3
    steps = vectors[1:] - vectors[0]
    found = weight_angles((vectors**2).sum(axis=1), steps @ steps.T, has_start=True)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(found.cosines, vectors @ vectors.T / np.outer(lengths, lengths), atol=1e-12)


def test_a_stranger_among_two_names_both_without_a_start() -> None:
    angles = weight_angles(np.array([1.0, 1.0]), np.array([[2.0]]), has_start=False)
    found = origins(["a", "b"], angles)
    assert (found.kept, found.others) == ((), (("a",), ("b",)))
    assert start_findings(found)[0].ingredients == ("a", "b")


def models(*vectors: object, has_start: bool = False) -> object:
    rows = np.array(vectors, dtype=float)
    steps = rows[1:] - rows[0]
    return weight_angles((rows**2).sum(axis=1), steps @ steps.T, has_start=has_start)


def test_who_holds_the_start_went_far_and_who_does_not_is_a_stranger() -> None:
    start, near, far, stranger = (10, 0, 0, 0), (10, 1, 0, 0), (10, 0, 30, 0), (0, 0, 1, 10)
    found = origins(["near", "far", "stranger"], models(start, near, far, stranger, has_start=True))
    assert (found.kept, found.others, list(found.far)) == (("near",), (("stranger",),), ["far"])
    again = origins(["start", "near", "far", "stranger"], models(start, near, far, stranger))
    assert (again.kept, again.others, list(again.far)) == (("start", "near"), (("stranger",),), ["far"])


def test_neurons_in_another_order_are_no_long_way() -> None:
    start = (10, 0, 0, 0, 0)
    runs = [(10, 6, 0, 0, 0), (10, 0, 6, 0, 0), (10, 0, 0, 6, 0), (9, 0, 0, 0, 9)]
    found = origins(list("abcd"), models(start, *runs, has_start=True))
    assert (found.strangers, dict(found.far)) == (("d",), {})


def test_cousins_of_equal_length_have_not_gone_far_from_each_other() -> None:
    found = origins(["a", "b"], models((10, 0), (7.8, 6.26)))
    assert found.others == (("a",), ("b",))
    assert not found.far
