"""An experiment shrunk: the same keys, data in the same layout, a table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("transformers")

from stockpot.config import ExperimentConfig, canonical, experiment_config, load_experiment_config, task_config
from stockpot.errors import ConfigError
from stockpot.experiment import run
from stockpot.experiment.tiny import tiny_experiment
from stockpot.experiment.tiny_data import make_images, make_tables
from stockpot.tasks import load_task
from stockpot.tasks.data import load_splits
from stockpot.tasks.image_cache import ImageCache
from stockpot.tasks.images import load_image_splits

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = sorted(path for path in EXPERIMENTS.glob("*/*.yaml") if "\nsweep:" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_is_right_and_can_be_shrunk(path: Path, tmp_path: Path) -> None:
    config = load_experiment_config(path)
    assert config.tiny is not None
    if path.parent.name == "imagenet":
        pytest.importorskip("timm")
        pytest.importorskip("open_clip")
    assert "tiny" not in canonical(config)
    made = tiny_experiment(config, tmp_path)
    assert (made.recipes, made.head, made.task.metric) == (config.recipes, config.head, config.task.metric)
    assert made.sweep.runs <= 3
    assert (made.analysis and made.analysis.parts) == (config.analysis and config.analysis.parts)
    assert made.analysis is None or made.analysis.grid == 3
    task = load_task(made.task, made.initialisation, folder=tmp_path, own_labels=False)
    assert set(task.splits) == {"held_out", *(["test"] if config.task.data.test else []), *(
        f"shift:{name}" for name in config.task.data.shifts
    )}  # fmt: skip
    assert all(task.n_examples(split) > 0 for split in ("train", *task.splits))


def imagenet(**changes: Any) -> ExperimentConfig:
    data = {
        "stratify": True,
        "train": {"path": "train", "fraction": 0.98}, "held_out": {"path": "train", "fraction": 0.02},
        "test": {"path": "val"},
        "shifts": {
            "v2": {"path": "imagenetv2"}, "r": {"path": "imagenet-r", "class_subset": "imagenet-r"},
            "objectnet": {"path": "objectnet-1.0/images", "class_map": "objectnet", "crop_border": 2},
            "blur": {"of": "test", "first": 1000, "corrupt": "blur", "severity": 2},
        },
    }  # fmt: skip
    return experiment_config(
        {
            "name": "ImageNet", "initialisation": "google/vit-base-patch16-224", "sweep": {"runs": 9},
            "task": {"family": "image-classification", "labels": "imagenet", "data": data},
            "recipes": ["uniform", "greedy", "learned"],
            "tiny": {
                "model_type": "vit", "image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "intermediate_size": 32,
            },
            **changes,
        }
    )  # fmt: skip


def test_imagenet_and_its_shifts_in_small_end_with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = tiny_experiment(imagenet(), Path("made-up"))
    found = run(made, tmp_path / "out", n_workers=1)
    assert {row.method for row in found.rows} >= {"best", "uniform", "greedy", "learned"}
    assert {"shift:v2", "shift:r", "shift:objectnet", "shift:blur"} <= set(found.rows[0].scores)


def test_an_experiment_that_says_nothing_of_it_cannot_be_shrunk(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no `tiny`"):
        tiny_experiment(imagenet(tiny=None), tmp_path)
    for wrong in ({"hidden_size": 3}, {"model_type": "vit", "architecture": "test_vit"}):
        with pytest.raises(ConfigError) as caught:
            imagenet(tiny=wrong)
        assert "needs either model_type" in str(caught.value)
    with pytest.raises(ConfigError, match="transformers makes no configuration"):
        tiny_experiment(imagenet(tiny={"model_type": "nothing"}), tmp_path)


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        ("data/train-*.parquet", "data/validation.pq"), ("a.arrow", "b.feather"), ("A.TSV.gz", "b.CSV.bz2"),
        ("a.tab.xz", "b.ndjson"), ("hf://datasets/a/b@1/mrpc", "shards/val"),
    ],
)  # fmt: skip
def test_every_kind_of_table_can_be_made_up(tmp_path: Path, train: str, held_out: str) -> None:
    data = {"text": ["a", "b"], "label": "l", "train": {"file": train}, "held_out": {"file": held_out}}
    task = task_config({"family": "text-classification", "data": data}, tmp_path)
    made, words = make_tables(task, tmp_path / "made")
    splits = load_splits(task_config({"family": "text-classification", "data": made}).data, folder=tmp_path)
    assert {name: len(split) for name, split in splits.items()} == {"train": 24, "held_out": 24}
    assert {*splits["train"].texts[0][0].split()} <= {*words}


@pytest.mark.parametrize("labels", [["x", "y"], ["x", "y", "z", "u", "v"]])
def test_drawn_images_hold_every_class_and_projections_are_on_those_there_are(
    tmp_path: Path, labels: list[str]
) -> None:
    data = {
        "path": "photos", "train": {"fraction": 0.6}, "held_out": {"fraction": 0.2}, "test": {"fraction": 0.2},
        "shifts": {
            "few": {"path": "few", "class_subset": ["v", "x"] if "v" in labels else ["x", "y"], "crop_border": 30},
            "named": {"path": "named", "class_map": {"one": ["x"], "two": ["y"]}},
        },
    }  # fmt: skip
    task = task_config({"family": "image-classification", "labels": labels, "data": data}, tmp_path)
    made, few, _ = make_images(task, tmp_path / "made")
    config = task_config({"family": "image-classification", "labels": few, "data": made}, tmp_path)
    splits = load_image_splits(config.data, folder=tmp_path, cache=ImageCache(tmp_path / "cache", limit_bytes=2**20))
    assert {*splits["train"].rows.labels} == {*splits["held_out"].rows.labels} == {*few}
    assert {*splits["shift:few"].rows.labels} == {*few[:2]}
    assert {*splits["shift:named"].rows.labels} == {"one", "two"}
    assert min(Image.open(path).size[0] for path in (tmp_path / "made").rglob("*.JPEG") if "1" in path.parts) > 60
