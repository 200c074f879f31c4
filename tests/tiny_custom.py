"""A small network of a user's own, and its data, for tests: real files, modules of names that nobody else has."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

from stockpot.types import Ingredient

_numbers = count()

CODE = """
import numpy as np
import torch


class Both(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(7, 3)

    def forward(self, values, words):
        return self.head(torch.cat([values, self.norm(self.words(words).mean(1))], dim=1))


def build():
    return Both()


def load(split, settings):
    draw = np.random.default_rng(len(split) if not split.startswith("shift") else len("test"))
    n = settings["rows"]
    labels = draw.integers(0, 3, 40)[:n]
    values, words = draw.normal(size=(40, 3))[:n] + np.eye(3)[labels], draw.integers(0, 7, (40, 5))[:n]
    return {"values": (values + settings.get("offset", 0)).astype(np.float32), "words": words}, labels
"""


def tiny_custom_task(folder: Path, **changes: object) -> Path:
    """A task.yaml of `CODE` under a new name in the same folder."""
    name = f"tiny_network_{next(_numbers)}"
    (folder / f"{name}.py").write_text(CODE, encoding="utf-8")
    content = {
        "family": "custom", "factory": f"{name}:build", "loader": f"{name}:load",
        "data": {
            "train": {"rows": 30}, "held_out": {"rows": 24}, "test": {"rows": 20},
            "shifts": {"noisy": {"of": "test", "rows": 12, "offset": 0.5}},
        },
        "evaluation": {"batch_size": 5, "precision": "fp32", "device": "cpu"}, **changes,
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def tiny_network_runs(folder: Path, k: int, *, dtype: str = "float32") -> tuple[Ingredient, ...]:
    """k checkpoints of `CODE`'s network: one start, its own noise for each."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    shapes = {"words.weight": (7, 4), "norm.weight": (4,), "norm.bias": (4,), "norm.running_mean": (4,),
              "head.weight": (3, 7), "head.bias": (3,)}  # fmt: skip
    start = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    made = []
    for number in range(k):
        # Running statistics are mixed without a gradient, so they are the same here.
        noisy = {
            name: tensor + 0.3 * ("running" not in name) * torch.randn(tensor.shape, generator=generator)
            for name, tensor in start.items()
        }
        state = {name: tensor.to(getattr(torch, dtype)) for name, tensor in noisy.items()}
        state |= {
            "norm.running_var": torch.ones(4).to(getattr(torch, dtype)),
            "norm.num_batches_tracked": torch.tensor(9),
        }
        path = folder / f"net-{number}.safetensors"
        save_file(state, path)
        made.append(Ingredient(f"net-{number}", str(path)))
    return tuple(made)
