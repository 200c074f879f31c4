"""Image-text models: zero-shot heads and evaluation equal the libraries' own calls, towers with heads load anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stockpot import ingredients, uniform, write
from stockpot.config import ClipTaskConfig, ZeroShotConfig, task_config
from stockpot.errors import ConfigError, StockpotError
from stockpot.experiment import compare
from stockpot.experiment.running import run
from stockpot.recipes import single
from stockpot.sweeps.head import prepare_initialisation
from stockpot.tasks import load_task
from stockpot.tasks.dual_encoders import is_open_clip
from stockpot.tasks.prompts import class_prompts
from tiny_clip import OPEN_CLIP, tiny_clip, tiny_clip_task, tiny_open_clip
from tiny_images import CLASSES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEMPLATES = ("a photo of a {}.", "my {}.")


def library(kind: str) -> str:
    if kind == "open_clip":
        pytest.importorskip("open_clip")
    return kind


def pictures_of(task, folder: Path, split: str):
    from PIL import Image

    paths = [folder / "photos" / item.partition(":")[2] for item in task.item_ids(split)]
    return [Image.open(path).convert("RGB") for path in paths]


def zero_shot_logits(folder: Path, kind: str, pictures) -> np.ndarray:
    """In the libraries' own words."""
    with torch.inference_mode():
        if kind == "open_clip":
            import open_clip

            model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", precision="fp32")
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
            head = open_clip.build_zero_shot_classifier(model.eval(), tokenizer, CLASSES, TEMPLATES)
            images = model.encode_image(torch.stack([preprocess(picture) for picture in pictures]), normalize=True)
            return (model.logit_scale.exp() * images @ head).numpy()
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        columns = []
        for name in CLASSES:
            made = []
            for template in TEMPLATES:
                tokens = tokenizer(template.format(name), return_tensors="pt")
                # The whole model's own answer: embeddings of image and text, normalised by it.
                made.append(model(pixel_values=pixels[:1], **tokens).text_embeds[0])
            mean = torch.stack(made).mean(dim=0)
            columns.append(mean / mean.norm())
        tokens = tokenizer("a", return_tensors="pt")
        images = torch.cat([model(pixel_values=one[None], **tokens).image_embeds for one in pixels])
        scale = model.logit_scale.exp() if kind == "clip" else 1 / model.temperature
        return (scale * images @ torch.stack(columns).T).numpy()


