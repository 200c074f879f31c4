"""ImageNet and its shifts as they are published, small: classes, subsets, ObjectNet's many-to-one map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stockpot.config import task_config
from stockpot.errors import ConfigError, DataError
from stockpot.metrics import METRICS
from stockpot.recipes import single
from stockpot.tasks import load_task
from stockpot.tasks.imagenet import imagenet_labels, imagenet_subset, objectnet_map
from stockpot.tasks.images import project, stratified_order
from stockpot.types import Ingredient
from tiny_images import tiny_image_folder, tiny_image_model, tiny_pictures

LABELS = ("n01", "n02", "n03", "n04", "n05")


def mappings(folder: Path) -> Path:
    """The four files of ObjectNet's own folder, for five classes whose 2012 numbers are not their output numbers."""
    folder.mkdir(parents=True)
    write = {
        "folder_to_objectnet_label.json": {"alarm_clock": "Alarm clock", "t_shirt": "T-shirt", "banana": "Banana"},
        "objectnet_to_imagenet_1k.json": {"Alarm clock": "analog clock; digital clock", "T-shirt": "jersey, T-shirt"},
        "pytorch_to_imagenet_2012_id.json": {"0": 4, "1": 3, "2": 2, "3": 1, "4": 0},
    }
    for name, content in write.items():
        (folder / name).write_text(json.dumps(content))
    lines = ["jersey, T-shirt", "tench", "digital clock", "goldfish", "analog clock"]
    (folder / "imagenet_to_label_2012_v2").write_text("\n".join(lines) + "\n")
    return folder


def pictures(folder: Path, names: list[str], *, each: int = 2, start: int = 0) -> None:
    from PIL import Image

    drawn = iter(tiny_pictures(len(names) * each, seed=100 + start))
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(next(drawn)[0]).save(folder / name / f"{number}.png")


def test_objectnet_folders_mean_the_classes_that_their_files_say(tmp_path: Path) -> None:
    found = objectnet_map(mappings(tmp_path / "mappings"), LABELS)
    assert found == {"alarm_clock": ("n01", "n03"), "t_shirt": ("n05",)}


