"""Calibration of rows, the soups that a greedy search has scored, and the optimism of a choice."""

from __future__ import annotations

import numpy as np
import pytest

from stockpot.experiment.calibrating import calibration_cells, mean_temperature, optimism_of, tried_soups
from stockpot.metrics import METRICS, fit_temperature
from stockpot.recipes import greedy, single
from stockpot.types import Ingredient, Predictions

RUNS = [Ingredient(name, f"runs/{name}") for name in "abcd"]
GROUPS = {"held_out": ("held_out",), "test": ("test",), "shift_mean": ("shift:x", "shift:y")}


def predict(soup, split: str) -> Predictions:
    """Overconfident by a factor that depends on the soup; another draw for each split."""
    generator = np.random.default_rng([ord(soup.ingredients[0].name), len(split)])
    labels = generator.integers(0, 3, 120)
    logits = generator.normal(size=(120, 3)) + 1.5 * np.eye(3)[labels]
    return Predictions((2 + ord(soup.ingredients[0].name) % 3) * logits.astype(np.float32), labels)


ITEMS = {split: tuple(f"{split}:{n}" for n in range(120)) for group in GROUPS.values() for split in group}


def test_cells_are_the_metrics_of_the_scaled_logits() -> None:
    soup = single(RUNS[0])
    cells = calibration_cells([soup], predict, GROUPS, ITEMS)
    held_out, test = predict(soup, "held_out"), predict(soup, "test")
    temperature = fit_temperature(held_out.logits, held_out.labels)
    assert temperature > 1.5
    for name in ("ece", "nll", "brier"):
        assert cells[name]["test"].value == METRICS[name](test.logits, test.labels).value
        scaled = METRICS[name](test.logits / temperature, test.labels).value
        assert cells[f"{name}_scaled"]["test"].value == pytest.approx(scaled, abs=1e-6)
        assert cells[name]["shift_mean"].n == 240
    assert cells["nll_scaled"]["test"].value < cells["nll"]["test"].value
    assert mean_temperature([soup], predict) == pytest.approx(temperature)


def test_several_soups_share_a_row_as_their_mean() -> None:
    alone = [calibration_cells([single(run)], predict, GROUPS, ITEMS) for run in RUNS[:2]]
    both = calibration_cells([single(run) for run in RUNS[:2]], predict, GROUPS, ITEMS)
    for name, by_column in both.items():
        for column, cell in by_column.items():
            assert cell.value == pytest.approx(np.mean([one[name][column].value for one in alone]))
            assert cell.n == alone[0][name][column].n


def test_a_greedy_log_tells_every_soup_that_was_scored() -> None:
    asked = []

    def evaluate(soup) -> float:
        asked.append("".join(ingredient.name for ingredient in soup.ingredients))
        return float(np.random.default_rng([len(asked)]).random())

    for order in ("score", "given"):
        asked.clear()
        soup = greedy(RUNS, evaluate, order=order)
        names = ["".join(i.name for i in tried.ingredients) for tried in tried_soups(soup)]
        assert names[1:] == asked[-3:]
        assert names[0] == soup.ingredients[0].name


def test_optimism_counts_in_the_direction_of_the_metric() -> None:
    values = {run: np.random.default_rng([n]).random(200) for n, run in enumerate(RUNS)}
    soups = [single(run) for run in RUNS]
    gain = optimism_of("best", soups, lambda soup: values[soup.ingredients[0]], higher_is_better=True)
    loss = optimism_of("best", soups, lambda soup: -values[soup.ingredients[0]], higher_is_better=False)
    assert gain == loss
    assert gain.value > 0
    assert gain.n_candidates == 4