@pytest.mark.parametrize("kind", ["clip", "align", "open_clip"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_whole_models_classify_as_in_their_own_library(tmp_path: Path, kind: str, dtype: str) -> None:
    for seed in (1, 2):
        tiny_clip(tmp_path / f"run-{seed}", library(kind), seed=seed, dtype=dtype)
    runs = ingredients(tmp_path / "run-*")
    task = load_task(tiny_clip_task(tmp_path, labels=CLASSES), runs[0])
    pictures = pictures_of(task, tmp_path, "held_out")
    for ingredient in (*runs, runs[0]):  # the head follows the weights, there and back
        expected = zero_shot_logits(Path(ingredient.source), kind, pictures)
        assert np.ptp(expected) > 0.5
        assert np.allclose(task.predict(single(ingredient), "held_out").logits, expected, atol=2e-3, rtol=1e-4)
    write(uniform(runs), tmp_path / "soup")
    soup = single(ingredients(tmp_path / "soup")[0])
    found = load_task(tmp_path / "task.yaml", tmp_path / "soup").predict(soup, "held_out").logits
    assert np.allclose(found, zero_shot_logits(tmp_path / "soup", kind, pictures), atol=2e-3, rtol=1e-4)


def tower_logits(folder: Path, kind: str, pictures) -> np.ndarray:
    """Tower by the library's own loader, head by hand."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    with torch.inference_mode():
        if kind == "open_clip":
            import open_clip

            model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", load_weights=False)
            left = open_clip.load_checkpoint(model, folder / "model.safetensors", strict=False)
            assert set(left.unexpected_keys) == {"head.weight", "head.bias"}
            assert not [name for name in left.missing_keys if name.startswith("visual.")]
            features = model.eval().encode_image(torch.stack([preprocess(picture) for picture in pictures]))
        else:
            made = {"clip": transformers.CLIPVisionModelWithProjection, "align": transformers.AlignVisionModel}[kind]
            model, report = made.from_pretrained(folder, output_loading_info=True)
            assert not report["missing_keys"]
            processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
            output = model.eval()(processor(pictures, return_tensors="pt")["pixel_values"])
            features = output.image_embeds if kind == "clip" else output.pooler_output
        features = features / features.norm(dim=-1, keepdim=True)
        return (features @ weights["head.weight"].T + weights["head.bias"]).numpy()


def started(folder: Path, kind: str, head: str) -> Path:
    tiny_clip(folder / "base", library(kind))
    content = json.loads(tiny_clip_task(folder, n=60).read_text())
    content["data"]["train"] = {"rows": 20}
    task = load_task(content, folder / "base", folder=folder, own_labels=False)
    prepare_initialisation(task, folder / "base", folder / "start", head=head, seed=0)
    return folder / "start"


@pytest.mark.parametrize("kind", ["clip", "align", "open_clip"])
def test_the_zero_shot_head_gives_the_logits_of_the_whole_model(tmp_path: Path, kind: str) -> None:
    start = started(tmp_path, kind, "zero-shot")
    task = load_task(tmp_path / "task.yaml", start)
    pictures = pictures_of(task, tmp_path, "held_out")
    expected = zero_shot_logits(tmp_path / "base", kind, pictures)
    found = task.predict(single(ingredients(start)[0]), "held_out").logits
    assert np.allclose(found, expected, atol=2e-3, rtol=1e-4)
    assert np.allclose(found, tower_logits(start, kind, pictures), atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "align", "open_clip"])
def test_an_experiment_ends_with_towers_that_the_library_loads(in_process, tmp_path: Path, kind: str) -> None:
    tiny_clip(tmp_path / "base", library(kind))
    content = json.loads(tiny_clip_task(tmp_path, n=60).read_text())
    content["data"] |= {"train": {"rows": 20}, "path": str(tmp_path / "photos"), "cache": str(tmp_path / "cache")}
    experiment = {
        "name": "clip", "task": content, "initialisation": str(tmp_path / "base"), "head": "linear-probe",
        "sweep": {"runs": 2, "space": {"learning_rate": {"log_uniform": [1e-4, 1e-3]}, "epochs": 1}},
        "recipes": ["uniform", "greedy", "learned_by_layer", "ensemble"],
        "learned": {"epochs": 1, "least_steps": 4, "batch_size": 4, "fold": True},
    }  # fmt: skip
    found = run(experiment, tmp_path / "out")
    assert {row.method for row in found.rows} >= {"best", "uniform", "greedy", "learned_by_layer"}
    task = load_task(content, tmp_path / "out" / "initialisation")
    pictures = pictures_of(task, tmp_path, "test")
    labels = task.labels("test")
    for method in ("uniform", "learned_by_layer"):
        score = next(row for row in found.rows if row.method == method).scores["test"].value
        logits = tower_logits(tmp_path / "out" / method, kind, pictures)
        assert score == pytest.approx(float(np.mean(logits.argmax(axis=1) == labels)))


def test_moving_averages_frozen_layers_and_layer_decay_know_the_tower(in_process, tmp_path: Path) -> None:
    tiny_clip(tmp_path / "base")
    content = json.loads(tiny_clip_task(tmp_path, n=60).read_text())
    content["data"] |= {"train": {"rows": 20}, "path": str(tmp_path / "photos"), "cache": str(tmp_path / "cache")}
    space = {
        "learning_rate": 1e-3, "epochs": 1, "ema_decay": 0.9, "layer_decay": 0.7, "dropout": 0.1,
        "freeze": ["vision_model.embeddings.*"],
    }  # fmt: skip
    experiment = {
        "name": "clip", "task": content, "initialisation": str(tmp_path / "base"), "head": "zero-shot",
        "sweep": {"runs": 1, "space": space}, "recipes": ["uniform"],
    }  # fmt: skip
    run(experiment, tmp_path / "out")
    from safetensors.numpy import load_file

    start, own, average = (
        load_file(tmp_path / "out" / place / "model.safetensors")
        for place in ("initialisation", "ingredients/run-00", "ingredients/run-00/ema")
    )
    assert set(start) == set(own) == set(average)
    for name in start:
        is_frozen = name.startswith("vision_model.embeddings.")
        assert np.array_equal(start[name], own[name]) == is_frozen, name
    assert not np.array_equal(own["head.weight"], average["head.weight"])
    config = json.loads((tmp_path / "out" / "ingredients" / "run-00" / "config.json").read_text())
    assert config["attention_dropout"] == 0.0
    assert list(config["id2label"].values()) == list(CLASSES)


@pytest.mark.parametrize("kind", ["clip", "open_clip"])
def test_a_whole_model_has_no_head_of_its_own(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match="whole dual encoder, which has no classifier head"):
        started(tmp_path, kind, "own")


def test_prompts_are_templates_times_names() -> None:
    config = ZeroShotConfig(templates=("a {}", "{}s"), class_names={"n01": "tench", "n02": "cock"})
    assert class_prompts(config, ["n02", "n01"]) == (["a cock", "cocks", "a tench", "tenchs"], 2)
    with pytest.raises(ConfigError) as caught:
        class_prompts(config, ["n01", "n03"])
    assert len(caught.value.problems) == 2


def test_the_tower_of_coca_gives_the_embedding_that_the_whole_model_takes(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    text = {**OPEN_CLIP["model_cfg"]["text_cfg"], "embed_cls": True, "output_tokens": True}
    vision = {**OPEN_CLIP["model_cfg"]["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2}
    cfg = {
        **OPEN_CLIP["model_cfg"], "custom_text": True, "text_cfg": text,
        "vision_cfg": {**vision, "output_tokens": True}, "multimodal_cfg": {**text, "attn_pooler_heads": 2},
    }  # fmt: skip
    tiny_open_clip(tmp_path / "base", cfg)
    content = json.loads(tiny_clip_task(tmp_path, n=18).read_text())
    task = load_task(content, tmp_path / "base", folder=tmp_path, own_labels=False)
    prepare_initialisation(task, tmp_path / "base", tmp_path / "start", head="zero-shot", seed=0)
    found = [
        load_task(content, tmp_path / name, folder=tmp_path).predict(single(ingredients(tmp_path / name)[0]), "test")
        for name in ("base", "start")
    ]
    assert np.ptp(found[0].logits) > 0.1
    assert np.allclose(found[0].logits, found[1].logits, atol=1e-4)


@pytest.mark.parametrize("change", [{"resize_mode": "wide"}, {"interpolation": "cubist"}, {"mean": [0.5, 0.5]}])
def test_a_preprocessing_that_open_clip_does_not_know_is_told(tmp_path: Path, change) -> None:
    folder = tiny_clip(tmp_path / "model", library("open_clip"))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    task = load_task(tiny_clip_task(tmp_path, labels=CLASSES), folder)
    with pytest.raises(ConfigError, match=r"no preprocessing from preprocess_cfg .*" + next(iter(change))):
        task.pixels("test")


def test_open_clips_model_may_stand_beside_timms_image_tower(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "both", library("open_clip"))
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch32_clip_224", "num_classes": 0}))
    assert is_open_clip(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert not is_open_clip(folder)


def test_imagenets_prompts_are_those_of_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip")
    config = ZeroShotConfig(templates="imagenet", class_names="imagenet")
    prompts, n_templates = class_prompts(config, [f"n{number}" for number in range(1000)])
    assert n_templates == 80
    assert len(prompts) == 80_000
    expected = [
        template(name) for name in open_clip.IMAGENET_CLASSNAMES for template in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]
    assert prompts == expected
    with pytest.raises(ConfigError, match="1000 names, the task has 3"):
        class_prompts(config, CLASSES)


def test_bad_input_is_told_with_its_place(tmp_path: Path) -> None:
    tiny_clip(tmp_path / "base")
    path = tiny_clip_task(tmp_path)
    content = json.loads(path.read_text())
    with pytest.raises(ConfigError, match=r"a sentence with \{\} for the class"):
        task_config({**content, "zero_shot": {"templates": ["a photo"]}}, tmp_path)
    with pytest.raises(ConfigError, match="one name for each label"):
        task_config({**content, "labels": CLASSES, "zero_shot": {"class_names": {"cat": "cat"}}}, tmp_path)
    task = load_task(path, tmp_path / "base")
    assert isinstance(task.config, ClipTaskConfig)
    with pytest.raises(ConfigError, match="learned soups do not follow"):
        task.check_learnable(fold=False)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="no dual encoder known here; known: clip, align"):
        load_task(path, tmp_path / "bert")
    (tmp_path / "base" / "tokenizer.json").unlink()
    (tmp_path / "base" / "tokenizer_config.json").unlink()
    with pytest.raises(StockpotError, match="tokenizer"):
        load_task(path, tmp_path / "base").predict(single(ingredients(tmp_path / "base")[0]), "held_out")


def test_old_checkpoints_may_hold_positions_that_the_network_counts_itself(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tiny_clip(tmp_path / "base")
    task = load_task(tiny_clip_task(tmp_path, labels=CLASSES), folder)
    before = task.predict(single(ingredients(folder)[0]), "held_out").logits
    weights = load_file(folder / "model.safetensors")
    for tower, n in (("text", 16), ("vision", 5)):
        weights[f"{tower}_model.embeddings.position_ids"] = np.arange(n)[None]
    (tmp_path / "old").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / "old" / name).write_bytes((folder / name).read_bytes())
    save_file(weights, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    found = load_task(tmp_path / "task.yaml", tmp_path / "old")
    assert np.array_equal(found.predict(single(ingredients(tmp_path / "old")[0]), "held_out").logits, before)


def test_compare_leaves_out_what_zero_shot_models_cannot_learn_unless_it_was_asked_for(tmp_path: Path) -> None:
    for seed in (1, 2):
        tiny_clip(tmp_path / f"run-{seed}", seed=seed)
    runs = ingredients(tmp_path / "run-*")
    path = tiny_clip_task(tmp_path, labels=CLASSES)
    found = compare(runs, task=path, out=tmp_path / "out")
    methods = {row.method for row in found.rows}
    assert methods >= {"best", "uniform", "greedy", "ensemble"}
    assert not [name for name in methods if name.startswith("learned")]
    assert [note for note in found.notes if note.startswith("Without learned soups: ")]
    assert compare(runs, task=path, out=tmp_path / "out") == found
    with pytest.raises(ConfigError, match="learned soups do not follow"):
        compare(runs, task=path, recipes=["learned"])


@pytest.mark.parametrize("head", ["zero-shot", None])
def test_in_bf16_the_head_is_not_rounded(tmp_path: Path, head: str | None) -> None:
    folder = started(tmp_path, "clip", head) if head else tiny_clip(tmp_path / "base")
    content = json.loads(tiny_clip_task(tmp_path, labels=CLASSES).read_text())
    found = {}
    for precision in ("fp32", "bf16"):
        content["evaluation"]["precision"] = precision
        task = load_task(content, folder, folder=tmp_path)
        found[precision] = task.predict(single(ingredients(folder)[0]), "held_out").logits
    rounded = torch.from_numpy(found["bf16"]).bfloat16().float().numpy()
    assert (rounded != found["bf16"]).mean() > 0.9
    assert np.abs(found["bf16"] - found["fp32"]).max() < 0.05 * np.ptp(found["fp32"])
