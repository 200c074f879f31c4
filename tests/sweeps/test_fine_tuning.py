"""One run, here without a worker: what it obeys, what it leaves, and that its bytes are its settings' alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stockpot.config import load_task_config
from stockpot.errors import ConfigError, RunError
from stockpot.journal import Journal
from stockpot.sweeps import fine_tuning
from stockpot.sweeps.fine_tuning import make_ingredient
from stockpot.sweeps.trainable import dropout_changes
from tiny_models import tiny_classifier, tiny_task

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

SETTINGS = {"learning_rate": 5e-3, "epochs": 1, "batch_size": 8, "seed": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    tiny_classifier(folder / "start")
    tiny_task(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    """As in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def payload(home: Path, target: Path, **settings: Any) -> dict[str, Any]:
    return {
        "name": target.name,
        "settings": {**SETTINGS, **settings},
        "task": load_task_config(home / "task.yaml").model_dump_json(),
        "task_folder": str(home),
        "initialisation": str(home / "start"),
        "target": str(target),
        "journal": str(target.parent / "journal"),
    }


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def changed(home: Path, folder: Path) -> set[str]:
    """Names of the tensors that differ from the start's in any bit."""
    before, after = (safetensors_numpy.load_file(place / "model.safetensors") for place in (home / "start", folder))
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def test_a_run_lands_whole_with_its_predictions(home, tmp_path):
    made = make_ingredient(payload(home, tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == {"name": "run", "settings": SETTINGS}
    assert {path.name for path in tmp_path.iterdir()} == {"run", "journal"}
    assert len(list(tmp_path.glob("journal/blobs/*/*.safetensors"))) == 4  # held-out, test and two shifts
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
    assert len(changed(home, tmp_path / "run")) == len(list(model.parameters()))
    assert 0 <= made["held_out"] <= 1


def test_bytes_depend_on_the_settings_alone(home, tmp_path):
    first = make_ingredient(payload(home, tmp_path / "a" / "run", dropout=0.1))
    other = make_ingredient(payload(home, tmp_path / "a" / "other", dropout=0.1, seed=4))
    again = make_ingredient(payload(home, tmp_path / "b" / "again", dropout=0.1))
    assert weights(tmp_path / "a" / "run") == weights(tmp_path / "b" / "again")
    assert first["digest"] == again["digest"] != other["digest"]


def test_memory_that_does_not_suffice_is_told_with_what_to_do(home, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr(transformers.Trainer, "train", fail)
    with pytest.raises(RunError, match=r"`rows_at_once` under `sweep` \(CUDA out of memory"):
        make_ingredient(payload(home, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_frozen_parameters_keep_every_bit(home, tmp_path):
    make_ingredient(payload(home, tmp_path / "run", freeze=["*embeddings*", "bert.encoder.layer.0.*"]))
    moved = changed(home, tmp_path / "run")
    assert moved
    assert not [name for name in moved if "embeddings" in name or "layer.0." in name]
    assert any("layer.1." in name for name in moved)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [(["bert.*", "no.such.*"], "'no.such.\\*' matches no parameter"), (["*"], "leaves no parameter to train")],
)
def test_a_freeze_that_cannot_be_meant_is_refused(home, tmp_path, freeze, message):
    with pytest.raises(ConfigError, match=message):
        make_ingredient(payload(home, tmp_path / "run", freeze=freeze))
    assert not list(tmp_path.iterdir())


def test_dropout_acts_in_training_and_is_no_part_of_the_model(home, tmp_path):
    for name, dropout in (("own", None), ("none", 0.0), ("much", 0.5)):
        make_ingredient(payload(home, tmp_path / name, dropout=dropout))
    configs = [(tmp_path / name / "config.json").read_bytes() for name in ("own", "none", "much")]
    assert configs == [(home / "start" / "config.json").read_bytes()] * 3
    assert len({weights(tmp_path / name) for name in ("own", "none", "much")}) == 3


def test_dropout_that_acts_on_nothing_is_refused():
    with pytest.raises(ConfigError, match="acts on nothing"):
        dropout_changes(SimpleNamespace(model_type="plain"), 0.1)


def test_every_setting_reaches_the_training(home, tmp_path):
    variants: list[dict[str, Any]] = [
        {}, {"schedule": "cosine"}, {"schedule": "constant"}, {"label_smoothing": 0.1}, {"weight_decay": 0.5},
        {"warmup_ratio": 0.5}, {"max_grad_norm": 0.01}, {"batch_size": 16}, {"epochs": 2}, {"learning_rate": 1e-3},
    ]  # fmt: skip
    for number, settings in enumerate(variants):
        make_ingredient(payload(home, tmp_path / f"run-{number}", **settings))
    assert len({weights(tmp_path / f"run-{number}") for number in range(len(variants))}) == len(variants)


def test_a_run_that_has_landed_is_left_alone(home, tmp_path, monkeypatch):
    job = payload(home, tmp_path / "run")
    first = make_ingredient(job)
    before = weights(tmp_path / "run")
    monkeypatch.setattr(fine_tuning, "_fine_tune", lambda *_: pytest.fail("trained again"))
    assert make_ingredient(job) == first
    assert weights(tmp_path / "run") == before


@pytest.mark.parametrize("settings", [{"learning_rate": 1e30, "max_grad_norm": 0.0}, {"learning_rate": 1e16}])
def test_a_run_that_diverged_leaves_nothing_but_the_reason(home, tmp_path, settings):
    """In its weights, or in what it predicts."""
    job = payload(home, tmp_path / "run", **settings)
    found = make_ingredient(job)
    assert set(found) == {"name", "diverged"}
    assert re.search("NaN or infinity in .* parameters|logits are not finite", found["diverged"])
    assert [path.name for path in tmp_path.iterdir() if path.name != "journal"] == ["run.diverged.json"]
    kept = json.loads((tmp_path / "run.diverged.json").read_text())
    assert kept == {**found, "settings": job["settings"]}


def test_predictions_in_the_journal_are_the_models(home, tmp_path):
    make_ingredient(payload(home, tmp_path / "run"))
    task = fine_tuning._task(load_task_config(home / "task.yaml").model_dump_json(), home, home / "start")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "run", dtype=torch.float32
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")
    with torch.inference_mode():
        plain = [
            model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=16)).logits[0].numpy()
            for (text,) in task.texts("test")
        ]
    with Journal(tmp_path / "journal") as journal:
        blobs = [journal.predictions(path.stem) for path in sorted(journal.folder.glob("blobs/*/*.safetensors"))]
    close = [b for b in blobs if b["logits"].shape == (40, 3) and np.allclose(b["logits"], plain, atol=1e-3)]
    assert len(close) == 1
    assert (close[0]["labels"] == task.labels("test")).all()
