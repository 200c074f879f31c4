"""Data on the hub, from a cache as the hub's own library lays it out; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.errors import ConfigError, DataError
from stockpot.tasks import load_task
from stockpot.tasks.data_files import data_path
from stockpot.tasks.tables import read_table
from tiny_images import tiny_image_folder, tiny_image_model
from tiny_models import tiny_classifier

pytest.importorskip("torch")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of the data set owner/name at COMMIT, which `main` points to."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    home = tmp_path / "hub" / "datasets--owner--name"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    snapshot = home / "snapshots" / COMMIT
    (snapshot / "data").mkdir(parents=True)
    return snapshot


def test_a_table_at_a_commit(cache: Path, tmp_path: Path) -> None:
    rows = "".join(f"the word number {number}\t{'ab'[number % 2]}\n" for number in range(20))
    blob = cache.parents[1] / "blobs" / "abc"  # the hub's cache links files to blobs without an ending
    blob.parent.mkdir()
    blob.write_text(f"text\tlabel\n{rows}")
    (cache / "data" / "all.tsv").symlink_to(blob)
    name = f"hf://datasets/owner/name@{COMMIT}/data/all.tsv"
    assert data_path(name, tmp_path).read_text().startswith("text\tlabel")
    assert data_path("hf://datasets/owner/name@main/data/all.tsv", tmp_path) == data_path(name, tmp_path)
    data = {"file": name, "text": "text", "label": "label", "held_out": {"rows": 5}, "test": {"rows": 10}}
    task = load_task({"family": "text-classification", "data": data}, tiny_classifier(tmp_path / "m"), own_labels=False)
    assert task.n_examples("test") == 10


def test_a_folder_of_images_at_a_commit(cache: Path, tmp_path: Path) -> None:
    tiny_image_folder(cache / "photos", 12)
    data = {"path": f"hf://datasets/owner/name@{COMMIT}/photos/", "held_out": {"rows": 4}, "cache": str(tmp_path / "c")}
    task = load_task({"family": "image-classification", "data": data}, tiny_image_model(tmp_path / "m"))
    assert task.n_examples("held_out") == 4


def test_a_table_in_shards_at_a_commit(cache: Path, tmp_path: Path) -> None:
    for shard in range(3):
        rows = "".join(f"the word number {10 * shard + row}\t{'ab'[row % 2]}\n" for row in range(10))
        (cache / "data" / f"train-{shard}.tsv").write_text(f"text\tlabel\n{rows}")
    (cache / "data" / "test-0.tsv").write_text("text\tlabel\nother\ta\n")
    name = f"hf://datasets/owner/name@{COMMIT}/data/train-*.tsv"
    data = {"file": name, "text": "text", "label": "label", "held_out": {"rows": 20}, "test": {"rows": 10}}
    task = load_task({"family": "text-classification", "data": data}, tiny_classifier(tmp_path / "m"), own_labels=False)
    assert task.n_examples("held_out") == 20


def test_wrong_references_are_told(cache: Path, tmp_path: Path) -> None:
    for wrong in (
        "hf://datasets/owner/name/data/all.tsv",
        "hf://datasets/name@main/a.tsv",
        "hf://datasets/owner/name@x",
    ):
        with pytest.raises(ConfigError, match="at a revision"):
            data_path(wrong, tmp_path)
    for missing in ("other.tsv", "folder", "data/none-*.tsv"):
        with pytest.raises(DataError, match="no such"):
            data_path(f"hf://datasets/owner/name@{COMMIT}/{missing}", tmp_path)
    with pytest.raises(DataError, match="no such data"):
        data_path("hf://datasets/owner/else@main/a.tsv", tmp_path)


def test_a_file_without_a_header_is_told_how_to_name_its_columns(tmp_path: Path) -> None:
    (tmp_path / "cola.tsv").write_text("gj04\t1\t\tOur friends.\ngj04\t0\t*\tThey drank.\n")
    with pytest.raises(DataError, match="a file without header: list its columns as `columns`"):
        read_table(tmp_path / "cola.tsv", ["sentence", "label"], name="cola.tsv")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "cola.tsv", ["sentence"], name="cola.tsv", header=["source", "label", "mark", "text"])
    assert "without header" not in str(caught.value)
