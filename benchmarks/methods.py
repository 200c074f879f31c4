"""Every method of the paper over several seeds, on the plateau range and on the wide one: scores, calibration, tests.

    python benchmarks/methods.py [--seeds 1 2 3 4 5] [--ranges plateau wide] [--workdir out/benchmarks/quickstart]

It takes the fine-tunes that benchmarks/quickstart.py leaves in its working folder, or makes them, and compares them
with the settings of experiments/debian-sections/full.yaml. Resumable, like that script. It writes methods.md and
methods.json from what has ended, after every comparison.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from quickstart import EXPERIMENTS, RANGES, ROOT, configured, mean_sd, processor
from stockpot.checkpoints import ingredients
from stockpot.config import PAPER_RECIPE_NAMES, experiment_config, learned_config
from stockpot.experiment import compare, sweep
from stockpot.records import Results, Row, read_results

COLUMNS = ("held_out", "test", "shift_mean")
COMPARED = ("uniform", "greedy", "learned", "learned_by_layer", "ensemble", "greedy_ensemble")
CALIBRATION = ("ece", "nll", "brier")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--ranges", nargs="+", choices=sorted(RANGES), default=list(RANGES))
    parser.add_argument("--workdir", type=Path, default=ROOT / "out" / "benchmarks" / "quickstart")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument("--tables-only", action="store_true", help="write the tables from what has ended, run nothing")
    parser.add_argument("--quick", action="store_true", help="two runs, one epoch: does the script work?")
    arguments = parser.parse_args()
    if not arguments.tables_only:
        for name in arguments.ranges:
            for seed in arguments.seeds:
                one_comparison(name, seed, arguments.workdir, quick=arguments.quick)
                write_tables(arguments)
    write_tables(arguments)


def one_comparison(name: str, seed: int, workdir: Path, *, quick: bool) -> None:
    content = configured(EXPERIMENTS / RANGES[name], seed, quick=quick)
    folder = workdir / f"{name}-{seed}"
    runs = [folder / "ingredients" / f"run-{number:02d}" for number in range(content["sweep"]["runs"])]
    if not all((run / "model.safetensors").exists() for run in runs):
        sweep(experiment_config(content, EXPERIMENTS), folder, on_progress=lambda p: print(" ", p.line, flush=True))
    settings = yaml.safe_load((EXPERIMENTS / "full.yaml").read_text(encoding="utf-8"))["learned"]
    if quick:
        settings |= {"least_steps": 4, "check_every": 2}
    print(f"{name}, seed {seed}", flush=True)
    compare(
        ingredients(*runs),
        task={**content["task"], "data": {**content["task"]["data"], "file": str(data_file(content))}},
        initialisation=str(folder / "initialisation"),
        recipes=PAPER_RECIPE_NAMES,
        learned=learned_config(settings),
        out=workdir / f"methods-{name}-{seed}",
        on_progress=lambda p: print(" ", p.line, flush=True),
    )


def data_file(content: Mapping[str, Any]) -> Path:
    return EXPERIMENTS / content["task"]["data"]["file"]


def write_tables(arguments: argparse.Namespace) -> None:
    found = {
        name: {
            seed: read_results(folder)
            for seed in arguments.seeds
            if (folder := arguments.workdir / f"methods-{name}-{seed}") and (folder / "results.json").exists()
        }
        for name in RANGES
    }
    text = "\n".join(page(found, quick=arguments.quick)) + "\n"
    (arguments.out / "methods.md").write_text(text, encoding="utf-8")
    numbers = {name: {seed: summary(results) for seed, results in by_seed.items()} for name, by_seed in found.items()}
    (arguments.out / "methods.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def summary(results: Results) -> dict[str, Any]:
    return {
        "rows": {
            row.method: {
                **{column: row.scores[column].value for column in COLUMNS},
                **{f"{m}:{c}": metric(row, m, c) for m in both(CALIBRATION) for c in ("test", "shift_mean")},
                "temperature": row.temperature,
                "n_ingredients": row.n_ingredients,
            }
            for row in results.rows
        },
        "p": {f"{c.method}-{c.against}:{c.split}": c.p for c in results.comparisons},
        "optimism": {found.method: [found.value, found.stderr] for found in results.optimism or ()},
    }


def both(names: Sequence[str]) -> list[str]:
    return [name + suffix for name in names for suffix in ("", "_scaled")]


def metric(row: Row, name: str, column: str) -> float:
    assert row.metrics is not None
    return row.metrics[name][column].value


def page(found: Mapping[str, Mapping[int, Results]], *, quick: bool) -> Iterator[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    yield "# Every method, over seeds"
    yield ""
    yield f"Made by `python benchmarks/methods.py` on {date.today()}: {processor()}, {packages}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    yield ""
    yield "A seed is a new split of the 5,000 rows (1,000 train, 1,000 held-out, 2,000 test) and a new sweep."
    yield "Everything is chosen on held-out alone; test and shifts are measured once, afterwards. Means ± standard"
    yield "deviations over seeds."
    for name, by_seed in found.items():
        if by_seed:
            yield from section(f"{name.capitalize()} range (`{RANGES[name]}`)", by_seed)


def section(title: str, by_seed: Mapping[int, Results]) -> Iterator[str]:
    """Every table of one experiment over its seeds."""
    seeds = sorted(by_seed)
    first = by_seed[seeds[0]]
    k = next(row.n_ingredients for row in first.rows if row.method == "uniform")
    listed = ", ".join(map(str, seeds))
    yield f"\n## {title}: {len(seeds)} seeds ({listed}), {k} runs each"
    yield "\nAccuracy in percent."
    yield ""
    yield "| method | held-out | test | mean of shifts | ingredients |"
    yield "| :-- | --: | --: | --: | --: |"
    for row in first.rows:
        rows = rows_of(by_seed, seeds, row.method)
        cells = [mean_sd([r.scores[column].value for r in rows]) for column in COLUMNS]
        yield f"| {row.method} | {' | '.join(cells)} | {sum(r.n_ingredients for r in rows) / len(rows):.1f} |"
    yield "\nDifference to the best individual of the same seed in points: mean over seeds (standard error of that"
    yield "mean); seeds above zero; seeds with p < 0.05 for and against in the paired test of that seed."
    yield ""
    yield "| method | test | above 0 | p < 0.05 | mean of shifts | above 0 | p < 0.05 |"
    yield "| :-- | --: | --: | --: | --: | --: | --: |"
    for method in COMPARED:
        cells = [cell for column in ("test", "shift_mean") for cell in gain(by_seed, seeds, method, column)]
        yield f"| {method} | {' | '.join(cells)} |"
    yield from claims(by_seed, seeds)
    yield "\nCalibration, before → after one temperature fitted on held-out. ECE in percent (15 bins of equal mass)."
    yield ""
    yield "| method | temperature | ECE test | NLL test | Brier test | ECE shifts | NLL shifts | Brier shifts |"
    yield "| :-- | --: | --: | --: | --: | --: | --: | --: |"
    for row in first.rows:
        rows = rows_of(by_seed, seeds, row.method)
        cells = [change(rows, m, c) for c in ("test", "shift_mean") for m in CALIBRATION]
        temperature = sum(r.temperature or 1.0 for r in rows) / len(rows)
        yield f"| {row.method} | {temperature:.2f} | {' | '.join(cells)} |"
    yield "\nHow much the held-out score of what was chosen promises too much, in points: estimated by split halves of"
    yield "the held-out split (mean over seeds), and observed as held-out minus test, less that of the mean individual."
    yield ""
    yield "| method | estimated | observed |"
    yield "| :-- | --: | --: |"
    for method in ("best", "greedy"):
        estimates = [100 * o.value for s in seeds for o in by_seed[s].optimism or () if o.method == method]
        observed = [100 * (excess(by_seed[s], method) - excess(by_seed[s], "mean_individual")) for s in seeds]
        yield f"| {method} | {mean_error(estimates)} | {mean_error(observed)} |"


def claims(by_seed: Mapping[int, Results], seeds: Sequence[int]) -> Iterator[str]:
    """What the seeds carry: means that are more than two of their standard errors from zero."""
    if len(seeds) < 3:
        yield "\nToo few seeds to claim anything: a standard error over seeds needs at least three."
        return
    sure, unsure = [], []
    for column, where in (("test", "test"), ("shift_mean", "the mean of shifts")):
        for method in COMPARED:
            differences = differences_of(by_seed, seeds, method, column)
            mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
            (sure if abs(mean) > 2 * error else unsure).append(f"{method} on {where} ({mean:+.2f})")
    yield f"\nBeyond two standard errors over the {len(seeds)} seeds: {', '.join(sure) or 'nothing'}."
    yield f"Not beyond: {', '.join(unsure) or 'nothing'}."
    yield f"No correction is made for the {len(sure) + len(unsure)} comparisons; the seeds share one data set and one"
    yield "network, so nothing here is about other ones."


def differences_of(by_seed: Mapping[int, Results], seeds: Sequence[int], method: str, column: str) -> list[float]:
    """Points above the best individual of the same seed."""
    wanted = (method, "best", column)
    return [
        100 * c.difference for s in seeds for c in by_seed[s].comparisons if (c.method, c.against, c.split) == wanted
    ]


def rows_of(by_seed: Mapping[int, Results], seeds: Sequence[int], method: str) -> list[Row]:
    return [row for seed in seeds if (row := by_seed[seed].row(method)) is not None]


def excess(results: Results, method: str) -> float:
    row = results.row(method)
    assert row is not None
    return row.scores["held_out"].value - row.scores["test"].value


def gain(by_seed: Mapping[int, Results], seeds: Sequence[int], method: str, column: str) -> tuple[str, str, str]:
    found = [
        c for s in seeds for c in by_seed[s].comparisons
        if (c.method, c.against, c.split) == (method, "best", column)
    ]  # fmt: skip
    differences = [100 * c.difference for c in found]
    believed = [c.difference for c in found if c.p is not None and c.p < 0.05]
    above = sum(d > 0 for d in differences)
    sure = f"{sum(d > 0 for d in believed)} for, {sum(d < 0 for d in believed)} against"
    return mean_error(differences, signed=True), f"{above} of {len(differences)}", sure


def mean_error(values: Sequence[float], *, signed: bool = False) -> str:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):{'+' if signed else ''}.2f} ({error:.2f})"


def change(rows: Sequence[Row], name: str, column: str) -> str:
    factor, digits = (100, 1) if name == "ece" else (1, 3)
    before, after = (
        factor * sum(metric(row, name + suffix, column) for row in rows) / len(rows) for suffix in ("", "_scaled")
    )
    return f"{before:.{digits}f} → {after:.{digits}f}"


if __name__ == "__main__":
    main()
