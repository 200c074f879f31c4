"""Regression: a column of numbers, a model with one output, and every method all the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stockpot.assembly import with_digests
from stockpot.checkpoints import ingredients
from stockpot.errors import ConfigError, DataError
from stockpot.experiment import run
from stockpot.recipes import greedy, single
from stockpot.tasks import load_task
from stockpot.tasks.gradients import GradientOptions
from tiny_models import tiny_classifier, tiny_experiment, tiny_fine_tunes, tiny_task

pytest.importorskip("sklearn")


def as_numbers(folder: Path, *, suffix: str = "") -> None:
    """The labels of a tiny task's data become numbers with a fraction: how long the text is, in tens."""
    for path in folder.rglob("*.tsv"):
        header, *rows = path.read_text().splitlines()
        at, text = header.split("\t").index("label"), header.split("\t").index("text")
        cells = [row.split("\t") for row in rows]
        for row in cells:
            row[at] = f"{len(row[text]) / 10}{suffix}"
        path.write_text("\n".join([header, *("\t".join(row) for row in cells)]) + "\n")


def with_metric(path: Path, metric: str, **changes: object) -> Path:
    """The tiny task or experiment, its task with another metric."""
    task_file = path.parent / "task.yaml"
    task_file.write_text(json.dumps(json.loads(task_file.read_text()) | {"metric": metric} | changes))
    return path


@pytest.fixture
def task(tmp_path: Path):
    tiny_fine_tunes(tmp_path / "models", tiny_classifier(tmp_path / "models" / "base", labels=["value"]), 3)
    path = with_metric(tiny_task(tmp_path), "mse")
    as_numbers(tmp_path)
    return load_task(path, tmp_path / "models" / "run-0")


@pytest.fixture
def runs(task, tmp_path):
    return with_digests(ingredients(tmp_path / "models" / "run-*"))


def test_predictions_are_numbers(task, runs) -> None:
    found = task.predict(single(runs[0]), "test")
    assert found.logits.shape == (len(found.labels), 1)
    assert found.labels.dtype == np.float64
    assert len(set(found.labels.tolist())) > 5
    expected = float(np.mean((found.logits[:, 0].astype(np.float64) - found.labels) ** 2))
    score = task.score(found)
    assert (score.value, score.higher_is_better) == (pytest.approx(expected), False)


def test_greedy_lowers_the_error(task, runs) -> None:
    scores = [task.evaluate(single(ingredient)).value for ingredient in runs]
    soup = greedy(runs, task.evaluate)
    assert soup.ingredients[0] == runs[int(np.argmin(scores))]
    assert task.evaluate(soup).value <= min(scores)


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_gradient_of_the_squared_error_is_the_slope(task, runs, granularity) -> None:
    options = GradientOptions(granularity, batch_size=1000)
    with task.gradient(runs, options) as gradient:
        shape = (1 if gradient.groups is None else len(gradient.groups), len(runs))
        at = np.full(shape, 1 / len(runs))
        found = gradient(at, 1.0, 0)
        direction = np.random.default_rng(0).standard_normal(shape)
        step = 1e-2
        ahead, behind = (gradient(at + sign * step * direction, 1.0, 0).loss for sign in (1, -1))
    assert found.loss > 0
    assert float((found.gradient * direction).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=2e-2)


@pytest.mark.parametrize("metric", ["mse", "r2", "spearman"])
def test_a_whole_experiment(in_process, tmp_path: Path, metric: str) -> None:
    path = with_metric(tiny_experiment(tmp_path, head="linear-probe"), metric)
    as_numbers(tmp_path)
    results = run(path, out=tmp_path / "out", n_workers=1)
    assert results.metric == metric
    assert results.higher_is_better is (metric != "mse")
    assert {"best", "uniform", "greedy", "ensemble"} <= {row.method for row in results.rows}
    assert json.loads((tmp_path / "out/greedy/config.json").read_text())["architectures"]


def test_numbers_are_no_classes(tmp_path: Path) -> None:
    base = tiny_classifier(tmp_path / "base", labels=["LABEL_0"])
    path = with_metric(tiny_task(tmp_path), "accuracy")
    as_numbers(tmp_path)
    with pytest.raises(DataError, match=r"the labels are numbers, such as .* not classes") as caught:
        load_task(path, base)
    assert "metric: mse" in (caught.value.fix or "")


def test_what_is_no_number_is_named(tmp_path: Path) -> None:
    base = tiny_classifier(tmp_path / "base", labels=["LABEL_0"])
    path = with_metric(tiny_task(tmp_path), "mse")
    as_numbers(tmp_path, suffix=" stars")
    with pytest.raises(DataError, match="values cannot be used") as caught:
        load_task(path, base)
    assert "which is no finite number" in caught.value.problems[0]


def test_a_classifier_predicts_no_number(tmp_path: Path) -> None:
    base = tiny_classifier(tmp_path / "base", labels=["bad", "good"])
    path = with_metric(tiny_task(tmp_path), "mse")
    as_numbers(tmp_path)
    with pytest.raises(DataError, match=r"metric is one of numbers, but the model in .* has 2 outputs"):
        load_task(path, base)


def test_labels_of_a_regression_are_refused(tmp_path: Path) -> None:
    path = with_metric(tiny_task(tmp_path), "mse", labels=["a", "b"])
    with pytest.raises(ConfigError, match="labels"):
        load_task(path, tmp_path)


def test_predictions_keep_to_the_soup(task, runs) -> None:
    """Beta scales the prediction, and folded into the head it is the same."""
    soup = replace(single(runs[0]), logit_scale=0.5)
    half = task.predict(soup, "test").logits
    assert np.array_equal(half, task.predict(single(runs[0]), "test").logits * np.float32(0.5))
    assert np.allclose(task.predict(task.folded(soup), "test").logits, half, rtol=1e-6)
