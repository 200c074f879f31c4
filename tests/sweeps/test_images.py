"""Fine-tuning of image classifiers: from an experiment's file to its table, and what each setting does."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stockpot import ingredients  # noqa: E402
from stockpot.assembly import materialize  # noqa: E402
from stockpot.config import RunSettings, load_task_config  # noqa: E402
from stockpot.errors import ConfigError, RunError  # noqa: E402
from stockpot.experiment.running import run  # noqa: E402
from stockpot.recipes import single  # noqa: E402
from stockpot.sweeps.augmentation import augmenter, batch_mixer, soft_cross_entropy  # noqa: E402
from stockpot.sweeps.fine_tuning import make_ingredient  # noqa: E402
from stockpot.sweeps.head import prepare_initialisation  # noqa: E402
from stockpot.sweeps.images import ImageExamples, load_image_model, save_image_model  # noqa: E402
from stockpot.sweeps.optimiser import layer_depths, layered_groups, weight_average  # noqa: E402
from stockpot.tasks import load_task  # noqa: E402
from stockpot.tasks.image_models import image_processor  # noqa: E402
from tiny_images import ARCHITECTURES, tiny_image_model, tiny_image_task  # noqa: E402


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    tiny_image_model(folder / "start")
    path = tiny_image_task(folder, n=60)
    content = json.loads(path.read_text())
    content["data"]["train"] = {"rows": 20}
    path.write_text(json.dumps(content))
    return folder


def made(home: Path, target: Path, *, n_loaders: int = 0, **settings: Any) -> dict[str, Any]:
    payload = {
        "n_loaders": n_loaders,
        "name": target.name,
        "settings": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 8, "seed": 3, **settings},
        "task": load_task_config(home / "task.yaml").model_dump_json(),
        "task_folder": str(home),
        "initialisation": str(home / "start"),
        "target": str(target),
        "journal": str(target.parent / "journal"),
    }
    return make_ingredient(payload)


def weights(folder: Path) -> dict[str, Any]:
    return dict(materialize(single(ingredients(folder)[0])))


@pytest.mark.parametrize("architecture", ["vit", "resnet"])
def test_an_experiment_of_images_ends_with_its_table(in_process, tmp_path: Path, architecture: str) -> None:
    tiny_image_model(tmp_path / "base", architecture)
    content = json.loads(tiny_image_task(tmp_path, n=60).read_text())
    content["data"]["train"] = {"rows": 20}
    experiment = {
        "name": "images", "task": content, "initialisation": str(tmp_path / "base"), "head": "linear-probe",
        "sweep": {"runs": 2, "space": {"learning_rate": {"log_uniform": [1e-4, 1e-3]}, "flip": True, "epochs": 1}},
        "random_orders": 1,
    }  # fmt: skip
    content["data"]["path"] = str(tmp_path / "photos")
    content["data"]["cache"] = str(tmp_path / "cache")
    found = run(experiment, tmp_path / "out")
    assert {row.method for row in found.rows} >= {"best", "uniform", "greedy", "ensemble"}
    assert run(experiment, tmp_path / "out") == found
    again = load_task(content, tmp_path / "out" / "greedy", folder=tmp_path)
    score = again.score(again.predict(single(ingredients(tmp_path / "out" / "greedy")[0]), "test"))
    assert score.value == next(row for row in found.rows if row.method == "greedy").scores["test"].value


def test_a_run_repeats_its_bytes_with_everything_drawn(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    drawn = {
        "flip": True, "random_resized_crop": 0.5, "rand_augment_magnitude": 9.3, "mixup": 0.4, "cutmix": 0.4,
        "label_smoothing": 0.1, "layer_decay": 0.7, "warmup_steps": 2,
    }  # fmt: skip
    made(home, tmp_path / "a", **drawn)
    made(home, tmp_path / "b", **drawn)
    made(home, tmp_path / "c", **{**drawn, "rand_augment_magnitude": 0.0})
    first, second, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_processes_that_decode_ahead_change_no_byte(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    drawn = {"flip": True, "random_resized_crop": 0.5, "rand_augment_magnitude": 9.3, "mixup": 0.4, "epochs": 2}
    for n in (0, 1, 2):
        made(home, tmp_path / f"by-{n}", n_loaders=n, **drawn)
    none, one, two = ((tmp_path / f"by-{n}" / "model.safetensors").read_bytes() for n in (0, 1, 2))
    assert none == one == two


def test_every_pass_over_the_images_draws_anew_and_rows_do_not_depend_on_each_other(home: Path) -> None:
    pytest.importorskip("timm")
    task = load_task(home / "task.yaml", home / "start")
    settings = RunSettings(flip=True, random_resized_crop=0.5, rand_augment_magnitude=9.3, seed=3)
    looks = []
    for order in ((0, 1, 2), (2, 0, 1)):
        examples = ImageExamples(task, settings)
        for _ in range(2):
            examples.begin_pass()
            looks.append({row: examples[row]["pixel_values"] for row in order})
    (first, second), (first_again, second_again) = looks[:2], looks[2:]
    for row in range(3):
        assert np.array_equal(first[row], first_again[row])
        assert np.array_equal(second[row], second_again[row])
        assert not np.array_equal(first[row], second[row])


def test_the_moving_average_is_an_ingredient_of_its_own(home: Path, tmp_path: Path) -> None:
    made(home, tmp_path / "run-00", ema_decay=0.5)
    made(home, tmp_path / "plain")
    last, average = weights(tmp_path / "run-00"), weights(tmp_path / "run-00" / "ema")
    start = weights(home / "start")
    assert all(torch.equal(last[name], value) for name, value in weights(tmp_path / "plain").items())
    name = "classifier.weight"
    way = (average[name] - start[name]).norm(), (last[name] - start[name]).norm()
    assert 0 < way[0] < way[1]


def test_the_moving_average_is_the_published_recurrence() -> None:
    model = torch.nn.Linear(2, 2)
    averaging = weight_average(0.9)
    averaging.on_train_begin(None, None, None, model=model)
    expected = model.weight.detach().double()
    for step in range(5):
        with torch.no_grad():
            model.weight.add_(0.1 * (step + 1))
        averaging.on_step_end(None, None, None, model=model)
        expected = 0.9 * expected + 0.1 * model.weight.detach().double()
    averaging.on_train_end(None, None, None, model=model)
    assert torch.allclose(averaging.averaged.weight.double(), expected, atol=1e-6)


def test_rates_fall_by_block_and_every_parameter_has_one() -> None:
    model = torch.nn.ModuleDict(
        {
            "embed": torch.nn.Linear(2, 2),
            "layer": torch.nn.ModuleList([torch.nn.Linear(2, 2)] * 0 + [torch.nn.Linear(2, 2) for _ in range(2)]),
            "head": torch.nn.Linear(2, 2),
        }
    )
    groups = layered_groups(
        model, learning_rate=1.0, weight_decay=0.1, decay=0.5, decayed=["embed.weight", "head.weight"]
    )
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert {name: rates[id(parameter)] for name, parameter in model.named_parameters()} == {
        "embed.weight": 0.125, "embed.bias": 0.125, "layer.0.weight": 0.25, "layer.0.bias": 0.25,
        "layer.1.weight": 0.5, "layer.1.bias": 0.5, "head.weight": 1.0, "head.bias": 1.0,
    }  # fmt: skip
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decays[id(model["embed"].weight)] == 0.1
    assert decays[id(model["embed"].bias)] == 0.0


@pytest.mark.parametrize(
    ("names", "depths"),
    [
        (["vit.encoder.layer.0.a", "vit.encoder.layer.1.a", "classifier.a"], [1, 2, 3]),
        (["swin.stages.0.blocks.0.a", "swin.stages.0.blocks.1.a", "swin.stages.1.blocks.0.a", "head.a"], [1, 2, 3, 4]),
        (["a", "b"], [0, 0]),
        (["transformer.h.0.a", "transformer.ln_f.a"], [1, 2]),
    ],
)
def test_depths_of_usual_names(names: list[str], depths: list[int]) -> None:
    assert list(layer_depths(names).values()) == depths


def test_targets_are_smoothed_and_mixed_ones_stay_distributions() -> None:
    pixels, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])
    same, targets = batch_mixer(RunSettings(label_smoothing=0.3), n_classes=3)(pixels, labels)
    assert torch.equal(same, pixels)
    assert torch.allclose(targets, torch.full((4, 3), 0.1) + 0.7 * torch.nn.functional.one_hot(labels, 3))
    logits = torch.randn(4, 3)
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.3)
    assert torch.allclose(soft_cross_entropy(logits, targets), expected)
    pytest.importorskip("timm")
    np.random.seed(0)
    mix = batch_mixer(RunSettings(mixup=0.5, label_smoothing=0.3), n_classes=3)
    mixed, targets = mix(pixels.clone(), labels)
    assert not torch.equal(mixed, pixels)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))
    np.random.seed(0)
    odd, odd_targets = mix(pixels[:3].clone(), labels[:3])
    assert not torch.equal(odd[:2], pixels[:2])
    assert torch.equal(odd[2], pixels[2])
    assert torch.allclose(odd_targets.sum(dim=1), torch.ones(3))
    assert torch.equal(mix(pixels[:1], labels[:1])[0], pixels[:1])


def test_nothing_asked_nothing_done() -> None:
    assert augmenter(RunSettings(rand_augment_layers=2)) is None


def test_crops_stay_inside_and_keep_at_least_their_share() -> None:
    pytest.importorskip("timm")
    import random

    from PIL import Image

    random.seed(0)
    crop = augmenter(RunSettings(random_resized_crop=0.5))
    assert crop is not None
    image = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3))
    sizes = {crop(image).size for _ in range(20)}
    assert len(sizes) > 5
    assert all(0.45 * 1200 <= width * height <= 1200 for width, height in sizes)


def _resized_then_cropped(folder: Path) -> None:
    """CLIP's preprocessing, which cuts a frame away, too."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tiny_image_model(folder)
    crop = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=crop).save_pretrained(folder)


