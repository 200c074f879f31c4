"""Writes scikit-learn's handwritten digits as IDX files, and a small network that was pre-trained on turned digits.

    python experiments/digits/prepare.py out/digits [--epochs 30] [--seed 0]

The 1,797 digits (8 x 8 pixels, UCI, Alpaydin and Kaynak 1998) are split once, by the seed: 1,200 to draw from, 597 to
test on. The network is a ConvNeXt that tells quarter turns of the 1,200 apart, without their labels; it sees no test
digit. OUT gets data/ and base/. Needs the extras `hf` and `eval`. Half a minute.

Source: Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations".
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np
import torch
import transformers
from sklearn.datasets import load_digits
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

N_TEST = 597


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    digits = load_digits()
    order = np.random.default_rng(arguments.seed).permutation(len(digits.target))
    images = np.round(digits.images[order] * 255 / 16).astype(np.uint8)
    labels = digits.target[order].astype(np.uint8)
    write_idx(arguments.folder / "data", "test", images[:N_TEST], labels[:N_TEST])
    write_idx(arguments.folder / "data", "train", images[N_TEST:], labels[N_TEST:])
    model = network()
    turned = train(model, torch.from_numpy(images[N_TEST:]), epochs=arguments.epochs, seed=arguments.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; turns told apart at the end: {turned:.1%}")
    model.save_pretrained(arguments.folder / "base")
    ViTImageProcessorPil(
        do_resize=False, size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5], do_convert_rgb=False
    ).save_pretrained(arguments.folder / "base")


def write_idx(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Two files in MNIST's format."""
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">4I", 0x803, *images.shape)
    (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images.tobytes(), mtime=0))
    head = struct.pack(">2I", 0x801, len(labels))
    (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + labels.tobytes(), mtime=0))


def network() -> torch.nn.Module:
    config = transformers.ConvNextConfig(
        num_channels=1, image_size=8, patch_size=1, hidden_sizes=[24, 48], depths=[1, 2], num_stages=2, num_labels=4
    )
    return transformers.AutoModelForImageClassification.from_config(config)


def train(model: torch.nn.Module, pixels: torch.Tensor, *, epochs: int, seed: int) -> float:
    """AdamW with one cycle; returns the last epoch's accuracy."""
    batch, right = 50, 0
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = epochs * (len(pixels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps)
    model.train()
    for _ in range(epochs):
        right = 0
        turns = torch.randint(0, 4, (len(pixels),), generator=generator)
        for rows in torch.randperm(len(pixels), generator=generator).split(batch):
            inputs = torch.stack([torch.rot90(pixels[row], int(turns[row])) for row in rows])
            logits = model(pixel_values=(inputs[:, None].float() / 255 - 0.5) / 0.5).logits
            torch.nn.functional.cross_entropy(logits, turns[rows]).backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            right += int((logits.argmax(dim=1) == turns[rows]).sum())
    return right / len(pixels)


if __name__ == "__main__":
    main()
