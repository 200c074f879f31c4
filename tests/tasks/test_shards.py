"""Several files under one name are read as one, and never by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.config import DataConfig, SplitConfig
from stockpot.errors import DataError
from stockpot.tasks.data import load_splits
from stockpot.tasks.image_sources import Labelled, read_items
from stockpot.tasks.tables import read_table
from tiny_images import tiny_image_folder

NAMES = ["no", "yes"]


def parquet(path: Path, rows: range, names: list[str] = NAMES) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    columns = {"text": [f"text {row}" for row in rows], "label": [row % 2 for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    return path


def csv(path: Path, rows: range) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text,label\n" + "".join(f"text {row},{NAMES[row % 2]}\n" for row in rows))
    return path


def read(path: Path):
    return read_table(path, ["text", "label"], name=path.name)


def test_a_pattern_and_a_folder_are_their_files_in_order(tmp_path: Path) -> None:
    whole = read(parquet(tmp_path / "whole.parquet", range(12)))
    for number, rows in enumerate((range(5), range(5, 6), range(6, 12))):
        parquet(tmp_path / "data" / f"train-{number:05}-of-00003.parquet", rows)
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", range(100, 103))
    found = read(tmp_path / "data" / "train-*.parquet")
    assert (dict(found.columns), list(found.lines), found.class_names) == (
        dict(whole.columns), list(whole.lines), whole.class_names,
    )  # fmt: skip
    (tmp_path / "data" / "test-00000-of-00001.parquet").unlink()
    (tmp_path / "data" / "dataset_info.json").write_text("{}")
    assert dict(read(tmp_path / "data").columns) == dict(whole.columns)


def test_splits_over_several_files_share_no_row(tmp_path: Path) -> None:
    for number in range(3):
        csv(tmp_path / f"part-{number}.csv", range(10 * number, 10 * number + 10))
    config = DataConfig(
        file="part-*.csv", text="text", label="label", held_out=SplitConfig(rows=12), test=SplitConfig(rows=18)
    )
    splits = load_splits(config, folder=tmp_path)
    texts = [text for split in splits.values() for text in split.texts]
    assert sorted(texts) == sorted((f"text {row}",) for row in range(30))
    assert len({item for split in splits.values() for item in split.item_ids}) == 30


def test_a_file_whose_own_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    csv(tmp_path / "[a]*.csv", range(2))
    csv(tmp_path / "a1.csv", range(5))
    assert read(tmp_path / "[a]*.csv").n_rows == 2


@pytest.mark.parametrize(
    ("files", "wrong", "fix"),
    [
        (["train-0.csv", "train-1.csv", "test-0.csv"], "several sets", "data/test-*.csv"),
        (["val.csv", "test.csv"], "several sets", "data/test.csv"),
        (["train-0.csv", "train-0.tsv"], "several kinds", "data/train-*.csv"),
    ],
)
def test_a_folder_of_several_sets_or_kinds_is_refused(tmp_path: Path, files, wrong: str, fix: str) -> None:
    for file in files:
        csv(tmp_path / "data" / file, range(3))
    with pytest.raises(DataError, match=wrong) as error:
        read(tmp_path / "data")
    assert fix in str(error.value.fix)


def test_validation_has_several_names(tmp_path: Path) -> None:
    csv(tmp_path / "data" / "dev-0.csv", range(3))
    csv(tmp_path / "data" / "validation-1.csv", range(3))
    assert read(tmp_path / "data").n_rows == 6


def test_what_is_wrong_with_any_of_them_is_said_at_once(tmp_path: Path) -> None:
    csv(tmp_path / "part-0.csv", range(3))
    (tmp_path / "part-1.csv").write_text("other\n1\n")
    (tmp_path / "part-2.csv").write_bytes(b"\xff")
    with pytest.raises(DataError) as error:
        read(tmp_path / "part-*.csv")
    assert "part-1.csv of part-*.csv" in str(error.value)
    assert "part-2.csv of part-*.csv" in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file fits"):
        read(tmp_path / "a-*.csv")
    with pytest.raises(DataError, match="no file fits"):
        read(tmp_path / "nowhere" / "a-*.csv")
    with pytest.raises(DataError, match="folder without tables"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "a.csv")


def test_shards_with_other_classes_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "a-0.parquet", range(3))
    parquet(tmp_path / "a-1.parquet", range(3), ["yes", "no"])
    with pytest.raises(DataError, match="different classes"):
        read(tmp_path / "a-*.parquet")


def test_images_in_shards_of_several_sets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tiny_image_folder(tmp_path / "photos", 6)
    whole = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "c"))
    (tmp_path / "data").mkdir()
    for number in range(2):
        whole.shard(2, number).to_parquet(tmp_path / "data" / f"train-{number:05}-of-00002.parquet")
    whole.shard(6, 0).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    found = read_items(tmp_path / "data" / "train-*.parquet", Labelled(), name="data/train-*.parquet")
    assert len(found) == len(whole)
    with pytest.raises(DataError, match="several sets"):
        read_items(tmp_path / "data", Labelled(), name="data")


def test_a_part_of_a_numbered_set_is_refused_and_a_pattern_may_still_choose_some(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        csv(tmp_path / "data" / f"train-{number:05}-of-00004.csv", range(3 * number, 3 * number + 3))
    for name in ("data", "data/train-*.csv"):
        with pytest.raises(DataError, match=r"1 of its 4 files are missing, train-00002-of-00004\.csv"):
            read(tmp_path / name)
    assert read(tmp_path / "data" / "train-0000[01]-of-*.csv").n_rows == 6


def test_older_numbered_sets_end_in_a_hash_of_their_own(tmp_path: Path) -> None:
    for number, end in enumerate(("-0a1b", "-2c3d")):
        csv(tmp_path / "data" / f"train-{number:05}-of-00002{end}.csv", range(2))
    assert read(tmp_path / "data").n_rows == 4
    (tmp_path / "data" / "train-00001-of-00002-2c3d.csv").unlink()
    with pytest.raises(DataError, match="1 of its 2 files are missing"):
        read(tmp_path / "data")


def test_hidden_files_are_no_shards(tmp_path: Path) -> None:
    for number in range(2):
        csv(tmp_path / "data" / f"{number}.csv", range(3))
        (tmp_path / "data" / f"._{number}.csv").write_bytes(b"\0\5\x16\7")  # what macOS leaves on other disks
    assert read(tmp_path / "data").n_rows == read(tmp_path / "data" / "*.csv").n_rows == 6
