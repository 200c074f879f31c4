"""What every family of tasks must do: enter a new one in `family_cases.CASES`, and all of this holds for it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from family_cases import CASES, Case
from stockpot import ingredients, write
from stockpot.assembly import opened
from stockpot.errors import BlendError, StockpotError
from stockpot.metrics import METRICS
from stockpot.recipes import ensemble, greedy, single, uniform
from stockpot.tasks import FAMILIES, load_task
from stockpot.tasks.gradients import GradientOptions, held_out_parts
from stockpot.types import Coefficients, Ingredient, Predictions, Soup

DTYPES = ("float32", "bfloat16", "float16")


class Made:
    """Two runs of a case in one dtype, a task over small data, and their uniform soup as written."""

    def __init__(self, case: Case, folder: Path, dtype: str) -> None:
        self.case, self.folder = case, folder
        self.runs = tuple(Ingredient(run.name, str(run)) for run in case.make_runs(folder, dtype))
        self.path = case.write_task(folder)

    def task(self, model: Ingredient | None = None):
        """A task that nobody has used."""
        return load_task(self.path, (model or self.runs[0]) if self.case.names_a_model else None)

    def own(self, source: Path | str, split: str = "held_out") -> np.ndarray:
        """Logits by the family's own loader."""
        return self.case.own_logits(Path(source), self.task(), split)

    def assert_equal(self, found: np.ndarray, expected: np.ndarray) -> None:
        np.testing.assert_allclose(found, expected, rtol=self.case.tolerance, atol=self.case.tolerance)

    @cached_property
    def soup(self) -> Ingredient:
        write(uniform(self.runs), self.folder / "soup")
        (found,) = ingredients(self.folder / "soup")
        return found

    def mixed(self, weights: np.ndarray, groups, name: str) -> Path:
        """sum_i weights[group, i] theta_i in float64, by hand, as a folder for the family's own loader."""
        from safetensors.torch import load_file, save_file

        files = [_weights_file(run) for run in self.runs]
        first, second = (load_file(file) for file in files)
        row_of = {tensor: row for row, names in enumerate(groups) for tensor in names}
        made = {
            n: weights[row_of[n], 0] * tensor.double() + weights[row_of[n], 1] * second[n].double()
            if tensor.is_floating_point()
            else tensor
            for n, tensor in first.items()
        }
        target = self.folder / name
        if files[0].parent == self.folder:
            target.mkdir()
        else:
            shutil.copytree(files[0].parent, target)
            (target / files[0].name).unlink()
        save_file(made, target / "model.safetensors", metadata={"format": "pt"})
        return target


def _weights_file(run: Ingredient) -> Path:
    source = Path(run.source)
    return source if source.is_file() else next(source.glob("*model.safetensors"))


def _made(name: str, dtype: str, tmp_path_factory) -> Made:
    case = CASES[name]
    if case.library is not None:
        pytest.importorskip(case.library, reason=f"{case.library} does not import here", exc_type=Exception)
    return Made(case, tmp_path_factory.mktemp(f"{name}-{dtype}"), dtype)


@pytest.fixture(scope="module", params=[(name, dtype) for name in CASES for dtype in DTYPES], ids="-".join)
def made(request, tmp_path_factory) -> Made:
    """For the laws of weights: every case in every dtype."""
    return _made(*request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=CASES)
def plain(request, tmp_path_factory) -> Made:
    """For the laws of splits, scores and identities, which no dtype touches."""
    return _made(request.param, "float32", tmp_path_factory)


def test_every_family_has_a_case() -> None:
    assert {case.family for case in CASES.values()} == set(FAMILIES)


# ------------------------------------------------------------------------------------------------------------- weights


def test_predictions_are_those_of_the_familys_own_loader(made: Made) -> None:
    run = made.runs[1]  # not the one that the task has its configuration from
    expected = made.own(run.source)
    made.assert_equal(made.task().predict(single(run), "held_out").logits, expected)
    assert np.ptp(expected, axis=0).max() > 0.01  # examples are told apart


