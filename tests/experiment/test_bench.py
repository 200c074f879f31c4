"""Metrics that are no means over examples, from predictions to cells and comparisons, without a network."""

from __future__ import annotations

import numpy as np
import pytest

from stockpot.experiment.bench import TaskBench
from stockpot.journal import Journal
from stockpot.metrics import METRICS, compare_paired, score_over_splits
from stockpot.recipes import ensemble, single
from stockpot.types import Ingredient, Predictions

SHIFTS = ("shift:a", "shift:b")


class GivenLogits:
    """A task of two classes whose logits are drawn by ingredient and split; shifts share the test's items."""

    splits = ("held_out", "test", *SHIFTS)

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._labels = np.random.default_rng(0).integers(0, 2, 40)

    def item_ids(self, split: str) -> tuple[str, ...]:
        return tuple(str(number) for number in range(30 if split == "shift:b" else 40))

    def predict(self, soup, split, *, against=None):
        (ingredient,) = soup.ingredients
        generator = np.random.default_rng([int(ingredient.name), self.splits.index(split)])
        labels = self._labels[: len(self.item_ids(split))]
        logits = generator.normal(size=(len(labels), 2)) + np.eye(2)[labels]
        return Predictions(logits.astype(np.float32), labels)

    def score(self, predictions):
        return METRICS[self.metric](predictions.logits, predictions.labels)

    def evaluate(self, soup, *, against=None):
        return self.score(self.predict(soup, "held_out"))

    def identity(self, split: str) -> str:
        return f"given {split}"


@pytest.fixture(params=["f1", "ece"])
def bench(request, tmp_path):
    with Journal(tmp_path) as journal:
        yield TaskBench(GivenLogits(request.param), journal)


def runs():
    return [Ingredient(str(number), f"runs/{number}", digest=f"{number}f") for number in range(3)]


def test_direction_is_the_metrics(bench) -> None:
    assert bench.higher_is_better is (bench.metric == "f1")


def test_cells_of_one_soup(bench) -> None:
    soup = single(runs()[0])
    cells = bench.cells([soup])
    for split in bench.task.splits:
        score = bench.task.score(bench.task.predict(soup, split))
        assert (cells[split].value, cells[split].stderr, cells[split].n) == (
            score.value,
            score.stderr,
            score.n_examples,
        )
    items = [bench.task.item_ids(split) for split in SHIFTS]
    mean = score_over_splits(bench.metric, [bench.task.predict(soup, split) for split in SHIFTS], items)
    assert (cells["shift_mean"].value, cells["shift_mean"].stderr, cells["shift_mean"].n) == (
        mean.value,
        mean.stderr,
        70,
    )


def test_cells_of_several_soups_are_their_mean(bench) -> None:
    soups = [single(ingredient) for ingredient in runs()]
    cells = bench.cells(soups)
    alone = [bench.cells([soup]) for soup in soups]
    for split in (*bench.task.splits, "shift_mean"):
        assert cells[split].value == pytest.approx(np.mean([one[split].value for one in alone]))
        assert 0 < cells[split].stderr < max(one[split].stderr for one in alone)
        assert cells[split].n == alone[0][split].n


def test_comparisons_are_paired(bench) -> None:
    ours, theirs = ensemble(runs()), single(runs()[1])
    found = {c.split: c for c in bench.comparisons("ensemble", ours, "best", theirs)}
    assert list(found) == ["test", *SHIFTS, "shift_mean"]
    for name, c in found.items():
        splits = SHIFTS if name == "shift_mean" else (name,)
        a, b = ([bench.predictions(soup, split) for split in splits] for soup in (ours, theirs))
        expected = compare_paired(bench.metric, a, b, [bench.task.item_ids(split) for split in splits])
        assert (c.difference, c.stderr, c.n, c.p) == (
            expected.difference, expected.stderr, expected.n_examples, expected.p
        )  # fmt: skip
        assert (c.method, c.against) == ("ensemble", "best")
