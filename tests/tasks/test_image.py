"""Every image family with small random weights: the family's own forward and loader are the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stockpot.assembly import write
from stockpot.errors import ConfigError, DataError, MissingExtraError
from stockpot.recipes import greedy, single, uniform
from stockpot.tasks import image_cache, image_models, images, load_task
from stockpot.tasks.gradients import GradientOptions
from stockpot.types import Ingredient
from tiny_images import ARCHITECTURES, CLASSES, tiny_image_folder, tiny_image_model, tiny_image_task


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for architecture in ARCHITECTURES:
        for seed in (1, 2):
            tiny_image_model(folder / f"{architecture}-{seed}", architecture, seed=seed)
    return folder


def members(models: Path, architecture: str) -> tuple[Ingredient, ...]:
    return tuple(Ingredient(f"r{seed}", str(models / f"{architecture}-{seed}")) for seed in (1, 2))


def reference_logits(folder: Path, task, split: str, *, dtype: str = "float32") -> np.ndarray:
    """The family's own loader, preprocessing and forward, one image at a time."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    rows = []
    for item in task.item_ids(split):
        with Image.open(task.config.folder / item.replace(":", "/")) as image, torch.no_grad():
            inputs = processor(image.convert("RGB"), return_tensors="pt")
            rows.append(model(**inputs).logits[0].float().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_predictions_are_the_familys_own(architecture, models, tmp_path) -> None:
    first, second = members(models, architecture)
    task = load_task(tiny_image_task(tmp_path), first)
    task.predict(single(second), "held_out")  # swapped in place, and back
    found = task.predict(single(first), "held_out")
    expected = reference_logits(Path(first.source), task, "held_out")
    np.testing.assert_allclose(found.logits, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(found.logits, axis=0).max() > 1e-3  # the images are told apart
    assert [CLASSES[label] for label in found.labels] == [item.split("/")[0][7:] for item in task.item_ids("held_out")]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("fold", [False, True])
def test_a_written_soup_loads_with_the_familys_loader(architecture, fold, models, tmp_path) -> None:
    from dataclasses import replace

    soup = uniform(members(models, architecture))
    task = load_task(tiny_image_task(tmp_path), models / f"{architecture}-1")
    if fold:
        soup = task.folded(replace(soup, logit_scale=1.5))
        assert soup.logit_scale == 1.0
    found = task.predict(soup, "test")
    write(soup, tmp_path / "soup")
    np.testing.assert_allclose(found.logits, reference_logits(tmp_path / "soup", task, "test"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_checkpoints(dtype, tmp_path) -> None:
    folders = [tiny_image_model(tmp_path / f"m{seed}", seed=seed, dtype=dtype) for seed in (1, 2)]
    soup = uniform(tuple(Ingredient(folder.name, str(folder)) for folder in folders))
    task = load_task(tiny_image_task(tmp_path), folders[0])
    found = task.predict(soup, "test").logits
    write(soup, tmp_path / "soup")
    np.testing.assert_allclose(found, reference_logits(tmp_path / "soup", task, "test"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_differences(architecture, tmp_path) -> None:
    # Buffers are mixed without a gradient, so they are the same here.
    for seed in (1, 2):
        tiny_image_model(tmp_path / f"{architecture}-{seed}", architecture, seed=seed, own_statistics=False)
    task = load_task(tiny_image_task(tmp_path), tmp_path / f"{architecture}-1")
    with task.gradient(members(tmp_path, architecture), GradientOptions(batch_size=6)) as gradient:
        at, step = np.array([[0.6, 0.4]]), 1e-4  # corners of ReLU: a longer step is no slope
        found = gradient(at, 1.0, 0)
        for k in (0, 1):
            move = np.eye(2)[[k]] * step
            slope = (gradient(at + move, 1.0, 0).loss - gradient(at - move, 1.0, 0).loss) / (2 * step)
            assert found.gradient.ravel()[k] == pytest.approx(slope, rel=0.05, abs=5e-3)


def test_images_are_decoded_once_for_any_number_of_candidates(models, tmp_path, monkeypatch) -> None:
    decoded: list[tuple[str, int]] = []
    real = images.decoded

    def counted(split, row, *, mode):
        decoded.append((split.rows.name, row))
        return real(split, row, mode=mode)

    monkeypatch.setattr("stockpot.tasks.image.decoded", counted)
    path = tiny_image_task(tmp_path)
    task = load_task(path, models / "vit-1")
    greedy(members(models, "vit"), task.evaluate)
    assert sorted(set(decoded)) == [("held_out", row) for row in range(12)]
    n = len(decoded)
    assert n <= 13  # the first one twice: it tells the shape
    task.evaluate(uniform(members(models, "vit")))
    again = load_task(path, models / "vit-1")
    assert np.array_equal(again.pixels("held_out"), task.pixels("held_out"))
    assert len(decoded) == n
    assert task.pixels("held_out").dtype == np.uint8


def test_the_identity_knows_preprocessing_data_and_projection(models, tmp_path) -> None:
    import json

    path = tiny_image_task(tmp_path)
    before = load_task(path, models / "vit-1").identity("test")
    content = json.loads(path.read_text())
    content["data"]["test"]["class_subset"] = list(CLASSES)
    assert load_task(content, models / "vit-1", folder=tmp_path).identity("test") != before
    other = tiny_image_model(tmp_path / "other")
    file = other / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"resample": 2', '"resample": 3'))
    assert load_task(path, other).identity("test") != before


def test_a_subset_restricts_the_logits_and_a_map_takes_the_largest(models, tmp_path) -> None:
    tiny_image_folder(tmp_path / "subset", 6, seed=5, classes=("cat", "dog", "cat"))
    tiny_image_folder(tmp_path / "mapped", 6, seed=6, classes=("pet", "bird", "pet"))
    whole = {"subset": {"path": "subset"}}
    projected = {
        "subset": {"path": "subset", "class_subset": "present"},
        "mapped": {"path": "mapped", "class_map": {"bird": "owl", "pet": ["cat", "dog"]}},
    }
    soup = single(members(models, "vit")[0])
    data = {"path": "photos", "held_out": {"rows": 9}, "shifts": whole}
    tiny_image_folder(tmp_path / "photos", 9)
    content = {"family": "image-classification", "data": data, "evaluation": {"device": "cpu", "precision": "fp32"}}
    plain = load_task(content, models / "vit-1", folder=tmp_path).predict(soup, "shift:subset")
    task = load_task({**content, "data": {**data, "shifts": projected}}, models / "vit-1", folder=tmp_path)
    subset, mapped = task.predict(soup, "shift:subset"), task.predict(soup, "shift:mapped")
    assert np.array_equal(subset.logits, plain.logits[:, :2])
    assert np.array_equal(subset.labels, plain.labels)
    assert mapped.logits.shape == (6, 2)
    assert mapped.labels.tolist() == [0 if "bird" in item else 1 for item in task.item_ids("shift:mapped")]


def test_images_shared_by_splits_are_refused(models, tmp_path) -> None:
    tiny_image_folder(tmp_path / "a", 6)
    tiny_image_folder(tmp_path / "b", 9)  # the same first six
    content = {
        "family": "image-classification", "data": {"held_out": {"path": "a"}, "test": {"path": "b"}},
    }  # fmt: skip
    with pytest.raises(DataError, match="share") as caught:
        load_task(content, models / "vit-1", folder=tmp_path)
    assert "6 of 9" in caught.value.problems[0]


def test_an_image_that_is_none_is_named(models, tmp_path) -> None:
    path = tiny_image_task(tmp_path)
    item = load_task(path, models / "vit-1").item_ids("test")[3]
    (tmp_path / item.replace(":", "/")).write_bytes(b"no image")
    task = load_task(path, models / "vit-1")
    with pytest.raises(DataError, match=item):
        task.predict(single(members(models, "vit")[0]), "test")


def test_a_cache_too_small_says_what_it_needs(models, tmp_path) -> None:
    cache = image_cache.ImageCache(tmp_path, limit_bytes=100)
    with pytest.raises(ConfigError, match="cache may hold"):
        cache.pixels("key", 2, lambda row: np.zeros((3, 8, 8), np.uint8))


def test_without_timm_the_extra_is_named(tmp_path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="vision"):
        image_models.image_model(tmp_path, {"architecture": "resnet18"})


def test_a_timm_model_is_its_own_forward(tmp_path) -> None:
    timm = pytest.importorskip("timm", reason="timm does not import here", exc_type=Exception)
    import json

    import torch
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=3).eval()
    config = {"architecture": "resnet10t", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 32, 32]}}
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "m" / "model.safetensors")
    task = load_task(tiny_image_task(tmp_path), tmp_path / "m")
    found = task.predict(single(Ingredient("m", str(tmp_path / "m"))), "held_out").logits
    settings = timm.data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
    transform = timm.data.create_transform(**settings, is_training=False)
    for row, item in enumerate(task.item_ids("held_out")):
        with Image.open(tmp_path / item.replace(":", "/")) as image, torch.no_grad():
            expected = model(transform(image.convert("RGB"))[None])[0].numpy()
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-4)


def test_a_preprocessing_for_other_channels_is_told(tmp_path: Path) -> None:
    folder = tiny_image_model(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_channels": 1}))
    task = load_task(tiny_image_task(tmp_path), folder)
    with pytest.raises(ConfigError, match=r"does not fit images of 1 channel, which config\.json asks for"):
        task.pixels("held_out")


def test_scored_splits_that_do_not_fit_into_the_cache_together_are_refused_before_one_is_made(models, tmp_path) -> None:
    """12 held-out, 12 test, 6 + 12 corrupted images of 3 x 16 x 16 bytes, in four files."""
    needed = 42 * 768 + 4 * 128
    for n_bytes, fits in ((needed, True), (needed - 1, False)):
        path = tiny_image_task(tmp_path)
        content = json.loads(path.read_text())
        content["data"] |= {"cache_gib": n_bytes / 2**30, "cache": f"cache-{n_bytes}"}
        task = load_task(content, models / "vit-1", folder=tmp_path)
        if fits:
            for split in task.splits:
                task.prepare(split)
            assert task.unprepared == ()
            continue
        with pytest.raises(
            ConfigError, match=r"held_out, test, shift:noise, shift:blur take .* together.*again"
        ) as caught:
            task.prepare("test")
        assert "cache_gib" in str(caught.value)
        assert not list((tmp_path / f"cache-{n_bytes}").glob("*.npy"))


def test_training_images_without_room_are_decoded_at_each_look_to_the_same_pixels(models, tmp_path) -> None:
    content = json.loads(tiny_image_task(tmp_path, n=48).read_text())
    content["data"] |= {"train": {"rows": 12}, "held_out": {"rows": 12}, "test": {"rows": 12}}
    tasks = {}
    for name, n_images in (("kept", 54), ("anew", 53)):  # 12 + 12 + 12 + 6 + 12
        content["data"] |= {"cache_gib": (n_images * 768 + 5 * 128) / 2**30, "cache": f"cache-{name}"}
        tasks[name] = load_task(content, models / "vit-1", folder=tmp_path)
        for split in tasks[name].splits:
            tasks[name].prepare(split)
    kept, anew = tasks["kept"], tasks["anew"]
    assert (kept.keeps_training_images, anew.keeps_training_images) == (True, False)
    for rows in ([3], [5, 0, 11]):
        assert np.array_equal(kept.source("train")(rows), anew.source("train")(rows))
    inputs = [[batch.inputs["pixel_values"] for batch in task.input_batches("train", 5)] for task in (kept, anew)]
    assert all(np.array_equal(one, two) for one, two in zip(*inputs, strict=True))
    assert anew.unprepared == ()  # nothing of what is scored had to go


def preprocessing(folder: Path, **changes: object) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_a_preprocessing_that_leaves_sizes_as_they_are_takes_images_of_one_size(tmp_path: Path) -> None:
    from PIL import Image

    model = preprocessing(tiny_image_model(tmp_path / "model", "convnext"), do_resize=False)
    tiny_image_task(tmp_path)
    assert load_task(tmp_path / "task.yaml", model).pixels("test").shape[1:] == (3, 20, 24)
    odd = tmp_path / "photos" / load_task(tmp_path / "task.yaml", model).item_ids("test")[3].partition(":")[2]
    Image.open(odd).resize((30, 40)).save(odd)
    with pytest.raises(DataError, match=rf"{odd.name}: 30 x 40 pixels .* the first image has 24 x 20"):
        load_task(tmp_path / "task.yaml", model).pixels("test")


def test_bytes_that_nothing_scales_reach_the_network_as_numbers(tmp_path: Path) -> None:
    model = preprocessing(tiny_image_model(tmp_path / "model", "convnext"), do_rescale=False, do_normalize=False)
    task = load_task(tiny_image_task(tmp_path), model)
    values = task.input_batches("test", 4)[0].inputs["pixel_values"]
    assert values.dtype == np.float32
    assert np.array_equal(values, task.pixels("test")[:4])