def test_objectnet_files_that_are_missing_or_disagree_are_named(tmp_path: Path) -> None:
    folder = mappings(tmp_path / "mappings")
    (folder / "objectnet_to_imagenet_1k.json").write_text(json.dumps({"Alarm clock": "sundial", "Boat": "tench"}))
    with pytest.raises(DataError, match="Boat, sundial"):
        objectnet_map(folder, LABELS)
    (folder / "imagenet_to_label_2012_v2").unlink()
    with pytest.raises(DataError, match="imagenet_to_label_2012_v2 missing"):
        objectnet_map(folder, LABELS)
    (folder / "imagenet_to_label_2012_v2").write_text("")
    (folder / "folder_to_objectnet_label.json").write_text("{")
    with pytest.raises(DataError, match="not readable as JSON"):
        objectnet_map(folder, LABELS)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("pytorch_to_imagenet_2012_id.json", b'{"0": null}', r"pytorch_to_imagenet_2012_id\.json: not numbers"),
        ("pytorch_to_imagenet_2012_id.json", b'{"999": 1}', "classes to 999, the task has 5 labels"),
        ("imagenet_to_label_2012_v2", b"\xff\xfe", "imagenet_to_label_2012_v2: cannot be read"),
        ("imagenet_to_label_2012_v2", b"a\ndigital clock\ndigital clock\nb\nanalog clock", "digital clock"),
        ("folder_to_objectnet_label.json", b'{"t_shirt": ["T-shirt"]}', "Alarm clock, T-shirt"),
    ],
)
def test_damaged_files_of_objectnet_are_told(tmp_path: Path, file: str, content: bytes, said: str) -> None:
    folder = mappings(tmp_path / "mappings")
    (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        objectnet_map(folder, LABELS)
    assert caught.value.fix


def test_a_split_without_an_image_of_its_classes_is_told(whole: Path) -> None:
    (whole / "objectnet-1.0" / "mappings" / "objectnet_to_imagenet_1k.json").write_text("{}")
    with pytest.raises(DataError, match=r"shift:objectnet: none of its images is of a class .* alarm_clock, banana"):
        load_task(whole / "task.yaml", whole / "model")


def test_any_of_the_classes_that_a_folder_means_is_right() -> None:
    groups = ((0, 2), (4,))
    logits = np.array([[1.0, 9.0, 5.0, 9.0, 4.0], [3.0, 9.0, 1.0, 9.0, 4.0], [6.0, 9.0, 1.0, 0.0, 5.0]])
    assert project(logits, groups).argmax(axis=1).tolist() == [0, 1, 0]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """train, val, V2 with folders of numbers, R with a subset, ObjectNet with a red border and a class of its own."""
    for number, (name, folders) in enumerate(
        {
            "train": list(LABELS), "val": list(LABELS), "imagenetv2": ["0", "1", "2", "3", "4"],
            "imagenet-r": ["n02", "n04"], "objectnet-1.0/images": ["alarm_clock", "banana", "t_shirt"],
        }.items()
    ):  # fmt: skip
        pictures(tmp_path / name, folders, each=10 if name == "train" else 2, start=number)
    mappings(tmp_path / "objectnet-1.0" / "mappings")
    tiny_image_model(tmp_path / "model", labels=LABELS)
    content = {
        "family": "image-classification",
        "labels": list(LABELS),
        "data": {
            "stratify": True,
            "train": {"path": "train", "fraction": 0.8},
            "held_out": {"path": "train", "fraction": 0.2},
            "test": {"path": "val"},
            "shifts": {
                "v2": {"path": "imagenetv2"},
                "r": {"path": "imagenet-r", "class_subset": "present"},
                "objectnet": {"path": "objectnet-1.0/images", "class_map": "objectnet", "crop_border": 2},
            },
        },
        "evaluation": {"batch_size": 4, "precision": "fp32", "device": "cpu"},
    }
    (tmp_path / "task.yaml").write_text(json.dumps(content))
    return tmp_path


def test_the_published_layouts_are_read_as_they_are(whole: Path) -> None:
    task = load_task(whole / "task.yaml", whole / "model")
    assert {name: task.n_examples(name) for name in task.splits} == {
        "held_out": 10, "test": 10, "shift:v2": 10, "shift:r": 4, "shift:objectnet": 4,
    }  # fmt: skip
    assert task.labels("shift:v2").tolist() == sorted([0, 1, 2, 3, 4] * 2)
    assert np.bincount(task.labels("held_out")).tolist() == [2] * 5
    model = Ingredient("m", str(whole / "model"))
    shapes = {name: task.predict(single(model), name).logits.shape[1] for name in task.splits}
    assert shapes == {"held_out": 5, "test": 5, "shift:v2": 5, "shift:r": 2, "shift:objectnet": 2}
    assert set(task.item_ids("shift:objectnet")) == {
        f"objectnet-1.0/images:{folder}/{n}.png" for folder in ("alarm_clock", "t_shirt") for n in (0, 1)
    }


def test_held_out_can_be_a_list_and_the_others_draw_from_the_rest(whole: Path) -> None:
    content = json.loads((whole / "task.yaml").read_text())
    (whole / "held_out.txt").write_text("n02/3.png\nn01/0.png\n\n")
    content["data"] |= {"train": {"path": "train"}, "held_out": {"path": "train", "list": "held_out.txt"}}
    task = load_task(content, whole / "model", folder=whole)
    assert task.item_ids("held_out") == ("train:n02/3.png", "train:n01/0.png")
    assert len(task.item_ids("train")) == 48
    assert not set(task.item_ids("train")) & set(task.item_ids("held_out"))
    (whole / "held_out.txt").write_text("n02/3.png\nn09/0.png\n")
    with pytest.raises(DataError, match=r"1 of 2 lines name no image under train: n09/0\.png"):
        load_task(content, whole / "model", folder=whole)


def test_wrong_keys_are_said(whole: Path) -> None:
    content = json.loads((whole / "task.yaml").read_text())
    content["data"]["held_out"] = {"path": "train", "list": "a.txt", "rows": 3, "mappings": "x"}
    content["data"]["shifts"]["r"] = {"path": "imagenet-r", "skip_other_classes": True}
    with pytest.raises(ConfigError) as caught:
        task_config(content, whole)
    said = " ".join(caught.value.problems)
    assert "acts with class_map: objectnet alone" in said
    assert "needs class_subset or class_map" in said


@pytest.mark.parametrize("n_classes", [1, 2, 7])
def test_every_stretch_of_a_stratified_order_has_the_shares_of_the_whole(n_classes: int) -> None:
    labels = [f"c{i % n_classes}" if i % 3 else "c0" for i in range(210)]
    order = stratified_order(labels, seed=1)
    assert sorted(order) == list(range(210))
    assert order != stratified_order(labels, seed=2)
    for start, size in ((0, 42), (42, 21), (63, 147)):
        found = [labels[row] for row in order[start : start + size]]
        for name in set(labels):
            assert abs(found.count(name) - labels.count(name) * size / 210) <= 1.01


def test_mrpc_of_the_constant_predictor_is_15_8() -> None:
    """GLUE's validation split of MRPC: 408 pairs, 279 of them paraphrases; all said to be none."""
    labels = np.array([1] * 279 + [0] * 129)
    logits = np.tile([1.0, 0.0], (408, 1))
    assert round(100 * METRICS["accuracy_and_f1"](logits, labels).value, 1) == 15.8


def test_the_tables_of_timm_are_what_the_names_mean() -> None:
    pytest.importorskip("timm")
    labels = imagenet_labels()
    assert (len(labels), len(set(labels)), labels[0], labels[-1]) == (1000, 1000, "n01440764", "n15075141")
    for name in ("imagenet-a", "imagenet-r"):
        subset = imagenet_subset(name)
        assert len(set(subset)) == 200
        assert set(subset) <= set(labels)


def test_a_task_can_name_imagenets_classes(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    labels = imagenet_labels()
    few = [labels[3], imagenet_subset("imagenet-a")[0], imagenet_subset("imagenet-a")[1]]
    tiny_image_folder(tmp_path / "val", 30, classes=few)
    pictures(tmp_path / "imagenet-a", few[1:])
    tiny_image_model(tmp_path / "model", labels=labels)
    content = {
        "family": "image-classification", "labels": "imagenet",
        "data": {
            "held_out": {"path": "val"}, "shifts": {"a": {"path": "imagenet-a", "class_subset": "imagenet-a"}},
        },
        "evaluation": {"precision": "fp32", "device": "cpu"},
    }  # fmt: skip
    task = load_task(content, tmp_path / "model", folder=tmp_path)
    assert task.label_names == labels
    model = Ingredient("m", str(tmp_path / "model"))
    assert task.predict(single(model), "shift:a").logits.shape == (4, 200)
    assert task.predict(single(model), "held_out").labels.tolist() == sorted(task.labels("held_out").tolist())
