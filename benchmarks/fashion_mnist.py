"""Every method on Fashion-MNIST, over several seeds: clean test, six corruptions, calibration, paired tests.

    python experiments/fashion-mnist/pretrain.py out/fashion-mnist-base
    python benchmarks/fashion_mnist.py [--seeds 1 2 3 4 5] [--workdir out/benchmarks/fashion-mnist]

A seed is a new draw of 1,000 labelled and 2,000 held-out images, and a new sweep of
experiments/fashion-mnist/experiment.yaml; the pre-trained network is the same. Resumable. With --landscape it looks at
the plane through the start and the two best runs of the first seed, and at the number of models. Writes
fashion-mnist.md, fashion-mnist.json and pictures from what has ended. Needs Debian's package dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from methods import section, summary
from quickstart import ROOT, processor
from stockpot.checkpoints import ingredients
from stockpot.config import experiment_config
from stockpot.experiment import run
from stockpot.experiment.analysing import AnalysisOptions, analyse
from stockpot.records import Results, read_results

EXPERIMENT = ROOT / "experiments" / "fashion-mnist"
LANDSCAPE = AnalysisOptions(parts=("geometry", "plane", "line", "count"), grid=7, splits=("held_out", "shift:noise"))

INTRODUCTION = """\
A ConvNeXt of 264 thousand parameters, pre-trained by telling quarter turns of the 60,000 unlabelled training
images apart, gets one linear-probe head and is fine-tuned eight times on 1,000 labelled images. A seed is a
new draw of these and of 2,000 held-out images, and a new sweep; the range of learning rates was chosen by
held-out scores of a trial with seed 0. Everything is chosen on held-out alone; the official test set (10,000)
and six corruptions of its first 2,000 images (severity 3) are measured once, afterwards. Standard errors of a
seed are clustered by image. Means ± standard deviations over seeds.""".splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--workdir", type=Path, default=ROOT / "out" / "benchmarks" / "fashion-mnist")
    parser.add_argument("--base", type=Path, default=ROOT / "out" / "fashion-mnist-base")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--landscape", action="store_true", help="after the seeds, the analysis of the first")
    parser.add_argument("--tables-only", action="store_true", help="fine-tune nothing: tables from what has ended")
    parser.add_argument("--quick", action="store_true", help="two runs, one epoch: does the script work?")
    arguments = parser.parse_args()
    if not arguments.tables_only:
        for seed in arguments.seeds:
            content = configured(seed, arguments.base, quick=arguments.quick)
            print(f"seed {seed}", flush=True)
            run(experiment_config(content, EXPERIMENT), arguments.workdir / f"{seed}", on_progress=told)
            write_tables(arguments)
    if arguments.landscape:
        look_around(arguments, arguments.seeds[0])
    write_tables(arguments)


def told(progress: Any) -> None:
    print(" ", progress.line, flush=True)


def configured(seed: int, base: Path, *, quick: bool) -> dict[str, Any]:
    """The experiment with a draw of images and a sweep of its own."""
    content = yaml.safe_load((EXPERIMENT / "experiment.yaml").read_text(encoding="utf-8"))
    content["task"] = yaml.safe_load((EXPERIMENT / "task.yaml").read_text(encoding="utf-8"))
    content["task"]["data"]["seed"] = content["sweep"]["seed"] = content["random_orders_seed"] = seed
    content["initialisation"] = str(base.resolve())
    if quick:
        content["sweep"] |= {"runs": 2, "space": {**content["sweep"]["space"], "epochs": 1}}
        content["learned"] |= {"least_steps": 4, "check_every": 2}
    return content


def look_around(arguments: argparse.Namespace, seed: int) -> None:
    folder = arguments.workdir / f"{seed}"
    content = configured(seed, arguments.base, quick=arguments.quick)
    runs = [folder / "ingredients" / f"run-{number:02d}" for number in range(content["sweep"]["runs"])]
    task = {**content["task"], "data": {**content["task"]["data"], "cache": str(EXPERIMENT / ".stockpot-images")}}
    start = str(folder / "initialisation")
    analyse(ingredients(*runs), folder, task=task, initialisation=start, options=LANDSCAPE, on_progress=told)


def write_tables(arguments: argparse.Namespace) -> None:
    found = {
        seed: read_results(folder)
        for seed in arguments.seeds
        if (folder := arguments.workdir / f"{seed}") and (folder / "results.json").exists()
    }
    pictures = list(drawn(arguments)) if not arguments.quick else []
    text = "\n".join(page(found, pictures, quick=arguments.quick)) + "\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "fashion-mnist.md").write_text(text, encoding="utf-8")
    numbers = {seed: summary(results) for seed, results in found.items()}
    (arguments.out / "fashion-mnist.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def drawn(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Pictures of the first seed's analysis, where it has been made."""
    folder = arguments.workdir / f"{arguments.seeds[0]}"
    if not (folder / "analysis.json").exists():
        return
    from stockpot.reports.drawing import draw_folder

    made = {path.stem: path for path in draw_folder(folder, arguments.workdir / "figures", kind="svg").files}
    for name, title in (("landscape", "Plane through the start and the two best runs"), ("count", "Number of models")):
        if name in made:
            target = f"fashion-mnist-{name}.svg"
            shutil.copyfile(made[name], arguments.out / target)
            yield target, title


def page(found: Mapping[int, Results], pictures: list[tuple[str, str]], *, quick: bool) -> Iterator[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    yield "# Fashion-MNIST: every method, over seeds"
    yield ""
    yield f"Made by `python benchmarks/fashion_mnist.py` on {date.today()}: {processor()}, {packages}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    yield ""
    yield from INTRODUCTION
    if found:
        yield from section("`experiments/fashion-mnist/experiment.yaml`", found)
    for name, title in pictures:
        yield f"\n![{title}]({name})"


if __name__ == "__main__":
    main()
