"""Small real image models and data for tests: random weights, real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CLASSES = ("cat", "dog", "owl")
ARCHITECTURES = ("vit", "swin", "convnext", "resnet")


def tiny_image_config(architecture: str, labels=CLASSES):
    import transformers

    names = {"id2label": dict(enumerate(labels)), "label2id": {name: at for at, name in enumerate(labels)}}
    narrow = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if architecture == "vit":
        return transformers.ViTConfig(image_size=16, patch_size=8, **narrow, **names)
    if architecture == "swin":
        return transformers.SwinConfig(
            image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=2, **names
        )
    if architecture == "convnext":
        return transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2, **names)
    return transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **names)


def tiny_image_model(
    folder: Path,
    architecture: str = "vit",
    *,
    seed: int = 0,
    dtype: str = "float32",
    own_statistics: bool = True,
    labels=CLASSES,
) -> Path:
    """A random image classifier for 16 x 16 pixels with its preprocessing, as `save_pretrained` writes them.

    Without `own_statistics` those of batch normalisation are as new.
    """
    import torch
    from transformers import AutoModelForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(seed)
    model = AutoModelForImageClassification.from_config(tiny_image_config(architecture, labels))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "classifier" in name:
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and "running_var" not in name and (own_statistics or "running" not in name):
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def tiny_pictures(n: int, *, seed: int = 0, side: int = 20) -> list[tuple[np.ndarray, int]]:
    """n different pictures of three classes, each class with a colour of its own."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(n):
        label = number % len(CLASSES)
        pixels = generator.integers(0, 160, (side, side + 4, 3), dtype=np.uint8)
        pixels[:, :, label] += 90
        made.append((pixels, label))
    return made


def tiny_image_folder(folder: Path, n: int, *, seed: int = 0, classes=CLASSES) -> Path:
    from PIL import Image

    for number, (pixels, label) in enumerate(tiny_pictures(n, seed=seed)):
        (folder / classes[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / classes[label] / f"{number:03}.png")
    return folder


def tiny_image_task(folder: Path, *, n: int = 36, **changes: object) -> Path:
    """A task.yaml over class folders of `tiny_pictures` in the same folder."""
    tiny_image_folder(folder / "photos", n)
    content = {
        "family": "image-classification",
        "data": {
            "path": "photos", "held_out": {"rows": n // 3}, "test": {"rows": n // 3},
            "shifts": {
                "noise": {"of": "test", "first": 6, "corrupt": "noise", "severity": 3},
                "blur": {"of": "test", "corrupt": "blur", "severity": 5},
            },
        },
        "evaluation": {"batch_size": 5, "precision": "fp32", "device": "cpu"}, **changes,
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
