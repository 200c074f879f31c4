"""What every family of tasks must do: enter a new one in `CASES`, and all of this holds for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stockpot.errors import BlendError
from stockpot.metrics import METRICS
from stockpot.recipes import ensemble, greedy, single, uniform
from stockpot.sweeps.head import prepare_initialisation
from stockpot.tasks import FAMILIES, load_task
from stockpot.types import Ingredient, Predictions
from tiny_clip import tiny_clip, tiny_clip_task
from tiny_custom import tiny_custom_task, tiny_network_runs
from tiny_images import CLASSES, tiny_image_model, tiny_image_task
from tiny_lm import tiny_lm, tiny_lm_task
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_task
from tiny_seq2seq import tiny_seq2seq_model, tiny_seq2seq_task


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and two fine-tunes of it, `run-0` and `run-1`."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 2)
    return folder


def _text(folder: Path, tiny: Path):
    members = tuple(Ingredient(name, str(tiny / name)) for name in ("run-0", "run-1"))
    return lambda: load_task(tiny_task(folder, n=60), tiny / "run-0"), members


def _image(folder: Path, tiny: Path):
    members = tuple(
        Ingredient(f"vit-{seed}", str(tiny_image_model(folder / f"vit-{seed}", seed=seed))) for seed in (1, 2)
    )
    return lambda: load_task(tiny_image_task(folder), folder / "vit-1"), members


def _custom(folder: Path, tiny: Path):
    path = tiny_custom_task(folder)
    return lambda: load_task(path), tiny_network_runs(folder, 2)


def _lm(folder: Path, tiny: Path):
    members = tuple(Ingredient(f"lm-{seed}", str(tiny_lm(folder / f"lm-{seed}", seed=seed))) for seed in (1, 2))
    path = tiny_lm_task(folder)
    return lambda: load_task(path, folder / "lm-1"), members


def _seq2seq(folder: Path, tiny: Path):
    members = tuple(
        Ingredient(f"t5-{seed}", str(tiny_seq2seq_model(folder / f"t5-{seed}", seed=seed))) for seed in (1, 2)
    )
    return lambda: load_task(tiny_seq2seq_task(folder), folder / "t5-1"), members


def _clip(folder: Path, tiny: Path):
    tiny_clip(folder / "base")
    task = load_task(tiny_clip_task(folder, labels=list(CLASSES)), folder / "base", own_labels=False)
    members = []
    for seed in (1, 2):
        prepare_initialisation(task, folder / "base", folder / f"clip-{seed}", head="random", seed=seed)
        members.append(Ingredient(f"clip-{seed}", str(folder / f"clip-{seed}")))
    return lambda: load_task(folder / "task.yaml", folder / "clip-1"), tuple(members)


#: Family -> (folder for files, folder of tiny models) -> (what makes the same task again, two ingredients).
CASES: dict[str, Callable] = {
    "text-classification": _text,
    "image-classification": _image,
    "seq2seq-classification": _seq2seq,
    "clip": _clip,
    "custom": _custom,
    "lm": _lm,
}


@pytest.fixture(params=FAMILIES)
def case(request, tmp_path, tiny):
    return CASES[request.param](tmp_path, tiny)


def test_every_split_is_predicted_one_row_per_item(case) -> None:
    make, (first, _) = case
    task = make()
    assert task.splits[0] == "held_out"
    assert "train" not in task.splits
    for split in task.splits:
        made = task.predict(single(first), split)
        n = len(task.item_ids(split))
        assert (made.logits.dtype, made.labels.dtype) == (np.float32, np.int64)
        assert made.logits.shape[0] == n == made.labels.shape[0]
        assert np.isfinite(made.logits).all()
        assert 0 <= made.labels.min() <= made.labels.max() < made.logits.shape[1]


def test_the_score_is_the_metric_of_the_predictions(case) -> None:
    make, members = case
    task = make()
    soup = uniform(members)
    predictions = task.predict(soup, "held_out")
    score = task.evaluate(soup)
    assert score == task.score(predictions) == METRICS[task.metric](predictions.logits, predictions.labels)
    assert score.n_examples == len(predictions.labels)
    assert score.stderr is not None
    assert score.metric == task.metric


def test_predictions_do_not_depend_on_what_was_asked_before(case) -> None:
    make, members = case
    used, fresh = make(), make()
    greedy(members, used.evaluate)
    for split in used.splits:
        before, now = fresh.predict(uniform(members), split), used.predict(uniform(members), split)
        assert np.array_equal(before.logits, now.logits)
        assert np.array_equal(before.labels, now.labels)


def test_identity_is_one_per_split_and_stable(case) -> None:
    make, members = case
    task, again = make(), make()
    identities = [task.identity(split) for split in task.splits]
    assert len(set(identities)) == len(identities)
    task.evaluate(single(members[0]))
    assert identities == [task.identity(split) for split in task.splits] == [again.identity(s) for s in again.splits]


def test_shifts_of_test_are_about_its_items(case) -> None:
    make, _ = case
    task = make()
    for split in task.splits:
        if split.startswith("shift:"):
            assert set(task.item_ids(split)) <= set(task.item_ids("test"))


def test_an_ensemble_has_no_weights_to_load(case) -> None:
    make, members = case
    with pytest.raises(BlendError, match="logits"):
        make().evaluate(ensemble(members))


def test_predictions_are_not_shared_memory(case) -> None:
    make, (first, second) = case
    task = make()
    kept = task.predict(single(first), "held_out")
    copy = Predictions(kept.logits.copy(), kept.labels.copy())
    task.predict(single(second), "held_out")
    assert np.array_equal(kept.logits, copy.logits)
