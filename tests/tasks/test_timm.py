"""timm's classifiers as ingredients: its own preprocessing, its own loader, fine-tuned and averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
timm = pytest.importorskip("timm")

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from stockpot import ingredients, uniform, write  # noqa: E402
from stockpot.errors import ConfigError, DataError  # noqa: E402
from stockpot.experiment.running import run  # noqa: E402
from stockpot.recipes import single  # noqa: E402
from stockpot.sweeps.head import prepare_initialisation  # noqa: E402
from stockpot.sweeps.images import load_image_model  # noqa: E402
from stockpot.tasks import load_task  # noqa: E402
from stockpot.tasks.timm_config import timm_config  # noqa: E402
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


def as_oldest(folder: Path) -> None:
    """config.json as timm wrote it before there was `pretrained_cfg`."""
    config = json.loads((folder / "config.json").read_text())
    kept = {name: config[name] for name in ("architecture", "num_classes", "num_features")}
    (folder / "config.json").write_text(json.dumps({**config["pretrained_cfg"], **kept}))


def without_arguments(folder: Path) -> None:
    """config.json of a version that kept the size of the images alone."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("model_args", None)
    config["pretrained_cfg"] |= {"fixed_input_size": True}
    (folder / "config.json").write_text(json.dumps(config))


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


@pytest.mark.parametrize(("architecture", "rewrite"), [("test_resnet", as_oldest), ("test_vit", without_arguments)])
def test_older_configurations_mean_what_timm_takes_them_for(tmp_path: Path, architecture: str, rewrite) -> None:
    rewrite(tiny_timm(tmp_path / "run", architecture, seed=1))
    task = load_task(tiny_image_task(tmp_path), tmp_path / "run")
    found = task.predict(single(ingredients(tmp_path / "run")[0]), "held_out").logits
    pictures = pictures_of(task, tmp_path, "held_out")
    model = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    from PIL import Image

    with torch.inference_mode():
        expected = torch.cat([model(transform(Image.open(path).convert("RGB"))[None]) for path in pictures]).numpy()
    assert np.allclose(found, expected, atol=1e-5)
    assert expected.std(axis=0).max() > 1e-3


@pytest.mark.parametrize("names", [["owl", "cat", "dog"], {0: "owl", 1: "cat", 2: "dog"}])
def test_outputs_have_the_names_that_timm_gives_them(tmp_path: Path, names) -> None:
    tiny_timm(tmp_path / "run", "test_resnet", label_names=names)
    task = load_task(tiny_image_task(tmp_path), tmp_path / "run")
    assert task.label_names == ("owl", "cat", "dog")
    folders = [path.parent.name for path in pictures_of(task, tmp_path, "test")]
    assert [task.label_names[label] for label in task.labels("test")] == folders


def test_names_may_have_gaps() -> None:
    config = {
        "architecture": "resnet18",
        "num_classes": 4,
        "label_names": {"0": "owl", "2": "cat"},
        "pretrained_cfg": {},
    }
    assert timm_config(config).label_names == ("owl", "LABEL_1", "cat", "LABEL_3")


def test_what_timm_makes_nothing_of_is_told(tmp_path: Path) -> None:
    folder = tiny_timm(tmp_path / "run", "test_resnet", n_classes=5)
    with pytest.raises(DataError, match=r"3 classes .* has 5 outputs"):
        load_task(tiny_image_task(tmp_path), folder)
    config = json.loads((folder / "config.json").read_text())
    config["num_classes"], config["pretrained_cfg"]["interpolation"] = 3, "cubist"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"config\.json: timm makes no preprocessing.*cubist"):
        load_task(tmp_path / "task.yaml", folder).pixels("test")


@pytest.mark.parametrize("head", ["own", "linear-probe"])
def test_the_shared_start_comes_from_pickled_weights_too(tmp_path: Path, head) -> None:
    folder = tiny_timm(tmp_path / "base", "test_resnet")
    content = json.loads(tiny_image_task(tmp_path, n=60).read_text())
    content["data"]["train"] = {"rows": 20}
    task = load_task(content, folder, folder=tmp_path, own_labels=head == "own")
    prepare_initialisation(task, folder, tmp_path / "from-safetensors", head=head, seed=0)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    prepare_initialisation(task, folder, tmp_path / "from-pickle", head=head, seed=0)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("from-safetensors", "from-pickle"))
    assert all(torch.equal(one[name], other[name]) for name in one | other)


def test_a_head_for_other_labels_is_no_start(tmp_path: Path) -> None:
    folder = tiny_timm(tmp_path / "base", "test_resnet", label_names=["owl", "cat", "dog"])
    task = load_task(tiny_image_task(tmp_path), folder, own_labels=False)
    with pytest.raises(ConfigError, match="has the labels owl, cat, dog in this order, the task cat, dog, owl"):
        prepare_initialisation(task, folder, tmp_path / "start", head="own", seed=0)
    tiny_timm(folder, "test_resnet", n_classes=5)
    with pytest.raises(ConfigError, match="has a head for 5 labels, the data have 3"):
        prepare_initialisation(task, folder, tmp_path / "start", head="own", seed=0)


def test_a_distilled_networks_two_heads_are_made_anew(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1, num_classes=5)
    timm.models.save_for_hf(model, tmp_path, model_args={"img_size": 32, "depth": 1}, safe_serialization=True)
    made = load_image_model(tmp_path, num_labels=3)
    assert {len(made.head.weight), len(made.head_dist.weight)} == {3}
    assert torch.equal(made.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)


def test_what_is_left_of_a_deeper_network_is_no_start_and_an_own_head_has_to_be_there(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = tiny_timm(tmp_path / "base")
    task = load_task(tiny_image_task(tmp_path, n=36), folder)
    weights, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_args": {**config["model_args"], "depth": 2}}))
    with pytest.raises(ConfigError, match=r"tensors of blocks that the network in config\.json lacks: blocks\.2\."):
        load_image_model(folder)
    (folder / "config.json").write_text(json.dumps(config))
    body = {name: value for name, value in weights.items() if not name.startswith("head.")}
    save_file(body, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"head: own: .* lacks head"):
        prepare_initialisation(task, folder, tmp_path / "made", head="own", seed=0)
    prepare_initialisation(task, folder, tmp_path / "made", head="random", seed=0)


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
