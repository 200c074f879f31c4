"""What is named on the hub by a branch, or by nothing, is noted with its commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.config import experiment_config
from stockpot.experiment.moving import moving_notes

pytest.importorskip("huggingface_hub")
COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the data set owner/name at COMMIT, which `main` points to, and at OTHER."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    home = tmp_path / "hub" / "datasets--owner--name"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for commit in (COMMIT, OTHER):
        (home / "snapshots" / commit).mkdir(parents=True)
        (home / "snapshots" / commit / "a.tsv").write_text("text\tlabel\nred\tx\n")
    return tmp_path / "hub"


def config_of(initialisation: str, train: str, test: str):
    data = {"text": "text", "label": "label", "train": {"file": train}, "held_out": {"file": test}}
    sweep = {"runs": 1, "space": {"learning_rate": 1e-5}}
    task = {"family": "text-classification", "data": data | {"test": {"file": test}}}
    return experiment_config({"name": "hub", "task": task, "initialisation": initialisation, "sweep": sweep})


def test_each_moving_name_is_noted_once(hub: Path) -> None:
    moving, fixed = "hf://datasets/owner/name@main/a.tsv", f"hf://datasets/owner/name@{OTHER}/a.tsv"
    snapshot = hub / "models--owner--model" / "snapshots" / OTHER
    assert moving_notes(config_of("owner/model", fixed, moving), snapshot) == (
        f"owner/model was commit {OTHER} on the hub; name it to have the same again.",
        f"{moving} was commit {COMMIT} on the hub; name it to have the same again.",
    )


def test_commits_and_folders_do_not_move(hub: Path, tmp_path: Path) -> None:
    fixed, snapshot = f"hf://datasets/owner/name@{COMMIT}/a.tsv", hub / "models--owner--model" / "snapshots" / OTHER
    assert moving_notes(config_of(f"owner/model@{OTHER}", fixed, "a.tsv"), snapshot) == ()
    assert moving_notes(config_of("start", fixed, "a.tsv"), tmp_path / "start") == ()
