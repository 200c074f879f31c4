"""Memory and time of a step of the learned soup over the number of ingredients.

    python benchmarks/learned.py [--quick] [--out benchmarks]

One step is what AdamW needs: the weights mixed, one forward and one backward pass, the gradient by coefficients (one
row per tensor). Four ways on the same random checkpoints, batches and thread count, each in a process of its own:

- official: all ingredients in memory, each tensor the sum of products `theta_i * alpha_i`, autograd through it: the
  published formulation, written anew (without its one oversight: there the ingredients' own tensors require gradients,
  too, which nobody uses and which takes longer still);
- stacked: the same with each tensor's ingredients stacked and one matrix-vector product: the best that autograd does;
- streamed: ours, ingredients read from their files for every step;
- in memory: ours, differences to the first ingredient kept in memory.

Steps of the ways are measured in turn over the rounds. Memory is anonymous memory (RssAnon) at its largest: pages of
files that the system can drop do not count. It writes learned.md and learned.json; with
--precision bf16 (autocast, what the text task takes on processors that have it) learned_bf16.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("official", "stacked", "streamed", "in memory")
REFERENCES = ("official", "stacked", "forward + backward")
ROWS, TOKENS = 32, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model: does the script work?")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast, in all ways")
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "K", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, k, folder = arguments.measure
        json.dump(measured(way, int(k), Path(folder), n_steps=2 if arguments.quick else 4), sys.stdout)
        return
    os.environ["PRECISION"] = arguments.precision  # of the processes that measure, too
    counts, rounds = ((2, 4), 1) if arguments.quick else ((4, 8, 16), 2)
    with tempfile.TemporaryDirectory() as scratch:
        make_checkpoints(Path(scratch), max(counts), quick=arguments.quick)
        found = [
            {"way": way, "k": k, "round": number, **in_a_process(way, k, scratch, quick=arguments.quick)}
            for number in range(rounds)
            for k in counts
            for way in WAYS
        ]
    text = "\n".join(page(found, counts, quick=arguments.quick)) + "\n"
    name = "learned" if arguments.precision == "fp32" else f"learned_{arguments.precision}"
    (arguments.out / f"{name}.md").write_text(text, encoding="utf-8")
    (arguments.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def new_model(*, quick: bool) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    width, layers, vocabulary = (64, 2, 1000) if quick else (512, 7, 30_522)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=8,
        intermediate_size=4 * width, num_labels=12, max_position_embeddings=64,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def make_checkpoints(folder: Path, k: int, *, quick: bool) -> None:
    """k fine-tunes: one random network, every parameter moved a little."""
    import torch

    torch.manual_seed(0)
    model = new_model(quick=quick)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for number in range(k):
        moved = {n: t + 1e-3 * torch.randn_like(t) if t.is_floating_point() else t for n, t in start.items()}
        model.load_state_dict(moved)
        model.save_pretrained(folder / f"run-{number:02d}")


def in_a_process(way: str, k: int, folder: str, *, quick: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", way, str(k), folder, *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measured(way: str, k: int, folder: Path, *, n_steps: int) -> dict[str, Any]:
    """Seconds of each step and the peak of anonymous memory, above what importing takes."""
    import torch

    from stockpot.tasks.hardware import import_hf

    import_hf()
    torch.set_num_threads(1)
    quick = (folder / "run-00" / "model.safetensors").stat().st_size < 10**7
    make = autograd if way in ("official", "stacked") else ours
    step, forward_backward = make(way, k, folder, quick=quick)
    with peak_of_anonymous_memory() as peak:
        for number in range(2):
            step(number)
    # Timed without the watcher: on this process it takes a good part of a core.
    seconds = [cpu_seconds(partial(step, number)) for number in range(n_steps)]
    alone = [cpu_seconds(forward_backward) for _ in range(3)]
    return {"seconds": seconds, "forward_backward": alone[1:], "peak_anonymous_bytes": peak[0]}


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@contextmanager
def peak_of_anonymous_memory() -> Iterator[list[int]]:
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            lines = Path("/proc/self/status").read_text().splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            peak[0] = max(peak[0], 1024 * kilobytes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def batch_of(number: int, vocabulary: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(number)
    return generator.integers(0, vocabulary, (ROWS, TOKENS)), generator.integers(0, 12, ROWS)


def autograd(way: str, k: int, folder: Path, *, quick: bool) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    """All models in memory, autograd through the k-way sum, one softmax row per tensor."""
    import torch
    from safetensors.torch import load_file

    model = new_model(quick=quick)
    states = [load_file(folder / f"run-{number:02d}" / "model.safetensors") for number in range(k)]
    names = list(states[0])
    mixed = stacked_sums(states) if way == "stacked" else sums_of_products(states)
    states.clear()
    raw = torch.zeros(len(names), k, requires_grad=True)
    beta = torch.ones((), requires_grad=True)

    def step(number: int) -> None:
        tokens, labels = batch_of(number, model.config.vocab_size)
        weights = dict(zip(names, mixed(raw.softmax(1)), strict=True))
        with precision():
            logits = torch.func.functional_call(model, weights, kwargs={"input_ids": torch.from_numpy(tokens)}).logits
        torch.nn.functional.cross_entropy(beta * logits.float(), torch.from_numpy(labels)).backward()

    return step, lambda: forward_backward(model)


def sums_of_products(states: list[dict[str, Any]]) -> Callable[[Any], Iterator[Any]]:
    tensors = [[state[name].clone() for state in states] for name in states[0]]  # in memory of their own, not mapped

    def mixed(shares: Any) -> Iterator[Any]:
        for several, row in zip(tensors, shares, strict=True):
            yield sum(tensor * share for tensor, share in zip(several, row, strict=True))

    return mixed


def stacked_sums(states: list[dict[str, Any]]) -> Callable[[Any], Iterator[Any]]:
    import torch

    stacked = [torch.stack([state[name] for state in states]) for name in states[0]]
    return lambda shares: (torch.tensordot(row, several, 1) for several, row in zip(stacked, shares, strict=True))


def ours(way: str, k: int, folder: Path, *, quick: bool) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    import torch

    from stockpot.checkpoints import ingredients
    from stockpot.tasks.batches import Batch
    from stockpot.tasks.gradients import GradientOptions, ModuleGradient

    model = new_model(quick=quick)
    runs = ingredients(*[folder / f"run-{number:02d}" for number in range(k)])
    tokens, labels = batch_of(0, model.config.vocab_size)

    def forward(batch: Batch) -> Any:
        with precision():
            return model(input_ids=torch.from_numpy(batch.inputs["input_ids"])).logits.float()

    gradient = ModuleGradient(
        model,
        runs,
        forward=forward,
        labels=np.tile(labels, 2),
        batches=lambda _: [Batch({"input_ids": tokens}, np.arange(ROWS))],
        options=GradientOptions("tensor", batch_size=ROWS, stopping_fraction=0.5),
        budget_bytes=0 if way == "streamed" else 2**40,
    )
    n_rows = len(gradient.groups or ())
    generator = np.random.default_rng(0)

    def step(number: int) -> None:
        gradient(generator.dirichlet(np.ones(k), n_rows), 1.0, number)

    return step, lambda: forward_backward(model)


def precision() -> AbstractContextManager[Any]:
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16) if os.environ.get("PRECISION") == "bf16" else nullcontext()


def forward_backward(model: Any) -> None:
    import torch

    tokens, labels = batch_of(0, model.config.vocab_size)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with precision():
        logits = model(input_ids=torch.from_numpy(tokens)).logits
    loss = torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(labels))
    torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)


def page(found: list[dict[str, Any]], counts: tuple[int, ...], *, quick: bool) -> Iterator[str]:
    def median(way: str, k: int, key: str) -> float:
        values = [row[key] for row in found if row["way"] == way and row["k"] == k]
        return statistics.median(value for row in values for value in (row if isinstance(row, list) else [row]))

    def median_of_all(key: str, k: int) -> float:
        return statistics.median(value for row in found if row["k"] == k for value in row[key])

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    yield "# A step of the learned soup, by layer"
    is_half = os.environ.get("PRECISION") == "bf16"
    command = "python benchmarks/learned.py" + (" --precision bf16" if is_half else "") + (" --quick" if quick else "")
    yield f"\nMade by `{command}` on {date.today()}: {processor()}, {packages}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    kind = "bf16 autocast" if is_half else "fp32"
    yield f"\nA BERT of 38 million random parameters ({kind}), 32 texts of 16 tokens, one thread; medians of CPU"
    yield "seconds over 4 steps (after 2 to warm up) and 2 rounds. The batch is small beside the published 256 images:"
    yield "with a larger one the forward and backward pass, the same in all ways, hides more of what they differ in."
    yield "\n*Official*: autograd through sums of products, as published; *stacked*: the same with one matrix-vector"
    yield "product per tensor. *Forward + backward* is measured in each process, alone, with all gradients: no way of"
    yield "taking gradients through the model is much below it, so its ratio to the others is their limit."
    columns = ("k", "way", "anonymous memory, MiB", "CPU s per step", *(f"of {other}" for other in REFERENCES))
    yield f"\n| {' | '.join(columns)} |"
    yield "| --: | :-- | --: | --: | --: | --: | --: |"
    for k in counts:
        for way in WAYS:
            seconds = median(way, k, "seconds")
            ratios = [seconds / median(other, k, "seconds") for other in ("official", "stacked")]
            ratios.append(seconds / median(way, k, "forward_backward"))
            yield (
                f"| {k} | {way} | {median(way, k, 'peak_anonymous_bytes') / 2**20:,.0f} | {seconds:.2f} | "
                + " | ".join(f"{ratio:.2f}" for ratio in ratios)
                + " |"
            )
        alone = median_of_all("forward_backward", k)
        limits = [alone / median(other, k, "seconds") for other in ("official", "stacked")]
        yield f"| {k} | forward + backward | | {alone:.2f} | {limits[0]:.2f} | {limits[1]:.2f} | 1.00 |"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {sum(line.startswith('processor') for line in lines) or '?'} cores"


if __name__ == "__main__":
    main()
