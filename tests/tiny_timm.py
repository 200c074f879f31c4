"""Small random classifiers of timm for tests, as timm writes them."""

from __future__ import annotations

from pathlib import Path

from tiny_images import CLASSES


def tiny_timm(
    folder: Path,
    architecture: str = "test_vit",
    *,
    seed: int = 0,
    dtype: str = "float32",
    n_classes: int = len(CLASSES),
    **written: object,
) -> Path:
    """A random network for pictures of 32 x 32 pixels, with a preprocessing of its own; `written` into config.json."""
    import timm
    import torch

    torch.manual_seed(seed)
    sized = {"img_size": 32} if "vit" in architecture else {}
    model = timm.create_model(architecture, num_classes=n_classes, **sized)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    changes = {"input_size": (3, 32, 32), "crop_pct": 0.9, "mean": (0.4, 0.5, 0.6)}
    config = {"pretrained_cfg": {**model.pretrained_cfg, **changes}, **written}
    model.to(getattr(torch, dtype))
    timm.models.save_for_hf(model, folder, model_config=config, model_args=sized, safe_serialization=True)
    return folder
