"""Every way to name a task, and what is said about models, labels and data that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stockpot.config import load_task_config, task_config
from stockpot.errors import ConfigError, DataError
from stockpot.recipes import single
from stockpot.tasks import load_task
from stockpot.types import Ingredient
from tiny_models import tiny_classifier, tiny_data, tiny_fine_tunes, tiny_rows, tiny_task


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and two fine-tunes of it, `run-0` and `run-1`."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 2)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_task(tmp_path)


def content_of(path: Path) -> dict:
    return json.loads(path.read_text())


def copied(tiny: Path, folder: Path) -> Path:
    return Path(shutil.copytree(tiny / "run-0", folder))


def changed(folder: Path, name: str, **changes: object) -> Path:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def test_every_way_gives_the_same_task(path, tiny, tmp_path, monkeypatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # relative files start from the configuration, not from here
    model = tiny / "run-0"
    tasks = [
        load_task(path, model),
        load_task(str(path), str(model)),
        load_task(path, Ingredient("run-0", str(model))),
        load_task(content_of(path), model, folder=tmp_path),
        load_task(load_task_config(path), model),
        load_task(task_config(content_of(path), tmp_path), model),
        load_task(load_task_config(path), model, folder=tmp_path),
    ]
    assert len({tuple(task.identity(split) for split in task.splits) for task in tasks}) == 1
    assert {task.splits for task in tasks} == {("held_out", "test", "shift:typos", "shift:worddrop")}


def test_the_tasks_own_model_comes_first(path, tiny, tmp_path) -> None:
    copied(tiny, tmp_path / "mine")
    path.write_text(json.dumps(content_of(path) | {"model": "mine"}))
    assert load_task(path).identity("test") == load_task(path, tiny / "nowhere").identity("test")


def test_identity_is_the_content_not_the_place(path, tiny, tmp_path) -> None:
    moved = Path(shutil.copytree(tmp_path, tmp_path.with_name(tmp_path.name + "-moved")))
    copy = copied(tiny, tmp_path / "copy")
    changed(copy, "config.json", _name_or_path="/somewhere/else", transformers_version="0.1")
    changed(copy, "tokenizer_config.json", name_or_path="/somewhere/else", model_max_length=512)
    here, there = load_task(path, tiny / "run-0"), load_task(moved / "task.yaml", copy)
    assert [here.identity(split) for split in here.splits] == [there.identity(split) for split in there.splits]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"layer_norm_eps": 1e-3}),
        ("tokenizer_config.json", {"padding_side": "left"}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}),
    ],
)
def test_identity_changes_with_model_and_tokenizer(path, tiny, tmp_path, name, change) -> None:
    other = changed(copied(tiny, tmp_path / "other"), name, **change)
    assert load_task(path, other).identity("test") != load_task(path, tiny / "run-0").identity("test")


def test_identity_changes_with_one_text_and_with_one_label(path, tiny, tmp_path) -> None:
    seen = {load_task(path, tiny / "run-0").identity("held_out")}
    rows = [["label", "text"], *map(list, tiny_rows(120))]
    for column, value in ((0, None), (1, "server server x y z")):
        edited = [list(row) for row in rows]
        for row in edited[1:]:
            row[column] = value or {"games": "mail", "mail": "games"}.get(row[0], row[0])
            if value:
                row[column] = f"{row[column]} {edited.index(row)}"
        (tmp_path / "rows.tsv").write_text("".join("\t".join(row) + "\n" for row in edited))
        seen.add(load_task(path, tiny / "run-0").identity("held_out"))
    assert len(seen) == 3


def test_the_models_label_order_counts(path, tmp_path, tiny) -> None:
    """The same outputs under other names: class numbers follow id2label."""
    turned = changed(
        copied(tiny, tmp_path / "turned"), "config.json", id2label={"0": "text", "1": "games", "2": "mail"}
    )
    straight, other = load_task(path, tiny / "run-0"), load_task(path, turned)
    assert straight.label_names == ("games", "mail", "text")
    assert other.label_names == ("text", "games", "mail")
    assert [(n + 1) % 3 for n in straight.labels("test")] == list(other.labels("test"))


def test_placeholder_names_do_not_count(path, tmp_path) -> None:
    base = tiny_classifier(tmp_path / "base", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    assert load_task(path, base).label_names == ("games", "mail", "text")


def test_more_than_ten_labels_keep_their_order(tmp_path) -> None:
    names = [f"class {chr(ord('z') - n)}" for n in range(12)]  # sorted as text, "10" comes before "2"
    base = tiny_classifier(tmp_path / "base", labels=names)
    tiny_data(tmp_path / "rows.tsv", n=40, labels=names)
    data = {"file": "rows.tsv", "text": "text", "label": "label", "held_out": {"rows": 40}}
    task = load_task({"family": "text-classification", "data": data}, base, folder=tmp_path)
    assert task.label_names == tuple(names)


def test_a_label_the_model_does_not_know(path, tmp_path) -> None:
    base = tiny_classifier(tmp_path / "base", labels=("games", "mail", "texts"))
    with pytest.raises(DataError, match="did you mean 'texts'"):
        load_task(path, base)


@pytest.mark.parametrize("id2label", [{"a": "games"}, {"0": "games", "2": "mail"}, {"1": "games", "2": "mail"}])
def test_labels_that_are_not_numbered(path, tiny, tmp_path, id2label) -> None:
    odd = changed(copied(tiny, tmp_path / "odd"), "config.json", id2label=id2label)
    with pytest.raises(ConfigError, match="id2label"):
        load_task(path, odd)


@pytest.mark.parametrize("content", ["", "[]", "{oops", None])
def test_a_folder_without_a_usable_config(path, tiny, tmp_path, content) -> None:
    folder = copied(tiny, tmp_path / "model")
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_task(path, folder)


def test_held_out_and_test_sharing_rows(tiny, tmp_path) -> None:
    tiny_data(tmp_path / "a.tsv", n=20)
    rows = (tmp_path / "a.tsv").read_text().splitlines()
    (tmp_path / "b.tsv").write_text("\n".join([*rows[:4], "games\tquite another text"]) + "\n")
    data = {"text": "text", "label": "label", "held_out": {"file": "a.tsv"}, "test": {"file": "b.tsv"}}
    task = {"family": "text-classification", "data": data}
    with pytest.raises(DataError, match="3 of 4 rows of test are in held_out"):
        load_task(task, tiny / "run-0", folder=tmp_path)
    task["data"] |= {"allow_overlap": True}
    assert load_task(task, tiny / "run-0", folder=tmp_path).n_examples("test") == 4


def test_one_column_and_two_columns_equal_a_plain_loop(tiny, tmp_path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    names = ("games", "mail", "text")
    lines = [f"red {chr(97 + n)}\tfast {'slow ' * (n % 5)}{chr(97 + n)}\t{names[n % 3]}" for n in range(26)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["first\tsecond\tlabel", *lines]) + "\n")
    model = AutoModelForSequenceClassification.from_pretrained(tiny / "run-0").eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny / "run-0")
    for columns in ("first", ["first", "second"]):
        data = {"file": "pairs.tsv", "text": columns, "label": "label", "held_out": {}}
        evaluation = {"precision": "fp32", "device": "cpu", "batch_size": 8, "max_length": 32}
        task = load_task(
            {"family": "text-classification", "data": data, "evaluation": evaluation}, tiny / "run-0", folder=tmp_path
        )
        ours = task.predict(single(Ingredient("run-0", str(tiny / "run-0"))), "held_out")
        with torch.inference_mode():
            plain = np.stack(
                [model(**tokenizer(*texts, return_tensors="pt")).logits[0].numpy() for texts in task.texts("held_out")]
            )
        np.testing.assert_allclose(ours.logits, plain, rtol=1e-4, atol=1e-5)
        assert np.array_equal(ours.logits.argmax(1), plain.argmax(1))
        expected = np.mean([model.config.id2label[int(n)] == names[i % 3] for i, n in enumerate(plain.argmax(1))])
        assert task.score(ours).value == pytest.approx(expected, abs=1e-12)


def test_top_5_of_few_classes_says_nothing(path, tiny) -> None:
    path.write_text(json.dumps(content_of(path) | {"metric": "top_5"}))
    with pytest.raises(ConfigError, match="counts every answer as right"):
        load_task(path, tiny / "run-0")
