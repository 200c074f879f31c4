"""The quickstart over several seeds of split and sweep, and the wide range as the counter-example.

    python benchmarks/quickstart.py [--seeds 1 2 3 4 5] [--quick] [--workdir out/benchmarks/quickstart]

Every experiment is resumable: killed and started again, the script goes on. It writes benchmarks/quickstart.md and
benchmarks/quickstart.json from the results.json files that exist, after every experiment.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from stockpot.config import experiment_config
from stockpot.experiment import run
from stockpot.records import Results, read_results

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments" / "debian-sections"
RANGES = {"plateau": "quickstart.yaml", "wide": "wide.yaml"}
COLUMNS = ("held_out", "test", "shift_mean")
TITLES = {"held_out": "held-out", "test": "test", "shift_mean": "mean of shifts"}
COMPARED = ("uniform", "greedy", "greedy_random", "ensemble", "greedy_ensemble")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--ranges", nargs="+", choices=sorted(RANGES), default=list(RANGES))
    parser.add_argument("--workdir", type=Path, default=ROOT / "out" / "benchmarks" / "quickstart")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--tables-only", action="store_true", help="write the tables from what has ended, run nothing")
    parser.add_argument("--quick", action="store_true", help="two runs, one epoch: does the script work?")
    arguments = parser.parse_args()
    if arguments.tables_only:
        write_tables(collected(arguments.workdir, arguments.seeds), arguments.out, quick=arguments.quick)
        return
    for name in arguments.ranges:
        for seed in arguments.seeds:
            folder = arguments.workdir / f"{name}-{seed}"
            content = configured(EXPERIMENTS / RANGES[name], seed, quick=arguments.quick)
            print(f"{name}, seed {seed}: {folder}", flush=True)
            run(experiment_config(content, EXPERIMENTS), folder, on_progress=lambda p: print(" ", p.line, flush=True))
            write_tables(collected(arguments.workdir, arguments.seeds), arguments.out, quick=arguments.quick)


def configured(path: Path, seed: int, *, quick: bool) -> dict[str, Any]:
    """The experiment with the seed of split, sweep and random orders replaced, nothing else."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    task = yaml.safe_load((path.parent / content["task"]).read_text(encoding="utf-8"))
    task["data"]["seed"] = seed
    content |= {"task": task, "random_orders_seed": seed}
    content["sweep"]["seed"] = seed
    if quick:
        content["sweep"] |= {"runs": 2}
        content["sweep"]["space"] |= {"epochs": 1}
        task["data"] |= {split: {"rows": 100} for split in ("train", "held_out", "test")}
        for shift in task["data"]["shifts"].values():
            shift["first"] = 50
    return content


def collected(workdir: Path, seeds: Sequence[int]) -> dict[str, dict[int, Results]]:
    """Range -> seed -> results, of the experiments that have ended."""
    return {
        name: {
            seed: read_results(workdir / f"{name}-{seed}")
            for seed in seeds
            if (workdir / f"{name}-{seed}" / "results.json").exists()
        }
        for name in RANGES
    }