def _of_timm(folder: Path) -> None:
    folder.mkdir()
    cfg = {"input_size": [3, 16, 16], "crop_pct": 0.8, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": cfg}))


@pytest.mark.parametrize("prepare", [tiny_image_model, _resized_then_cropped, _of_timm])
def test_all_of_a_crop_reaches_the_network(tmp_path: Path, prepare: Any) -> None:
    pytest.importorskip("timm")
    from PIL import Image

    from stockpot.tasks.image_models import image_model, network_inputs

    prepare(tmp_path / "model")
    model = image_model(tmp_path / "model", json.loads((tmp_path / "model" / "config.json").read_text()))
    whole = augmenter(RunSettings(random_resized_crop=1.0), model)  # of an image of 4 to 3 the only crop
    assert whole is not None
    across = np.broadcast_to(np.linspace(0, 255, 80, dtype=np.uint8), (60, 80))
    down = np.broadcast_to(np.linspace(0, 255, 60, dtype=np.uint8)[:, None], (60, 80))
    image = Image.fromarray(np.stack([across, down, across], axis=2))
    squeezed = whole(image)
    assert squeezed.size == (16, 16)
    got = network_inputs(model, model.exact(squeezed)[None])[0]
    assert got.shape == (3, 16, 16)
    last = network_inputs(model, model.exact(Image.new("RGB", (16, 16), (255, 255, 255)))[None])[0]
    first = network_inputs(model, model.exact(Image.new("RGB", (16, 16)))[None])[0]
    share = (got - first) / (last - first)
    assert share[0, 8, 0] < 0.05 < 0.95 < share[0, 8, -1]
    assert share[1, 0, 8] < 0.05 < 0.95 < share[1, -1, 8]


def test_settings_that_need_timm_name_the_extra(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from stockpot.errors import MissingExtraError
    from stockpot.sweeps.images import require_timm_for

    monkeypatch.setitem(sys.modules, "timm", None)
    require_timm_for(RunSettings(flip=True))
    with pytest.raises(MissingExtraError, match="mixup and cutmix needs 'timm'"):
        require_timm_for(RunSettings(mixup=0.1, cutmix=0.1))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_rand_augment_takes_grey_images_and_coloured_ones(mode: str) -> None:
    pytest.importorskip("timm")
    from PIL import Image

    augment = augmenter(RunSettings(rand_augment_magnitude=9, rand_augment_layers=2, random_resized_crop=0.5))
    assert augment is not None
    image = Image.fromarray(np.arange(32 * 32, dtype=np.uint32).astype(np.uint8).reshape(32, 32)).convert(mode)
    seen = {augment(image).tobytes() for _ in range(100)}  # every operation comes up
    assert len(seen) > 20


def test_a_larger_magnitude_of_rand_augment_does_more() -> None:
    pytest.importorskip("timm")
    import random

    from PIL import Image

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    seen = []
    for magnitude in (10, 14, 25):
        augment = augmenter(RunSettings(rand_augment_magnitude=magnitude, rand_augment_layers=2))
        assert augment is not None
        random.seed(0)
        np.random.seed(0)
        seen.append([augment(image).tobytes() for _ in range(60)])
    assert all(sum(a != b for a, b in zip(*pair, strict=True)) > 20 for pair in pairwise(seen))
    assert sum(made != image.tobytes() for made in seen[0]) > 50, "every operation is applied"


@pytest.mark.parametrize(
    ("names", "depths"),
    [
        (["encoder.block.0.layer.0.w", "encoder.block.0.layer.1.w", "encoder.block.1.layer.0.w"], [1, 1, 2]),
        (["conv1.w", "layer1.0.conv1.w", "layer1.1.conv1.w", "layer2.0.conv1.w", "fc.w"], [0, 1, 2, 3, 4]),
        (["a.stages.0.layers.0.w", "a.stages.0.layers.1.layer.0.w", "a.stages.1.layers.0.w"], [1, 2, 3]),
        (["conv_stem.w", "blocks.0.0.w", "blocks.0.1.w", "blocks.1.0.w", "conv_head.w"], [0, 1, 2, 3, 4]),
        (["bert.layer.0.w", "bert.layer.1.w", "bert.rel_embeddings.w", "classifier.w"], [1, 2, 0, 3]),
        (["shared.w", "encoder.block.0.w", "encoder.norm.w", "decoder.block.0.w", "decoder.norm.w"], [0, 1, 1, 2, 3]),
        (["a.encoder.layers.0.w", "a.decoder.embed_positions.w", "a.decoder.layers.0.w"], [1, 0, 2]),
    ],
)
def test_depths_of_other_architectures(names: list[str], depths: list[int]) -> None:
    assert list(layer_depths(names).values()) == depths


def test_a_network_without_blocks_has_no_layer_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="no numbered blocks"):
        layered_groups(model, learning_rate=1.0, weight_decay=0.0, decay=0.5, decayed=[])


def test_a_step_has_the_same_rows_on_any_number_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from stockpot.sweeps import fine_tuning

    assert fine_tuning._rows_per_gpu(32, "cpu") == 32
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert fine_tuning._rows_per_gpu(32, "cuda") == 8


def test_preprocessing_goes_along_under_the_name_that_it_has(tmp_path: Path) -> None:
    source = tiny_image_model(tmp_path / "source")
    settings = json.loads((source / "preprocessor_config.json").read_text())
    (source / "preprocessor_config.json").unlink()
    (source / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    save_image_model(load_image_model(source), tmp_path / "run", source=source)
    assert image_processor(tmp_path / "run").to_dict() == image_processor(source).to_dict()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: config.update(image_size=32), r"another shape of vit\.embeddings\.position_embeddings"),
        (
            lambda config: config.update(model_type="deit", architectures=["DeiTForImageClassification"]),
            "lack .* of .*",
        ),
        (lambda config: config.update(model_type="vit_mae"), "Unrecognized configuration class"),
    ],
)
def test_a_start_whose_weights_are_of_another_network_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    folder = tiny_image_model(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=said):
        load_image_model(folder, num_labels=5, ignore_mismatched_sizes=True)


