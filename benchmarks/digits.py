"""Every method on scikit-learn's digits, over several seeds.

    python experiments/digits/prepare.py out/digits
    python benchmarks/digits.py [--seeds 1 2 3 4 5] [--workdir out/benchmarks/digits]

A seed is a new draw of 200 labelled and 1,000 held-out digits, and a new sweep of experiments/digits/experiment.yaml;
the pre-trained network and the test digits are the same. Resumable. Writes digits.md and digits.json from what has
ended. About 90 seconds a seed on two cores.
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

from methods import section, summary
from quickstart import ROOT, processor
from stockpot.config import experiment_config
from stockpot.experiment import run
from stockpot.records import Results, read_results

EXPERIMENT = ROOT / "experiments" / "digits"

INTRODUCTION = """\
A ConvNeXt of 54 thousand parameters, pre-trained by telling quarter turns of 1,200 unlabelled digits apart, gets one
linear-probe head and is fine-tuned eight times on 200 labelled digits. A seed is a new draw of these, of 1,000 held-out
digits, and a new sweep. Everything is chosen on held-out alone; 597 test digits and four corruptions of them are
measured once. Small on purpose; a difference below a point or two is noise. Standard errors of a seed are clustered by
digit. Means ± standard deviations over seeds.""".splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--workdir", type=Path, default=ROOT / "out" / "benchmarks" / "digits")
    parser.add_argument("--base", type=Path, default=ROOT / "out" / "digits", help="what prepare.py has written")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--tables-only", action="store_true", help="write the tables from what has ended, run nothing")
    parser.add_argument("--quick", action="store_true", help="two runs, one epoch: does the script work?")
    arguments = parser.parse_args()
    if not arguments.tables_only:
        for seed in arguments.seeds:
            print(f"seed {seed}", flush=True)
            content = configured(seed, arguments.base.resolve(), quick=arguments.quick)
            run(experiment_config(content, EXPERIMENT), arguments.workdir / f"{seed}", on_progress=told)
            write_tables(arguments)
    write_tables(arguments)


def told(progress: Any) -> None:
    print(" ", progress.line, flush=True)


def configured(seed: int, base: Path, *, quick: bool) -> dict[str, Any]:
    """The experiment with a draw of digits and a sweep of its own."""
    content: dict[str, Any] = yaml.safe_load((EXPERIMENT / "experiment.yaml").read_text(encoding="utf-8"))
    data = content["task"]["data"]
    data["seed"] = content["sweep"]["seed"] = content["random_orders_seed"] = seed
    data["path"] = str(base / "data" / Path(data["path"]).name)
    data["test"]["path"] = str(base / "data" / Path(data["test"]["path"]).name)
    content["initialisation"] = str(base / "base")
    if quick:
        content["sweep"] |= {"runs": 2, "space": {**content["sweep"]["space"], "epochs": 1}}
        content["learned"] |= {"least_steps": 4, "check_every": 2}
    return content


def write_tables(arguments: argparse.Namespace) -> None:
    found = {
        seed: read_results(folder)
        for seed in arguments.seeds
        if (folder := arguments.workdir / f"{seed}") and (folder / "results.json").exists()
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(page(found, quick=arguments.quick)) + "\n"
    (arguments.out / "digits.md").write_text(text, encoding="utf-8")
    numbers = {seed: summary(results) for seed, results in found.items()}
    (arguments.out / "digits.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def page(found: Mapping[int, Results], *, quick: bool) -> Iterator[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy", "scikit-learn"))
    yield "# Digits: every method, over seeds"
    yield ""
    yield f"Made by `python benchmarks/digits.py` on {date.today()}: {processor()}, {packages}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    yield ""
    yield from INTRODUCTION
    if found:
        yield from section("`experiments/digits/experiment.yaml`", found)


if __name__ == "__main__":
    main()
