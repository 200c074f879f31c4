"""The table, recomputed from the journal's predictions with nothing but numpy and the textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stockpot.assembly import with_digests
from stockpot.config import load_experiment_config
from stockpot.experiment.bench import TaskBench
from stockpot.experiment.table import Choices, choose, tabulate
from stockpot.journal import Journal, soup_key
from stockpot.tasks import load_task
from stockpot.types import Coefficients, Ingredient, Soup

RECIPES = ("uniform", "greedy", "greedy_random", "ensemble", "greedy_ensemble")
SHIFTS = ("shift:typos", "shift:worddrop")
SPLITS = ("held_out", "test", *SHIFTS)


@pytest.fixture(scope="module", params=["accuracy", "nll"])
def cooked(request, finished, experiment, tmp_path_factory):
    """The finished experiment's ingredients, chosen and tabulated by one of the metrics."""
    config = load_experiment_config(experiment)
    task = load_task(
        config.task.model_copy(update={"metric": request.param}), finished / "initialisation", folder=config.task.folder
    )
    made = [Ingredient(f"run-0{n}", str(finished / "ingredients" / f"run-0{n}")) for n in range(3)]
    with Journal(tmp_path_factory.mktemp("journal")) as journal:
        bench = TaskBench(task, journal)
        soups = choose(with_digests(made), bench, Choices(RECIPES, random_orders=3))
        results = tabulate(soups, bench)
        yield request.param, task, journal, soups, results


def kept(journal: Journal, task, soup: Soup, split: str):
    """Logits of a soup from the journal's blobs alone; an ensemble's are the mean of its members'."""
    if soup.combine == "logits":
        members = [Soup((i,), Coefficients.equal(1), "member") for i in soup.ingredients]
        return np.mean([kept(journal, task, member, split).astype(np.float64) for member in members], axis=0)
    found = journal.predictions(soup_key(soup, task.identity(split)))
    assert found is not None
    return found["logits"]


def per_example(metric: str, logits, labels):
    if metric == "accuracy":
        return (logits.argmax(axis=1) == labels).astype(float)
    logits = logits.astype(np.float64)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def values(cooked, soup: Soup, split: str):
    metric, task, journal, *_ = cooked
    return per_example(metric, kept(journal, task, soup, split), task.labels(split))


def clustered(values_by_split, items_by_split):
    """Mean of means and its standard error by item, in plain loops."""
    means = [float(np.mean(split)) for split in values_by_split]
    by_item: dict[str, float] = {}
    for split, mean, items in zip(values_by_split, means, items_by_split, strict=True):
        for value, item in zip(split, items, strict=True):
            by_item[item] = by_item.get(item, 0.0) + (value - mean) / (len(means) * len(split))
    n = len(by_item)
    return sum(means) / len(means), math.sqrt(n / (n - 1) * sum(residual**2 for residual in by_item.values()))


def test_every_cell_of_one_soup_is_the_mean_and_its_standard_error(cooked):
    *_, soups, results = cooked
    for method in ("best", "second_best", "uniform", "greedy", "ensemble", "greedy_ensemble"):
        for split in SPLITS:
            found, cell = values(cooked, soups[method][0], split), results.row(method).scores[split]
            assert cell.value == pytest.approx(found.mean(), abs=1e-7), (method, split)
            assert cell.n == len(found)
            binomial = cooked[0] == "accuracy"
            sd = math.sqrt(found.mean() * (1 - found.mean())) if binomial else found.std(ddof=1)
            assert cell.stderr == pytest.approx(sd / math.sqrt(len(found)), abs=1e-7)


def test_mean_of_shifts_is_clustered_by_item(cooked):
    _, task, _, soups, results = cooked
    items = [task.item_ids(split) for split in SHIFTS]
    assert set(items[0]) == set(items[1])  # so that the clusters matter
    for method in ("best", "greedy", "ensemble"):
        mean, stderr = clustered([values(cooked, soups[method][0], split) for split in SHIFTS], items)
        cell = results.row(method).scores["shift_mean"]
        assert cell.value == pytest.approx(mean, abs=1e-7)
        assert cell.stderr == pytest.approx(stderr, abs=1e-7)


