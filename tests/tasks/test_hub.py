"""Data and models of a hub that answers on this machine, by the hub's own library, downloads included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from fake_hub import Hub, Repository, fake_hub
from tiny_models import tiny_classifier

pytest.importorskip("torch")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = f"hf://datasets/owner/name@{COMMIT}"

Ask: TypeAlias = Callable[..., list[str]]

_ASK = """
import json, sys
from pathlib import Path
from stockpot.errors import StockpotError
from stockpot.tasks.data_files import data_path
from stockpot.tasks.locations import model_folder
from stockpot.tasks.tables import read_table

def answer(reference):
    try:
        if not reference.startswith("hf://"):
            return " ".join(sorted(file.name for file in model_folder(reference).iterdir()))
        path = data_path(reference, Path())
        return " ".join(read_table(path, ["text"], name=reference).columns["text"])
    except StockpotError as exc:
        return f"{type(exc).__name__}: {exc}"

print(json.dumps([answer(reference) for reference in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Repository]:
    data, model = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("hub-model")
    for folder in ("data", "v1.0"):
        (data / folder).mkdir()
    for number in range(2):
        (data / "data" / f"train-{number:05}-of-00002.tsv").write_text(f"text\tlabel\ntrain{number}\ta\n")
    rows = "".join(f"the word number {number}\t{'ab'[number % 2]}\n" for number in range(60))
    (data / "v1.0" / "all.tsv").write_text(f"text\tlabel\n{rows}")
    tiny_classifier(model, labels="ab")
    (model / "training_args.bin").write_bytes(b"pickled")
    return {"datasets/owner/name": Repository(data, COMMIT), "models/owner/model": Repository(model, COMMIT)}


@pytest.fixture
def hub(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    with fake_hub(repositories) as listening:
        yield listening


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    """Of a process whose hub is this one, with a cache of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return ours | {
        "HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more,
    }  # fmt: skip


def ask(hub: Hub, home: Path, references: Sequence[str], **more: str) -> list[str]:
    command = [sys.executable, "-c", _ASK, json.dumps(list(references))]
    done = subprocess.run(command, env=environment(hub, home, **more), capture_output=True, text=True, check=True)
    answers: list[str] = json.loads(done.stdout)
    return answers


def test_files_folders_patterns_and_models_are_downloaded_once(hub: Hub, tmp_path: Path) -> None:
    weights = "config.json model.safetensors tokenizer.json tokenizer_config.json"
    expected = {
        f"{DATA}/data/train-00000-of-00002.tsv": "train0",
        f"{DATA}/data": "train0 train1",
        f"{DATA}/data/train-*.tsv": "train0 train1",
        f"{DATA}/v1.0": " ".join(f"the word number {number}" for number in range(60)),
        f"owner/model@{COMMIT}": weights,
        "owner/model@main": weights,
        "owner/model": weights,
    }
    assert dict(zip(expected, ask(hub, tmp_path, list(expected)), strict=True)) == expected
    hub.asked.clear()
    named = [reference for reference in expected if COMMIT in reference and "v1.0" not in reference]
    assert ask(hub, tmp_path, named) == [expected[reference] for reference in named]
    assert not [path for path in hub.asked if path.endswith((".tsv", ".safetensors"))]
    assert ask(hub, tmp_path, list(expected), HF_HUB_OFFLINE="1")[4:] == [weights] * 3


def test_what_the_hub_does_not_have_is_told(hub: Hub, tmp_path: Path) -> None:
    wrong = {
        f"{DATA}/nothing.tsv": "no such files at this revision",
        f"{DATA}/nothing": "no such files at this revision",
        "hf://datasets/owner/name@v9/data": "RevisionNotFound",
        f"hf://datasets/owner/else@{COMMIT}/data": "RepositoryNotFound",
        "hf://datasets/owner/name/data": "no data set on the hub at a revision",
        "owner/model@v9": "RevisionNotFound",
        "owner/else": "RepositoryNotFound",
    }
    for reference, answer in zip(wrong, ask(hub, tmp_path, list(wrong)), strict=True):
        assert wrong[reference] in answer, answer
        assert "\nfix: " in answer
    for answer in ask(hub, tmp_path, [f"{DATA}/data", "owner/model"], HF_HUB_OFFLINE="1"):
        assert "(HF_HUB_OFFLINE is set)" in answer


def test_a_part_of_a_set_in_the_cache_is_not_the_set(hub: Hub, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, [f"{DATA}/data/train-00000-of-00002.tsv"]) == ["train0"]
    for answer in ask(hub, tmp_path, [f"{DATA}/data", f"{DATA}/data/train-*.tsv"], HF_HUB_OFFLINE="1"):
        assert "1 of its 2 files are missing, train-00001-of-00002.tsv first" in answer
