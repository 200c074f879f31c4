"""Splits of images: drawn, projected, corrupted; equal to hand-computed cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stockpot.config import task_config
from stockpot.errors import ConfigError, DataError
from stockpot.tasks.image_cache import ImageCache
from stockpot.tasks.images import decoded, encode_image_labels, load_image_splits, project, split_digest
from tiny_images import tiny_image_folder


def splits_of(folder: Path, **data: object):
    config = task_config({"family": "image-classification", "data": {"path": "photos", **data}}).data
    return load_image_splits(config, folder=folder, cache=ImageCache(folder / "cache", limit_bytes=10**7))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_image_folder(tmp_path / "photos", 30)
    return tmp_path


def test_projection_by_hand() -> None:
    torch = pytest.importorskip("torch")
    logits = np.array([[1.0, 5.0, 2.0, 9.0], [4.0, 0.0, 3.0, 2.0]], dtype=np.float32)
    groups = ((2,), (0, 1))
    assert project(logits, groups).tolist() == [[2.0, 5.0], [3.0, 4.0]]
    assert project(torch.from_numpy(logits), groups).tolist() == [[2.0, 5.0], [3.0, 4.0]]
    assert project(logits, ((3,), (0,))).tolist() == [[9.0, 1.0], [2.0, 4.0]]
    assert project(logits, None) is logits


def test_drawn_splits_are_disjoint_and_stable(folder) -> None:
    sizes = {"held_out": {"rows": 10}, "test": {"fraction": 0.5}}
    splits, again = splits_of(folder, **sizes), splits_of(folder, **sizes)
    held_out, test = (set(splits[name].rows.item_ids) for name in ("held_out", "test"))
    assert (len(held_out), len(test), held_out & test) == (10, 15, set())
    assert all(again[name].rows == splits[name].rows for name in splits)
    other = splits_of(folder, seed=1, **sizes)
    assert set(other["held_out"].rows.item_ids) != held_out


def test_digests_do_not_know_where_images_are(folder, tmp_path) -> None:
    first = splits_of(folder, held_out={"rows": 10})["held_out"]
    (tmp_path / "elsewhere").mkdir()
    (folder / "photos").rename(tmp_path / "elsewhere" / "photos")
    moved = splits_of(tmp_path / "elsewhere", held_out={"rows": 10})["held_out"]
    assert split_digest(first) == split_digest(moved)


def test_the_border_is_cropped_before_anything_else(folder) -> None:
    plain = splits_of(folder, held_out={"rows": 3})["held_out"]
    cropped = splits_of(folder, held_out={"rows": 3, "crop_border": 2})["held_out"]
    whole = np.asarray(decoded(plain, 0, mode="RGB"))
    assert np.array_equal(np.asarray(decoded(cropped, 0, mode="RGB")), whole[2:-2, 2:-2])
    assert split_digest(plain) != split_digest(cropped)


def test_a_corrupted_shift_keeps_items_and_labels(folder) -> None:
    shifts = {"dark": {"of": "test", "first": 4, "corrupt": "contrast", "severity": 5}}
    splits = splits_of(folder, held_out={"rows": 5}, test={"rows": 6}, shifts=shifts)
    shift, test = splits["shift:dark"], splits["test"]
    assert shift.rows.item_ids == test.rows.item_ids[:4]
    encoded = encode_image_labels(splits)
    assert np.array_equal(encoded.ids["shift:dark"], encoded.ids["test"][:4])
    grey, plain = (np.asarray(decoded(split, 0, mode="RGB"))[:, :, 0].std() for split in (shift, test))
    assert 0 < grey < 0.1 * plain


def test_folders_named_by_numbers_are_class_numbers(tmp_path) -> None:
    for label in ("0", "2", "10"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (4, 4), (int(label), 0, 0)).save(tmp_path / "photos" / label / "a.png")
    names, ids, _ = encode_image_labels(splits_of(tmp_path, held_out={}), [f"class {n}" for n in range(11)])
    assert sorted(ids["held_out"].tolist()) == [0, 2, 10]
    assert names[10] == "class 10"


def test_labels_outside_a_subset_or_a_map_are_refused(folder) -> None:
    subset = splits_of(folder, held_out={}, shifts={"r": {"path": "photos", "class_subset": ["cat", "dog"]}})
    with pytest.raises(DataError, match=r"outside its class_subset: owl"):
        encode_image_labels(subset)
    unknown = splits_of(folder, held_out={}, shifts={"o": {"path": "photos", "class_map": {"a": "bee", "b": "cat"}}})
    with pytest.raises(DataError, match="bee"):
        encode_image_labels(unknown)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"held_out": {"class_map": {"a": ["x", "y"], "b": "x"}}}, "x more than once"),
        ({"held_out": {"class_subset": "present", "class_map": {"a": "x", "b": "y"}}}, "allowed: one of them"),
        ({"held_out": {"rows": 1, "fraction": 0.1}}, "allowed: one of them"),
        ({"held_out": {}, "shifts": {"s": {"of": "test", "corrupt": "blur", "severity": 1}}}, "no test split"),
        ({"held_out": {}, "shifts": {"s": {"path": "x", "corrupt": "blur"}}}, "both or neither"),
        ({"held_out": {}, "shifts": {"s": {"path": "x", "corrupt": "blur", "severity": 6}}}, "6"),
        ({"held_out": {}, "text": "t"}, "text"),
    ],
)
def test_settings_that_contradict_are_refused(data, words) -> None:
    with pytest.raises(ConfigError) as caught:
        task_config({"family": "image-classification", "data": {"path": "photos", **data}})
    assert any(words in problem for problem in caught.value.problems)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight_and_not_white(folder, suffix) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(folder / "photos" / "cat" / f"ramp.{suffix}")
    split = splits_of(folder, held_out={"fraction": 1.0})["held_out"]
    row = next(row for row, name in enumerate(split.rows.item_ids) if f"ramp.{suffix}" in name)
    expected = np.round(ramp / 65535 * 255)
    assert np.abs(np.asarray(decoded(split, row, mode="L")) - expected).max() <= 0.5
    assert np.array_equal(
        np.asarray(decoded(split, row, mode="RGB"))[:, :, 1], np.asarray(decoded(split, row, mode="L"))
    )


def test_pixels_without_a_known_range_are_refused(folder) -> None:
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(folder / "photos" / "cat" / "f.tif")
    split = splits_of(folder, held_out={"fraction": 1.0})["held_out"]
    row = next(row for row, name in enumerate(split.rows.item_ids) if "f.tif" in name)
    with pytest.raises(DataError, match=r"f\.tif: pixels of 32 bits"):
        decoded(split, row, mode="RGB")


def test_other_classes_are_left_out_but_not_all_of_them(folder) -> None:
    kept = {"held_out": {"class_subset": ["cat", "dog"], "skip_other_classes": True}}
    assert set(splits_of(folder, **kept)["held_out"].rows.labels) == {"cat", "dog"}
    numbered = {"held_out": {"class_map": {0: "cat", 1: "dog"}, "skip_other_classes": True}}
    with pytest.raises(
        DataError, match=r"none of its images is of a class that it is about .*; there is cat, dog, owl"
    ):
        splits_of(folder, **numbered)
    with pytest.raises(ConfigError, match="every class there is present"):
        splits_of(folder, held_out={"class_subset": "present", "skip_other_classes": True})


def test_classes_of_a_subset_may_be_numbers(folder) -> None:
    config = task_config({
        "family": "image-classification",
        "data": {"path": "photos", "held_out": {"class_subset": [0, 1]}},
    })  # fmt: skip
    assert config.data.held_out.class_subset == ("0", "1")


def test_a_list_may_begin_with_a_byte_order_mark(folder) -> None:
    names = splits_of(folder, held_out={"rows": 3})["held_out"].items
    (folder / "list.txt").write_text("".join(f"{item.name}\r\n" for item in names), encoding="utf-8-sig")
    assert [item.name for item in splits_of(folder, held_out={"list": "list.txt"})["held_out"].items] == [
        item.name for item in names
    ]


def test_all_paths_are_complained_about_at_once(folder) -> None:
    shifts = {"one": {"path": "nowhere-1"}, "two": {"path": "nowhere-2"}, "twin": {"path": "nowhere-2"}}
    with pytest.raises(DataError, match="2 paths cannot be used") as failure:
        splits_of(folder, held_out={"rows": 3}, shifts=shifts)
    assert [line for line in failure.value.problems if "no such" in line] == [
        "nowhere-1: no such file or folder",
        "nowhere-2: no such file or folder",
    ]
    assert failure.value.fix == "check `path`; relative ones start at the task's folder"