def test_mean_individual_is_the_mean_over_individuals_with_the_error_over_examples(cooked):
    *_, soups, results = cooked
    for split in SPLITS:
        found = np.mean([values(cooked, soup, split) for soup in soups["mean_individual"]], axis=0)
        cell = results.row("mean_individual").scores[split]
        assert len(soups["mean_individual"]) == 3
        assert cell.value == pytest.approx(found.mean(), abs=1e-7)
        assert cell.stderr == pytest.approx(found.std(ddof=1) / math.sqrt(len(found)), abs=1e-7)


def test_random_orders_have_mean_and_standard_deviation(cooked):
    *_, soups, results = cooked
    for split in SPLITS:
        means = [values(cooked, soup, split).mean() for soup in soups["greedy_random"]]
        cell = results.row("greedy_random").scores[split]
        assert cell.value == pytest.approx(np.mean(means), abs=1e-7)
        assert cell.sd == pytest.approx(np.std(means, ddof=1), abs=1e-7)
        assert cell.n_orders == len(means) == 3


def test_comparisons_are_paired(cooked):
    metric, task, _, soups, results = cooked
    pairs = {(c.method, c.against) for c in results.comparisons}
    ranked = ["best", "greedy", "second_best", "uniform", "ensemble", "greedy_ensemble"]
    assert pairs == {(method, against) for n, against in enumerate(ranked) for method in ranked[n + 1 :]}
    for c in results.comparisons:
        splits = SHIFTS if c.split == "shift_mean" else (c.split,)
        a, b = ([values(cooked, soups[method][0], split) for split in splits] for method in (c.method, c.against))
        mean, stderr = clustered([x - y for x, y in zip(a, b, strict=True)], [task.item_ids(s) for s in splits])
        assert c.difference == pytest.approx(mean, abs=1e-7)
        assert c.stderr == pytest.approx(stderr, abs=1e-7)
        assert c.n == sum(map(len, a))
        if metric == "accuracy" and len(splits) == 1:
            assert c.p == pytest.approx(mcnemar(a[0], b[0]))
    assert {c.split for c in results.comparisons} == {"test", *SHIFTS, "shift_mean"}


def mcnemar(a, b) -> float:
    """Twice the smaller binomial tail of the examples on which the two differ."""
    wins, losses = int((a > b).sum()), int((a < b).sum())
    n = wins + losses
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n)


def test_the_metrics_direction_decides(cooked):
    metric, _, _, soups, results = cooked
    held_out = [values(cooked, soup, "held_out").mean() for soup in soups["mean_individual"]]
    utilities = held_out if metric == "accuracy" else [-value for value in held_out]
    order = sorted(range(3), key=lambda n: -utilities[n])
    assert soups["best"][0].ingredients[0].name == f"run-0{order[0]}"
    assert soups["second_best"][0].ingredients[0].name == f"run-0{order[1]}"
    best, greedy = (results.row(method).scores["held_out"].value for method in ("best", "greedy"))
    assert greedy >= best if metric == "accuracy" else greedy <= best
    assert results.higher_is_better is (metric == "accuracy")


def test_greedy_is_the_textbooks(cooked):
    metric, *_, soups, _ = cooked
    sign = 1 if metric == "accuracy" else -1
    by_score = sorted(soups["mean_individual"], key=lambda soup: -sign * values(cooked, soup, "held_out").mean())
    kept_names = [by_score[0].ingredients[0].name]
    incumbent, score = by_score[0], sign * values(cooked, by_score[0], "held_out").mean()
    for soup in by_score[1:]:
        members = (*incumbent.ingredients, *soup.ingredients)
        candidate = Soup(members, Coefficients.equal(len(members)), "textbook")
        found = sign * values(cooked, candidate, "held_out").mean()
        if found >= score:
            incumbent, score = candidate, found
            kept_names.append(soup.ingredients[0].name)
    assert [i.name for i in soups["greedy"][0].ingredients] == kept_names
