"""Pre-trains a small ConvNeXt by predicting by which quarter turn an unlabelled image was rotated.

    python experiments/fashion-mnist/pretrain.py out/fashion-mnist-base [--epochs 3] [--images PATH] [--seed 0]

It sees the 60,000 training images without their labels, the task's held-out images among them, and no test image.
The folder has config.json, weights with a head for four turns, and preprocessing for `image-classification` tasks.
Needs the extra `hf`. About 8 minutes on two cores.

Source: Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations".
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

IMAGES = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--limit", type=int, default=None, help="only the first images")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    pixels = torch.from_numpy(read_images(arguments.images)[: arguments.limit])
    model = network()
    turned = train(model, pixels, epochs=arguments.epochs, generator=torch.Generator().manual_seed(arguments.seed))
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters; turns told apart in the last epoch: {turned:.1%}"
    )
    model.save_pretrained(arguments.folder)
    # Scaled to [-1, 1], at the images' own size.
    ViTImageProcessorPil(
        do_resize=False, size={"height": 28, "width": 28}, image_mean=[0.5], image_std=[0.5], do_convert_rgb=False
    ).save_pretrained(arguments.folder)


def network() -> torch.nn.Module:
    """Three stages of 32, 64 and 128 channels, 265 thousand parameters, layer norms only."""
    config = transformers.ConvNextConfig(
        num_channels=1, image_size=28, patch_size=2, hidden_sizes=[32, 64, 128], depths=[1, 2, 1], num_stages=3,
        num_labels=4,
    )  # fmt: skip
    return transformers.AutoModelForImageClassification.from_config(config)


def read_images(path: Path) -> np.ndarray:
    """[n, height, width] uint8 of an IDX file."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    sizes = np.frombuffer(content[4:16], ">i4")
    return np.frombuffer(content, np.uint8, offset=16).reshape(sizes).copy()


def train(model: torch.nn.Module, pixels: torch.Tensor, *, epochs: int, generator: torch.Generator) -> float:
    """AdamW with one cycle; returns the last epoch's accuracy."""
    batch, right = 128, 0
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
    steps = epochs * (len(pixels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(pixels), generator=generator)
        turns = torch.randint(0, 4, (len(pixels),), generator=generator)
        right = 0
        for rows in order[: len(pixels) // batch * batch].split(batch):
            inputs = torch.stack([torch.rot90(pixels[row], int(turns[row])) for row in rows])
            values = (inputs[:, None].float() / 255 - 0.5) / 0.5
            logits = model(pixel_values=values).logits
            torch.nn.functional.cross_entropy(logits, turns[rows]).backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            right += int((logits.argmax(dim=1) == turns[rows]).sum())
        print(f"epoch {epoch + 1} of {epochs}: {right / (len(pixels) // batch * batch):.1%} of the turns", flush=True)
    return right / (len(pixels) // batch * batch)


if __name__ == "__main__":
    main()