def test_a_damaged_start_is_told(tmp_path: Path) -> None:
    folder = tiny_image_model(tmp_path / "base")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="transformers loads no AutoModelForImageClassification from it"):
        load_image_model(folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_new_head_is_no_fault_of_the_start(tmp_path: Path, architecture: str) -> None:
    folder = tiny_image_model(tmp_path / "base", architecture)
    made = load_image_model(folder, num_labels=5, ignore_mismatched_sizes=True)
    assert made.num_labels == 5


def test_images_of_another_size_than_the_networks_are_told(tmp_path: Path) -> None:
    folder = tiny_image_model(tmp_path / "base")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "size": {"height": 32, "width": 32}}))
    content = json.loads(tiny_image_task(tmp_path, n=60).read_text())
    content["data"]["train"] = {"rows": 20}
    task = load_task(content, folder, folder=tmp_path, own_labels=False)
    with pytest.raises(RunError, match=r"pixel_values \[20, 3, 32, 32\]"):
        prepare_initialisation(task, folder, tmp_path / "start", head="linear-probe", seed=0)


def test_what_projects_the_last_block_is_as_deep_as_what_stands_behind_it() -> None:
    """open_clip's names, in its order."""
    names = ["visual.class_embedding", "visual.proj", "visual.conv1.weight", "visual.transformer.resblocks.0.w",
             "visual.attnpool.positional_embedding", "head.weight"]  # fmt: skip
    assert list(layer_depths(names).values()) == [0, 2, 0, 1, 2, 2]


def test_what_is_left_of_a_deeper_network_is_no_start(home: Path, tmp_path: Path) -> None:
    task = load_task(home / "task.yaml", home / "start")
    shutil.copytree(home / "start", tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ConfigError, match=r"tensors of blocks that the network in config\.json lacks: .*layers\.1\."):
        prepare_initialisation(task, tmp_path / "base", tmp_path / "made", head="random", seed=0)


def test_an_own_head_has_to_be_there(home: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    task = load_task(home / "task.yaml", home / "start")
    shutil.copytree(home / "start", tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    body = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(body, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"head: own: .* lacks classifier\.bias, classifier\.weight"):
        prepare_initialisation(task, tmp_path / "base", tmp_path / "made", head="own", seed=0)
    prepare_initialisation(task, tmp_path / "base", tmp_path / "made", head="random", seed=0)