def test_weights_are_swapped_in_place_and_nothing_stays(made: Made) -> None:
    first, second = made.runs
    used = made.task()
    a = used.predict(single(first), "held_out").logits
    module = used._model.module
    places = [tensor.data_ptr() for tensor in module.parameters()]
    b = used.predict(single(second), "held_out").logits
    again = used.predict(single(first), "held_out").logits
    assert used._model.module is module
    assert [tensor.data_ptr() for tensor in module.parameters()] == places
    assert np.array_equal(again, a)
    assert not np.array_equal(a, b)
    assert np.array_equal(made.task().predict(single(second), "held_out").logits, b)


def test_a_written_soup_loads_with_the_familys_own_loader_and_gives_the_same_logits(made: Made) -> None:
    found = made.task().predict(uniform(made.runs), "test").logits
    made.assert_equal(found, made.own(made.soup.source, "test"))
    with opened([made.runs[0], made.soup]) as (run, soup):
        assert dict(soup.specs) == dict(run.specs)  # names, shapes and the ingredients' dtypes


def test_a_written_soup_is_an_ingredient_and_a_model_of_its_own(made: Made) -> None:
    blended = made.task().predict(uniform(made.runs), "held_out").logits
    assert np.array_equal(made.task(made.soup).predict(single(made.soup), "held_out").logits, blended)
    longer = uniform((made.soup, *made.runs))
    write(longer, made.folder / "soup-of-soup")
    (again,) = ingredients(made.folder / "soup-of-soup")
    task = made.task(made.soup)
    found = task.predict(longer, "held_out").logits
    assert np.array_equal(task.predict(single(again), "held_out").logits, found)


def test_learned_soups_get_the_gradient_of_the_loss_or_are_refused(made: Made) -> None:
    """The slope of the loss along a direction, from blends by hand and the family's own loader."""
    task = made.task()
    if made.case.no_gradient is not None:
        for refused in (lambda: task.check_learnable(fold=False), lambda: task.gradient(made.runs)):
            with pytest.raises(StockpotError, match=made.case.no_gradient):
                refused()
        return
    task.check_learnable(fold=False)
    options = GradientOptions("tensor", batch_size=1000, rows_sum_to_one=False)
    draw = np.random.default_rng(0)
    with task.gradient(made.runs, options) as gradient:
        groups = gradient.groups
        is_buffer = np.array([["running_" in name] for (name,) in groups])  # mixed, but without a gradient
        at = np.where(is_buffer, 0.5, 0.5 + draw.normal(0, 0.1, (len(groups), 2)))
        along = np.where(is_buffer, 0.0, draw.normal(0, 0.1, (len(groups), 2)))
        found = gradient(at, 1.3, 0)
    labels = task.labels("held_out")
    rows, _ = held_out_parts(len(labels), options.stopping_fraction, options.seed)
    step, by_scale = made.case.step, 0.5

    def loss(t: float) -> float:
        logits = (1.3 + t * by_scale) * made.own(made.mixed(at + t * along, groups, f"at-{t}"))
        return made.case.loss(logits[rows], labels[rows])

    ahead, behind = loss(step), loss(-step)
    slope = (found.gradient * along).sum() + found.logit_scale_gradient * by_scale
    assert found.loss == pytest.approx((ahead + behind) / 2, rel=1e-4, abs=1e-4)
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=5e-3, abs=5e-4)


def test_one_row_of_coefficients_has_the_sum_of_the_tensors_gradients(made: Made) -> None:
    if made.case.no_gradient is not None:
        pytest.skip("refused, as another test shows")
    found = {}
    for granularity in ("model", "tensor"):
        options = GradientOptions(granularity, batch_size=1000, rows_sum_to_one=False)
        with made.task().gradient(made.runs, options) as gradient:
            n_rows = 1 if gradient.groups is None else len(gradient.groups)
            found[granularity] = gradient(np.array([[0.7, 0.3]] * n_rows), 0.8, 0)
    one, many = found["model"], found["tensor"]
    np.testing.assert_allclose(one.gradient.sum(axis=0), many.gradient.sum(axis=0), rtol=1e-4, atol=1e-4)
    assert one.logit_scale_gradient == pytest.approx(many.logit_scale_gradient, rel=1e-5, abs=1e-6)
    assert one.loss == pytest.approx(many.loss, rel=1e-6)


