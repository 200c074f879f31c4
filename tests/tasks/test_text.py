"""The text task on a tiny real model: fixed batches, the same bits, predictions as a plain loop makes them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.assembly import with_digests
from stockpot.checkpoints import ingredients
from stockpot.errors import CheckpointError, ConfigError, DataError, EvaluationError, MissingExtraError, StockpotError
from stockpot.recipes import ensemble, greedy, single, uniform
from stockpot.tasks import load_callable, load_task, model_folder
from stockpot.tasks.batches import Encodings, bucket_of, fixed_batches, loose_batches
from stockpot.tasks.text import TextClassification
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_task


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 3)
    return folder


@pytest.fixture(scope="session")
def runs(models):
    return with_digests(ingredients(models / "run-*"))


@pytest.fixture
def task(tmp_path, models) -> TextClassification:
    return load_task(tiny_task(tmp_path), models / "run-0")


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 9), st.sampled_from(["left", "right"]))
def test_batches_have_one_shape_and_hold_every_row_once(lengths, batch_size, side) -> None:
    ids = [[row + 1] * n for row, n in enumerate(lengths)]
    inputs = {"input_ids": ids, "attention_mask": [[1] * n for n in lengths]}
    batches = fixed_batches(Encodings(inputs, {"input_ids": 0, "attention_mask": 0}, side, 40), batch_size=batch_size)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        n_rows, bucket = batch.inputs["input_ids"].shape
        assert n_rows == batch_size
        assert all(bucket_of(lengths[row], 40) <= bucket <= bucket_of(max(lengths), 40) for row in batch.rows)
        for position, row in enumerate(batch.rows):
            tokens = batch.inputs["input_ids"][position]
            assert (tokens == row + 1).sum() == lengths[row] == batch.inputs["attention_mask"][position].sum()
            assert tokens[0 if side == "right" else -1] == row + 1


def test_predictions_are_those_of_a_plain_loop(task, runs, models) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ours = task.predict(single(runs[1]), "test").logits
    model = AutoModelForSequenceClassification.from_pretrained(models / "run-1").eval()
    tokenizer = AutoTokenizer.from_pretrained(models / "run-1")
    for row, (text,) in enumerate(task.texts("test")):
        with torch.no_grad():
            plain = model(**tokenizer(text, return_tensors="pt")).logits[0].numpy()
        np.testing.assert_allclose(ours[row], plain, rtol=1e-4, atol=1e-5)


def test_threads_and_order_of_evaluation_change_no_bit(tmp_path, models, runs) -> None:
    import torch

    path = tiny_task(tmp_path)
    one, three = (load_task(path, models / "run-0", n_threads=n) for n in (1, 3))
    before = torch.get_num_threads()
    soups = [single(runs[0]), uniform(runs), single(runs[2]), uniform(runs[:2])]
    first = [one.predict(soup, "test").logits for soup in soups]
    second = [three.predict(soup, "test").logits for soup in reversed(soups)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.get_num_threads() == before
    assert one.is_order_invariant


def test_greedy_with_the_running_sum_scores_as_from_scratch(task, tmp_path, models, runs) -> None:
    soup = greedy(runs, task.evaluate)
    kept = []
    other = load_task(tmp_path / "task.yaml", models / "run-0")
    for step in soup.steps:
        kept.append(step.ingredient)
        assert other.evaluate(uniform(kept)) == step.score if len(kept) > 1 else other.evaluate(single(kept[0]))
        if not step.accepted:
            kept.pop()


def test_identity_depends_on_what_logits_depend_on(task, tmp_path, models) -> None:
    reference = task.identity("test")
    assert task.identity("held_out") != reference
    changes = (("evaluation", {"batch_size": 4}), ("evaluation", {"max_length": 8}), ("data", {"seed": 1}))
    for section, change in changes:
        content = json.loads((tmp_path / "task.yaml").read_text())
        content[section] |= change
        assert load_task(content, models / "run-0", folder=tmp_path).identity("test") != reference, change
    content = json.loads((tmp_path / "task.yaml").read_text())
    content["metric"] = "nll"  # another metric needs no other logits
    assert load_task(content, models / "run-1", folder=tmp_path).identity("test") == reference


def test_a_metric_of_other_classes_is_refused_before_any_prediction(tmp_path, models) -> None:
    content = json.loads(tiny_task(tmp_path).read_text()) | {"metric": "f1"}
    with pytest.raises(DataError, match=r"F1 of class 1 is about two classes, not 3\nfix: use f1_macro"):
        load_task(content, models / "run-0", folder=tmp_path)
    task = load_task(content | {"metric": "f1_macro"}, models / "run-0", folder=tmp_path)
    assert task.metric == "f1_macro"


def test_a_metrics_missing_package_is_named_before_any_prediction(tmp_path, models, monkeypatch) -> None:
    content = json.loads(tiny_task(tmp_path).read_text()) | {"metric": "matthews"}
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError, match=r"the metric matthews needs 'scikit-learn'"):
        load_task(content, models / "run-0", folder=tmp_path)


def test_half_precision_ingredients(tmp_path) -> None:
    base = tiny_classifier(tmp_path / "base", dtype="bfloat16")
    runs = with_digests(ingredients(*tiny_fine_tunes(tmp_path, base, 2)))
    task = load_task(tiny_task(tmp_path), runs[0])
    assert 0 <= task.evaluate(uniform(runs)).value <= 1


def test_two_columns_and_integer_labels(tmp_path, models, runs) -> None:
    lines = ["first,second,label", *(f"red {chr(97 + n)},fast {chr(97 + n // 2)},{n % 3}" for n in range(24))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    data = {"file": "pairs.csv", "text": ["first", "second"], "label": "label", "held_out": {"rows": 20}}
    task = load_task({"family": "text-classification", "data": data}, runs[0], folder=tmp_path)
    assert len(task.texts("held_out")[0]) == 2
    assert task.evaluate(single(runs[0])).n_examples == 20


def test_not_finite_logits_are_refused(tmp_path, models, task) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    sick = Path(shutil.copytree(models / "run-0", tmp_path / "sick"))
    tensors = load_file(sick / "model.safetensors")
    tensors["classifier.weight"][:] = 3e38
    save_file(tensors, sick / "model.safetensors")
    with pytest.raises(EvaluationError, match="not finite"):
        task.evaluate(single(with_digests(ingredients(sick))[0]))


def test_ensembles_have_no_weights(task, runs) -> None:
    with pytest.raises(StockpotError, match="logits"):
        task.predict(ensemble(runs), "test")


def test_labels_of_a_model_that_gets_a_new_head_do_not_count(tmp_path) -> None:
    other = tiny_classifier(tmp_path / "other", labels=("negative", "positive"))
    with pytest.raises(StockpotError, match="negative"):
        load_task(tiny_task(tmp_path), other)
    assert load_task(tiny_task(tmp_path), other, own_labels=False).label_names == ("games", "mail", "text")


def test_load_task_needs_a_model(tmp_path) -> None:
    with pytest.raises(ConfigError, match="names no model"):
        load_task(tiny_task(tmp_path))


def test_model_folder(tmp_path, models, monkeypatch) -> None:
    assert model_folder(str(models / "base")) == models / "base"
    assert model_folder("base", relative_to=models) == models / "base"
    with pytest.raises(StockpotError, match="no such model folder"):
        model_folder("./nowhere")
    with pytest.raises((ConfigError, MissingExtraError), match="no_such_package_here"):
        model_folder("package:no_such_package_here/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="hub"):
        model_folder("nobody/no-such-model")


@pytest.mark.parametrize("reference", ["math", "math:", ":sqrt", "math:nothing", "no_such_module_at_all:f"])
def test_wrong_callables(reference) -> None:
    with pytest.raises(ConfigError):
        load_callable(reference)


def test_loose_batches_hold_the_rows_asked_for_once_and_no_dummies() -> None:
    lengths = [3, 9, 4, 12, 1, 7]
    ids = [[row + 1] * n for row, n in enumerate(lengths)]
    batches = loose_batches(Encodings({"input_ids": ids}, {"input_ids": 0}, "right", 40), [5, 1, 3, 0], batch_size=3)
    assert [batch.rows.tolist() for batch in batches] == [[0, 5, 1], [3]], "the shortest first"
    for batch in batches:
        longest = max(lengths[row] for row in batch.rows)
        assert batch.inputs["input_ids"].shape == (len(batch.rows), bucket_of(longest, 40))
        for position, row in enumerate(batch.rows):
            assert batch.inputs["input_ids"][position].tolist()[: lengths[row]] == ids[row]


@pytest.mark.parametrize("more", [["7"], []])
def test_classes_that_the_model_has_no_outputs_for(tmp_path, models, more) -> None:
    path = models / "run-0" / "config.json"
    shutil.copytree(models / "run-0", tmp_path / "model")
    config = json.loads(path.read_text())
    n = len(config["id2label"])
    config["id2label"] = {str(number): f"LABEL_{number}" for number in range(n)}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"label2id": {}}))
    labels = [*(str(number) for number in range(n - 1)), *more, *more]
    rows = "".join(f"{label}\ttext {number}\n" for number, label in enumerate(labels * 4))
    (tmp_path / "rows.tsv").write_text("label\ttext\n" + rows)
    sizes = {"held_out": {"fraction": 1.0}}
    task = {
        "family": "text-classification",
        "data": {"file": "rows.tsv", "text": "text", "label": "label", **sizes},
    }
    with pytest.raises(DataError, match=f"but the model in .* has {n} outputs"):
        load_task(task, tmp_path / "model", folder=tmp_path)
