"""A run is what a plain loop of torch makes: schedule, clipping, decay, smoothing, rates by block, moving average."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from stockpot.config import RunSettings, load_task_config  # noqa: E402
from stockpot.sweeps import fine_tuning  # noqa: E402
from stockpot.sweeps.families import fine_tuned  # noqa: E402
from stockpot.tasks import load_task  # noqa: E402
from tiny_images import tiny_image_model, tiny_image_task  # noqa: E402
from tiny_models import tiny_classifier, tiny_task  # noqa: E402

N_ROWS, N_EPOCHS, N_WARM = 20, 5, 2
RATE, DECAY, SMOOTHING, LAYER_DECAY, AVERAGE = 3e-3, 0.3, 0.2, 0.6, 0.7
#: A share of what the gradients of both networks are long.
LONGEST = 0.3
SETTINGS: dict[str, Any] = {
    "learning_rate": RATE, "weight_decay": DECAY, "epochs": N_EPOCHS, "warmup_steps": N_WARM, "schedule": "cosine",
    "batch_size": N_ROWS, "max_grad_norm": LONGEST, "label_smoothing": SMOOTHING, "layer_decay": LAYER_DECAY,
    "ema_decay": AVERAGE, "seed": 1,
}  # fmt: skip
#: Blocks between embeddings and head, as they are named.
BLOCKS = {"vit": ("layers.0.", "layers.1."), "resnet": ("stages.0.layers.0.", "stages.1.layers.0.")}


def home(folder: Path, architecture: str) -> Path:
    tiny_image_model(folder / "start", architecture)
    content = json.loads(tiny_image_task(folder, n=60).read_text())
    content["data"]["train"] = {"rows": N_ROWS}
    (folder / "task.yaml").write_text(json.dumps(content))
    return folder


def rate_of(name: str, architecture: str) -> float:
    blocks = BLOCKS[architecture]
    depth = next((at + 1 for at, block in enumerate(blocks) if block in name), 0 if "embed" in name else 3)
    return RATE * LAYER_DECAY ** (3 - depth)


def loaded(folder: Path) -> dict[str, Any]:
    return {**transformers.AutoModelForImageClassification.from_pretrained(folder).state_dict()}


def loop(folder: Path, architecture: str) -> tuple[Any, dict[str, Any]]:
    """All rows in every step, so their order is nothing."""
    task: Any = load_task(load_task_config(folder / "task.yaml"), folder / "start", folder=folder, n_threads=1)
    pixels = torch.cat([torch.from_numpy(batch.inputs["pixel_values"]) for batch in task.input_batches("train", 4)])
    rows = [row for batch in task.input_batches("train", 4) for row in batch.rows]
    labels = torch.from_numpy(task.labels("train"))[rows]
    model = transformers.AutoModelForImageClassification.from_pretrained(folder / "start").train()
    named = dict(model.named_parameters())
    optimiser = torch.optim.AdamW(
        [
            {
                "params": [value],
                "weight_decay": DECAY * (value.ndim > 1),
                "lr": 0.0,
                "peak": rate_of(name, architecture),
            }
            for name, value in named.items()
        ]
    )
    average = {name: value.detach().clone() for name, value in named.items()}
    lengths = []
    for step in range(N_EPOCHS):
        share = (1 + math.cos(math.pi * (step - N_WARM) / (N_EPOCHS - N_WARM))) / 2
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * (step / N_WARM if step < N_WARM else share)
        loss = torch.nn.functional.cross_entropy(model(pixel_values=pixels).logits, labels, label_smoothing=SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        lengths.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), LONGEST)))
        optimiser.step()
        for name, value in named.items():
            average[name] = AVERAGE * average[name] + (1 - AVERAGE) * value.detach()
    assert min(lengths) > LONGEST, "clipping acts in every step"
    return {**model.state_dict()}, average


@pytest.mark.parametrize(("architecture", "rows_at_once"), [("vit", None), ("vit", 7), ("resnet", None)])
def test_a_run_is_the_plain_loop(tmp_path: Path, architecture: str, rows_at_once: int | None) -> None:
    home(tmp_path, architecture)
    weights, average = loop(tmp_path, architecture)
    fine_tuning.make_ingredient(
        {
            "name": "run", "settings": SETTINGS, "task": load_task_config(tmp_path / "task.yaml").model_dump_json(),
            "task_folder": str(tmp_path), "initialisation": str(tmp_path / "start"), "target": str(tmp_path / "run"),
            "journal": str(tmp_path / "journal"), "rows_at_once": rows_at_once,
        }
    )  # fmt: skip
    start, made, averaged = (loaded(tmp_path / name) for name in ("start", "run", "run/ema"))
    for name, value in average.items():
        if name.endswith("k_proj.bias"):
            continue  # softmax does not see it: its gradient is rounding
        way = float((made[name] - start[name]).abs().max())
        assert way > 1e-5, name
        assert torch.allclose(made[name], weights[name], rtol=0, atol=0.02 * way), name
        assert torch.allclose(averaged[name], value, rtol=0, atol=0.02 * way), name


@pytest.mark.parametrize("n_gpus", [1, 4])
def test_the_loss_is_that_of_the_rows_however_many_gpus_share_them(tmp_path: Path, n_gpus: int) -> None:
    home(tmp_path, "vit")
    task: Any = load_task(load_task_config(tmp_path / "task.yaml"), tmp_path / "start", folder=tmp_path, n_threads=1)
    settings = RunSettings(batch_size=N_ROWS)
    run = fine_tuned("image-classification").trainable(settings, task, tmp_path / "start")
    trainer = transformers.Trainer(
        model=run.model,
        args=fine_tuning._training_arguments(settings, task, run, str(tmp_path / "scratch"), fine_tuning._Loading()),
        compute_loss_func=run.loss,
    )
    trainer.args._n_gpu = n_gpus
    batch = run.collator([run.examples[row] for row in range(N_ROWS)])
    known = SimpleNamespace(logits=run.model(pixel_values=batch["pixel_values"]).logits)
    assert run.loss is not None
    expected = run.loss(known, batch["labels"])
    counted = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    assert torch.allclose(trainer.compute_loss(run.model, dict(batch), num_items_in_batch=counted), expected)


def test_texts_in_parts_of_a_step_are_the_whole_step(tmp_path: Path) -> None:
    tiny_classifier(tmp_path / "start")
    task = load_task_config(tiny_task(tmp_path))
    for name, at_once in (("whole", None), ("parts", 3)):
        settings = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 12, "dropout": 0.0, "label_smoothing": 0.1}
        fine_tuning.make_ingredient(
            {
                "name": name, "settings": settings, "task": task.model_dump_json(), "task_folder": str(tmp_path),
                "initialisation": str(tmp_path / "start"), "target": str(tmp_path / name),
                "journal": str(tmp_path / "journal"), "rows_at_once": at_once,
            }
        )  # fmt: skip
    start, whole, parts = (
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / name).state_dict()
        for name in ("start", "whole", "parts")
    )
    for name, value in whole.items():
        way = float((value - start[name]).abs().max())
        if name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding
        assert torch.allclose(parts[name], value, rtol=0, atol=0.02 * way + 1e-7), name
    assert any(not torch.equal(start[name], value) for name, value in whole.items())