def write_tables(results: Mapping[str, Mapping[int, Results]], out: Path, *, quick: bool) -> None:
    text = "\n".join(page(results, quick=quick)) + "\n"
    (out / "quickstart.md").write_text(text, encoding="utf-8")
    numbers = {
        name: {seed: {row.method: scores(row) for row in found.rows} for seed, found in by_seed.items()}
        for name, by_seed in results.items()
    }
    (out / "quickstart.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    draw({name: by_seed for name, by_seed in results.items() if by_seed}, out / "quickstart.svg")


# Okabe and Ito's colours: told apart by colour-blind readers and in grey.
COLOURS = {"uniform": "#E69F00", "greedy": "#0072B2", "ensemble": "#009E73"}


def draw(results: Mapping[str, Mapping[int, Results]], path: Path) -> None:
    """Gain over the best individual, one dot a seed, the mean as a bar."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "stockpot", "font.size": 9, "svg.fonttype": "none"}
    import matplotlib.pyplot as plt

    panels = [(name, column) for name in results for column in ("test", "shift_mean")]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.1 * len(panels) + 0.6, 2.7), sharey=True, squeeze=False)
    for axis, (name, column) in zip(axes[0], panels, strict=True):
        axis.axhline(0, color="0.6", linewidth=0.8)
        for position, (method, colour) in enumerate(COLOURS.items()):
            gains = [
                100 * (value(found, method, column) - value(found, "best", column)) for found in results[name].values()
            ]
            spread = [0.12 * (index - (len(gains) - 1) / 2) for index in range(len(gains))]
            axis.plot([position + s for s in spread], gains, "o", color=colour, markersize=4, alpha=0.65)
            axis.hlines(statistics.mean(gains), position - 0.35, position + 0.35, color=colour, linewidth=2.5)
        axis.set_xticks(range(len(COLOURS)), list(COLOURS))
        axis.set_xlim(-0.6, len(COLOURS) - 0.4)
        axis.set_title(f"{name} range, {TITLES[column]}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("points above the best\nindividual (a dot is a seed)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def scores(row: Any) -> dict[str, float]:
    return {column: row.scores[column].value for column in COLUMNS} | {"n_ingredients": row.n_ingredients}


def page(results: Mapping[str, Mapping[int, Results]], *, quick: bool) -> Iterator[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    yield "# The quickstart over seeds"
    yield ""
    yield f"Made by `python benchmarks/quickstart.py` on {date.today()}: {processor()}, {packages}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    yield ""
    yield "Accuracy in percent. A seed is a new split of the 5,000 rows and a new sweep; means and standard deviations"
    yield "are over seeds. Soups are chosen on held-out alone; test and shifts are measured once, afterwards."
    for name, by_seed in results.items():
        if by_seed:
            yield from section(name, by_seed)


def section(name: str, by_seed: Mapping[int, Results]) -> Iterator[str]:
    seeds = sorted(by_seed)
    runs = int(next(iter(by_seed.values())).row("uniform").n_ingredients)  # type: ignore[union-attr]
    listed = ", ".join(map(str, seeds))
    yield f"\n## {name.capitalize()} range (`{RANGES[name]}`): {len(seeds)} seeds ({listed}), {runs} runs each"
    yield ""
    yield "| method | " + " | ".join(TITLES[column] for column in COLUMNS) + " | ingredients |"
    yield "| :-- |" + " --: |" * (len(COLUMNS) + 1)
    for row in by_seed[seeds[0]].rows:
        rows = [by_seed[seed].row(row.method) for seed in seeds]
        cells = [mean_sd([r.scores[column].value for r in rows if r]) for column in COLUMNS]
        yield f"| {row.method} | {' | '.join(cells)} | {statistics.mean(r.n_ingredients for r in rows if r):.1f} |"
    yield ""
    yield "Difference to the best individual of the same seed, in points: mean over seeds (standard error of that"
    yield "mean), and the number of seeds in which it is above zero."
    yield ""
    yield "| method | test | seeds above 0 | mean of shifts | seeds above 0 |"
    yield "| :-- | --: | --: | --: | --: |"
    for method in COMPARED:
        cells = [cell for column in ("test", "shift_mean") for cell in gain(by_seed, seeds, method, column)]
        yield f"| {method} | {' | '.join(cells)} |"


def gain(by_seed: Mapping[int, Results], seeds: Sequence[int], method: str, column: str) -> tuple[str, str]:
    differences = [value(by_seed[seed], method, column) - value(by_seed[seed], "best", column) for seed in seeds]
    mean = 100 * statistics.mean(differences)
    spread = 100 * statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return f"{mean:+.2f} ({spread:.2f})", f"{sum(d > 0 for d in differences)} of {len(differences)}"


def value(results: Results, method: str, column: str) -> float:
    row = results.row(method)
    assert row is not None
    return row.scores[column].value


def mean_sd(values: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {sum(line.startswith('processor') for line in lines) or '?'} cores"


if __name__ == "__main__":
    main()