def test_a_logit_scale_goes_into_the_weights_or_is_refused(made: Made) -> None:
    task, soup = made.task(), uniform(made.runs)
    assert task.folded(soup) == soup
    if made.case.no_fold is not None:
        with pytest.raises(StockpotError, match=made.case.no_fold):
            task.check_learnable(fold=True)
        return
    task.check_learnable(fold=True)
    folded = task.folded(replace(soup, recipe="learned", logit_scale=2.0))
    assert folded.logit_scale == 1.0
    write(folded, made.folder / "folded")
    doubled = 2 * task.predict(soup, "held_out").logits
    assert np.array_equal(task.predict(folded, "held_out").logits, doubled)
    made.assert_equal(made.own(made.folder / "folded"), doubled)


# ------------------------------------------------------------------------------------------------- splits and scores


def test_every_split_is_predicted_one_row_per_item(plain: Made) -> None:
    task = plain.task()
    assert task.splits[0] == "held_out"
    assert "train" not in task.splits
    for split in task.splits:
        made = task.predict(single(plain.runs[0]), split)
        n = len(task.item_ids(split))
        assert made.logits.dtype == np.float32
        assert made.logits.shape[0] == n == made.labels.shape[0]
        assert np.isfinite(made.logits).all()
        if METRICS[task.metric].kind == "classes":
            assert made.labels.dtype == np.int64
            assert 0 <= made.labels.min() <= made.labels.max() < made.logits.shape[1]


def test_the_score_is_the_metric_of_the_predictions(plain: Made) -> None:
    task, soup = plain.task(), uniform(plain.runs)
    predictions = task.predict(soup, "held_out")
    score = task.evaluate(soup)
    assert score == task.score(predictions) == METRICS[task.metric](predictions.logits, predictions.labels)
    assert score.n_examples == len(predictions.labels)
    assert score.stderr is not None
    assert score.metric == task.metric


def test_predictions_do_not_depend_on_what_was_asked_before(plain: Made) -> None:
    used, fresh = plain.task(), plain.task()
    greedy(plain.runs, used.evaluate)
    for split in used.splits:
        before, now = fresh.predict(uniform(plain.runs), split), used.predict(uniform(plain.runs), split)
        assert np.array_equal(before.logits, now.logits)
        assert np.array_equal(before.labels, now.labels)


def test_coefficients_are_those_of_the_soup(plain: Made) -> None:
    soup = Soup(plain.runs, Coefficients.of([0.3, 0.7]), "uniform")
    with opened(plain.runs[:1]) as (checkpoint,):
        groups = [list(checkpoint.specs)]
    expected = plain.own(plain.mixed(np.array([[0.3, 0.7]]), groups, "by-hand"))
    plain.assert_equal(plain.task().predict(soup, "held_out").logits, expected)


def test_identity_is_one_per_split_and_stable(plain: Made) -> None:
    task, again = plain.task(), plain.task()
    identities = [task.identity(split) for split in task.splits]
    assert len(set(identities)) == len(identities)
    task.evaluate(single(plain.runs[0]))
    assert identities == [task.identity(split) for split in task.splits] == [again.identity(s) for s in again.splits]


def test_shifts_of_test_are_about_its_items(plain: Made) -> None:
    task = plain.task()
    for split in task.splits:
        if split.startswith("shift:"):
            assert set(task.item_ids(split)) <= set(task.item_ids("test"))


def test_an_ensemble_has_no_weights_to_load(plain: Made) -> None:
    with pytest.raises(BlendError, match="logits"):
        plain.task().evaluate(ensemble(plain.runs))


def test_predictions_are_not_shared_memory(plain: Made) -> None:
    first, second = plain.runs
    task = plain.task()
    kept = task.predict(single(first), "held_out")
    copy = Predictions(kept.logits.copy(), kept.labels.copy())
    task.predict(single(second), "held_out")
    assert np.array_equal(kept.logits, copy.logits)
