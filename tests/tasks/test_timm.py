"""timm's classifiers as ingredients: its own preprocessing, its own loader, fine-tuned and averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
timm = pytest.importorskip("timm")

import torch  # noqa: E402

from stockpot import ingredients, uniform, write  # noqa: E402
from stockpot.experiment.running import run  # noqa: E402
from stockpot.recipes import single  # noqa: E402
from stockpot.tasks import load_task  # noqa: E402
from tiny_images import CLASSES, tiny_image_task  # noqa: E402
from tiny_timm import tiny_timm  # noqa: E402

ARCHITECTURES = ("test_vit", "test_convnext", "test_resnet", "test_efficientnet")


def own_logits(folder: Path, pictures: list[Path]) -> np.ndarray:
    """With timm's own calls alone."""
    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval().float()
    settings = timm.data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
    transform = timm.data.create_transform(**settings)
    from PIL import Image

    with torch.inference_mode():
        return torch.cat([model(transform(Image.open(path).convert("RGB"))[None]) for path in pictures]).numpy()


def pictures_of(task, folder: Path, split: str) -> list[Path]:
    return [folder / "photos" / item.partition(":")[2] for item in task.item_ids(split)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_predictions_and_written_soups_are_those_of_timm_itself(tmp_path: Path, architecture: str, dtype: str) -> None:
    for seed in (1, 2):
        tiny_timm(tmp_path / f"run-{seed}", architecture, seed=seed, dtype=dtype)
    runs = ingredients(tmp_path / "run-*")
    task = load_task(tiny_image_task(tmp_path), runs[0])
    pictures = pictures_of(task, tmp_path, "held_out")
    found = task.predict(single(runs[0]), "held_out").logits
    assert np.allclose(found, own_logits(tmp_path / "run-1", pictures), atol=1e-4)
    write(uniform(runs), tmp_path / "soup")
    again = load_task(tmp_path / "task.yaml", tmp_path / "soup")
    found = again.predict(single(ingredients(tmp_path / "soup")[0]), "held_out").logits
    assert np.allclose(found, own_logits(tmp_path / "soup", pictures), atol=1e-4)


def test_an_experiment_with_timm_and_augmentation(tmp_path: Path) -> None:
    tiny_timm(tmp_path / "base")
    content = json.loads(tiny_image_task(tmp_path, n=60).read_text())
    content["data"] |= {"train": {"rows": 20}, "path": str(tmp_path / "photos"), "cache": str(tmp_path / "cache")}
    space = {"learning_rate": {"log_uniform": [1e-4, 1e-3]}, "epochs": 1, "mixup": 0.2, "rand_augment_magnitude": 5.0}
    experiment = {
        "name": "timm", "task": content, "initialisation": str(tmp_path / "base"),
        "sweep": {"runs": 2, "space": space}, "random_orders": 1,
        "recipes": ["uniform", "greedy", "learned_by_layer", "ensemble"],
        "learned": {"epochs": 1, "least_steps": 4, "batch_size": 4},
    }  # fmt: skip
    found = run(experiment, tmp_path / "out")
    assert {row.method for row in found.rows} >= {"best", "uniform", "greedy", "learned_by_layer"}
    pictures = pictures_of(load_task(content, tmp_path / "base"), tmp_path, "test")
    score = next(row for row in found.rows if row.method == "uniform").scores["test"].value
    labels = [CLASSES.index(path.parent.name) for path in pictures]
    predicted = own_logits(tmp_path / "out" / "uniform", pictures).argmax(axis=1)
    assert score == pytest.approx(float(np.mean(predicted == labels)))
