"""Damaged images of any split are found before anything long starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from stockpot import ingredients
from stockpot.errors import ConfigError, DataError
from stockpot.experiment.comparing import compare
from stockpot.experiment.preparing import prepare_splits
from stockpot.experiment.progress import Progress
from stockpot.experiment.running import run
from stockpot.tasks import load_task
from tiny_images import tiny_image_folder, tiny_image_model, tiny_image_task


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A task whose shift has an image too small for its border, and whose test set a truncated one."""
    tiny_image_model(tmp_path / "start")
    path = tiny_image_task(tmp_path, n=60)
    tiny_image_folder(tmp_path / "elsewhere", 6, seed=5)
    tiny_image_folder(tmp_path / "testing", 6, seed=6)
    broken = next((tmp_path / "testing").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:70])
    content = json.loads(path.read_text())
    content["data"] |= {
        "train": {"rows": 20},
        "test": {"path": "testing"},
        "shifts": {"elsewhere": {"path": "elsewhere", "crop_border": 12}},
    }
    path.write_text(json.dumps(content))
    return tmp_path


def _told(caught: pytest.ExceptionInfo[DataError]) -> str:
    return "\n".join([caught.value.message, *caught.value.problems])


def test_compare_finds_them_before_it_scores(home: Path) -> None:
    heard: list[Progress] = []
    with pytest.raises(DataError) as caught:
        compare(ingredients(home / "start"), task=home / "task.yaml", on_progress=heard.append)
    assert "cannot be decoded" in _told(caught)
    assert "none of 6 images can be taken" in _told(caught)
    assert [progress.stage for progress in heard] == ["data"]


def test_run_finds_them_before_it_trains(home: Path) -> None:
    experiment = {
        "name": "images", "task": json.loads((home / "task.yaml").read_text()), "initialisation": str(home / "start"),
        "head": "linear-probe", "sweep": {"runs": 2, "space": {"learning_rate": 1e-3, "epochs": 1}},
    }  # fmt: skip
    data = experiment["task"]["data"]
    data |= {"path": str(home / "photos"), "test": {"path": str(home / "testing")}, "cache": str(home / "cache")}
    data["shifts"]["elsewhere"]["path"] = str(home / "elsewhere")
    with pytest.raises(DataError) as caught:
        run(experiment, home / "out")
    assert "cannot be decoded" in _told(caught)
    assert "none of 6 images can be taken" in _told(caught)
    assert not (home / "out" / "initialisation").exists()


@pytest.mark.parametrize(("severity", "is_told"), [(1, True), (5, False)])
def test_a_shift_that_changes_nothing_is_told(tmp_path: Path, severity: int, is_told: bool) -> None:
    """Blurs are as wide as the images are: on 20 pixels the weakest is none."""
    tiny_image_model(tmp_path / "start")
    path = tiny_image_task(tmp_path, n=30)
    content = json.loads(path.read_text())
    content["data"]["shifts"]["blur"]["severity"] = severity
    path.write_text(json.dumps(content))
    heard: list[Progress] = []
    found = compare(ingredients(tmp_path / "start"), task=path, on_progress=heard.append)
    note = "shift:blur changes none of the 10 examples of test that it is made of: it is no shift."
    assert (note in found.notes) == is_told
    assert (note in [progress.line for progress in heard if progress.stage == "data"]) == is_told


def test_what_decoded_images_take_is_said_and_refused_where_it_is_too_much(tmp_path: Path) -> None:
    model = tiny_image_model(tmp_path / "start")
    content = json.loads(tiny_image_task(tmp_path).read_text())
    heard: list[Progress] = []
    prepare_splits(load_task(content, model, folder=tmp_path), heard.append)
    assert not any("cache_gib" in progress.line for progress in heard)
    said = [progress.line for progress in heard if progress.line.startswith("decoded images:")]
    sizes = [file.stat().st_size for file in (tmp_path / ".stockpot-images").glob("*.npy")]
    assert float(said[0].split()[2]) == pytest.approx(sum(sizes) / 2**30, rel=0.05)
    content["data"] |= {"cache": "small", "cache_gib": 1.5 * max(sizes) / 2**30}
    with pytest.raises(ConfigError, match="decoded again and again") as caught:
        prepare_splits(load_task(content, model, folder=tmp_path), heard.append)
    assert f"take {sum(sizes) / 2**30:.3g} GiB together" in str(caught.value)
    assert not list((tmp_path / "small").glob("*.npy"))
