"""Real small fine-tunes to plant faults in, for the tests of `diagnose`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.records import Diagnosis

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]


def train(start: Path, target: Path, home: Path, *, seed: int, learning_rate: float, epochs: int) -> None:
    """A few epochs of plain fine-tuning on the tiny task, from `start` into `target`."""
    import torch
    import transformers

    from stockpot.tasks import load_task

    task = load_task(home / "task.yaml", start, n_threads=1)
    batches, labels = task._batches_of("train"), torch.from_numpy(task.labels("train"))
    torch.manual_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(start).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for batch in batches:
            logits = model(**{name: torch.from_numpy(values) for name, values in batch.inputs.items()}).logits
            rows = torch.from_numpy(batch.rows)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits[: len(rows)], labels[rows]).backward()
            optimiser.step()
    if target != start:
        shutil.copytree(start, target)
    model.save_pretrained(target)


def look(*, start: bool = True, task: bool = False) -> Diagnosis:
    from stockpot import ingredients
    from stockpot.experiment.diagnosing import diagnose

    return diagnose(
        ingredients("run-*"), initialisation="base" if start else None, task="task.yaml" if task else None, out="d"
    )


def found(result: Diagnosis) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.ingredients for finding in result.findings}


def change(run: str, edit: Callable[[Tensors], Tensors | None]) -> None:
    from safetensors.torch import load_file, save_file

    file = Path(run, "model.safetensors")
    tensors = load_file(file)
    save_file(edit(tensors) or tensors, file, {"format": "pt"})


def moved(factor: float) -> Callable[[Tensors], None]:
    """Further along the run's own way from the base."""

    from safetensors.torch import load_file

    def edit(tensors: Tensors) -> None:
        base = load_file("base/model.safetensors")
        for name, tensor in tensors.items():
            tensors[name] = base[name] + factor * (tensor - base[name])

    return edit
