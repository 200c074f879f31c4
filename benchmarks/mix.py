"""What `stockpot mix` costs against the limit of the machine and against other ways of averaging.

    python benchmarks/mix.py [--quick] [--out benchmarks] [--folder SCRATCH] [--mergekit BIN_FOLDER]

The limit is `cat` of all inputs plus `dd` of one to a new file: the same bytes without arithmetic. Every way is a whole
process, started as a user starts it, with its files in the page cache; all ways of a table take turns, round after
round. CPU seconds are user and system time of the process and its children; ratios are medians of the ratios within a
round, with the smallest and largest in brackets. "One core" pins the process to one core. The result of every way of
ours is compared with exact arithmetic. mergekit has to be installed in an environment of its own.

Needs about 20 GB of disk and as much memory for the page cache (under 1 GB with --quick). Writes mix.md, mix.json and
mix.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mix_files import bert, language_model, n_wrong, of_size, write_set, write_shards

HERE = Path(__file__).resolve().parent
MB = 10**6
#: Table -> its title after "By", and its first column.
TITLES = {
    "number": ("number of checkpoints", "k"),
    "size": ("size of each of 4, MB", "MB"),
    "shards": ("shards of each of 8", "shards"),
}


@dataclass(frozen=True)
class Cost:
    """What a finished process used: seconds of processor and clock, bytes of resident memory at its largest."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Way:
    """How to average: a command line from sources and a fresh folder."""

    name: str
    command: Callable[[Sequence[Path], Path], list[str]]
    cores: int = 1
    environment: Mapping[str, str] | None = None
    is_ours: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small files: does the script work?")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--folder", type=Path, help="where the checkpoints are made; the system's temporary folder")
    parser.add_argument("--mergekit", type=Path, help="the bin folder of an environment with mergekit")
    parser.add_argument("--only", nargs="*", help="names of the tables to measure again; the others are kept")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept_file = arguments.out / "mix.json"
    tables = json.loads(kept_file.read_text())["tables"] if arguments.only and kept_file.exists() else {}
    with tempfile.TemporaryDirectory(prefix="stockpot-benchmark-", dir=arguments.folder) as scratch:
        for name, table in measurements(Path(scratch), arguments):
            if not arguments.only or name in arguments.only:
                tables[name] = table()
                for path in Path(scratch).iterdir():
                    shutil.rmtree(path)
    content = {"machine": machine(), "date": f"{date.today()}", "quick": arguments.quick, "tables": tables}
    kept_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page = "\n".join([*header(quick=arguments.quick), *sections(tables), ""])
    (arguments.out / "mix.md").write_text(page, encoding="utf-8")
    if not arguments.quick:
        draw(tables, arguments.out / "mix.svg")
    print(page)


def measurements(
    scratch: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    """Every table's name and what makes it."""
    quick, rounds = arguments.quick, 1 if arguments.quick else 5
    small = bert(8_000, 256, 2) if quick else bert()
    large = language_model(1) if quick else language_model()
    peers = [ours(), ours("numpy"), *other_ways(arguments.mergekit)]

    def table(shapes: Any, dtype: str, k: int, ways: Sequence[Way], about: str, repeats: int = rounds) -> Any:
        files = write_set(scratch / "set", shapes, dtype, min(k, 16))
        sources = [files[i % len(files)] for i in range(k)]
        found = in_turn(sources, scratch, ways, repeats, about)
        shutil.rmtree(scratch / "set")
        return found

    def sharded(n_shards: int) -> Any:
        folders = write_shards(scratch / "set", small, "F32", 8, n_shards)
        found = in_turn(folders, scratch, [ours()], rounds, f"{n_shards}")
        shutil.rmtree(scratch / "set")
        return found

    yield "peers", lambda: table(small, "F32", 8, peers, "F32")
    both = [ours(), ours(cores=2)] if (os.cpu_count() or 1) > 1 else [ours()]
    yield (
        "dtypes",
        lambda: [
            row
            for shapes, label in ((small, "BERT-base"), (large, "0.5B LLM"))
            for dtype in ("F32", "BF16", "F16")
            if (label, dtype) != ("0.5B LLM", "F32")
            for row in table(shapes, dtype, 8, both, f"{label}, {dtype}")
        ],
    )
    yield "number", lambda: [row for k in (2, 4, 8, 16, 32) for row in table(small, "F32", k, [ours()], f"{k}")]
    sizes = (10, 20) if quick else (10, 50, 100, 500, 1000, 2000)
    yield "size", lambda: [row for mb in sizes for row in table(of_size(mb * MB), "F32", 4, [ours()], f"{mb}")]
    yield "shards", lambda: [row for n in (1, 4, 16) for row in sharded(n)]


def size_of(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> int:
    """Megabytes of a checkpoint."""
    return sum(math.prod(shape) for shape in shapes.values()) * (4 if dtype == "F32" else 2) // MB


def in_turn(
    sources: Sequence[Path], scratch: Path, ways: Sequence[Way], rounds: int, about: str
) -> list[dict[str, Any]]:
    """Rounds of the limit, then each way; medians and ratios."""
    costs: dict[str, list[Cost]] = {way.name: [] for way in ways}
    limits: dict[int, list[Cost]] = {way.cores: [] for way in ways}
    wrong: dict[str, tuple[int, int]] = {}
    output = scratch / "soup"
    for _ in range(rounds):
        for cores in limits:
            limits[cores].append(run(limit(sources, output), cores))
            shutil.rmtree(output)
        for way in ways:
            costs[way.name].append(run(way.command(sources, output), way.cores, way.environment))
            if way.is_ours and way.name not in wrong and sources[0].is_file():
                wrong[way.name] = n_wrong(sources, output / "model.safetensors")
            shutil.rmtree(output, ignore_errors=True)
    n_bytes = sum(path.stat().st_size for path in files_of(sources[0]))
    rows = []
    for way in ways:
        mine, least = costs[way.name], limits[way.cores]
        rows.append({
            "about": about, "way": way.name, "k": len(sources), "model_bytes": n_bytes, "cores": way.cores,
            "cpu_s": [cost.cpu_s for cost in mine], "wall_s": [cost.wall_s for cost in mine],
            "peak_bytes": max(cost.peak_bytes for cost in mine),
            "limit": [asdict(cost) for cost in least],
            "cpu_ratio": [a.cpu_s / b.cpu_s for a, b in zip(mine, least, strict=True)],
            "wall_ratio": [a.wall_s / b.wall_s for a, b in zip(mine, least, strict=True)],
            "wrong_of": wrong.get(way.name),
        })  # fmt: skip
        print(f"{about}: {way.name} {middle(rows[-1]['cpu_ratio'])}", file=sys.stderr, flush=True)
    return rows


def run(command: Sequence[str], cores: int, environment: Mapping[str, str] | None = None) -> Cost:
    """A command to its end on some cores; its children are counted in."""
    # An installed package has its bytecode; so has a source tree after the first run, unless this forbids it.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pinned = {"OMP_NUM_THREADS": str(cores), "MKL_NUM_THREADS": str(cores)}
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    pinned_to = ["taskset", "-c", ",".join(map(str, allowed))]
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(HERE / "_launch.py"), *pinned_to, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, **pinned, **(environment or {})},
    )
    if done.returncode:
        raise SystemExit(f"{command[:4]} ... failed: {done.stderr[-2000:]}")
    cpu_s, wall_s, peak_bytes = done.stdout.splitlines()[-1].split()[1:]
    return Cost(float(cpu_s), float(wall_s), int(peak_bytes))


def limit(sources: Sequence[Path], output: Path) -> list[str]:
    """All inputs read, one written."""
    output.mkdir()
    every = [str(file) for source in sources for file in files_of(source)]
    script = 'target=$1; n=$2; shift 2; cat "$@" > /dev/null && cat "${@:1:$n}" > "$target"'
    return ["bash", "-c", script, "limit", str(output / "copy"), str(len(files_of(sources[0]))), *every]


def files_of(source: Path) -> list[Path]:
    return sorted(source.glob("*.safetensors")) if source.is_dir() else [source]


def ours(form: str = "compiled", cores: int = 1) -> Way:
    name = f"stockpot mix{'' if form == 'compiled' else ', numpy'}{'' if cores == 1 else f', {cores} cores'}"
    environment = {} if form == "compiled" else {"STOCKPOT_PORTABLE": "1"}
    stockpot = str(Path(sys.executable).with_name("stockpot"))
    return Way(name, lambda s, o: [stockpot, "mix", *map(str, s), "-o", str(o)], cores, environment, is_ours=True)


def other_ways(mergekit: Path | None) -> Iterator[Way]:
    script = str(HERE / "mix_ways.py")
    for name, key in {
        "the paper's loop": "official",
        "stack().mean()": "stacked",
        "as timm's avg_checkpoints": "float64_sum",
        "torch's AveragedModel": "swa",
    }.items():
        yield Way(name, lambda s, o, key=key: [sys.executable, script, key, into(o), *map(str, s)])
    if mergekit is not None:
        yield Way("mergekit, linear", lambda s, o: merging(mergekit, s, o), environment={"HF_HUB_OFFLINE": "1"})


def into(output: Path) -> str:
    output.mkdir()
    return str(output / "model.safetensors")


def merging(mergekit: Path, sources: Sequence[Path], output: Path) -> list[str]:
    """mergekit's own command for checkpoints without an architecture."""
    models = [{"model": str(path), "parameters": {"weight": 1 / len(sources)}} for path in sources]
    recipe = output.with_name("recipe")
    recipe.mkdir(exist_ok=True)
    content = {"merge_method": "linear", "dtype": "float32", "models": models}
    (recipe / "mergekit.yaml").write_text(json.dumps(content))
    return [str(mergekit / "mergekit-pytorch"), str(recipe / "mergekit.yaml"), str(output)]


def header(*, quick: bool) -> Iterator[str]:
    yield "# What averaging costs\n"
    yield f"Made by `python benchmarks/mix.py{' --quick' if quick else ''}` on {date.today()}: {machine()}.\n"
    yield "Whole processes, files in the page cache. *Limit*: `cat` of all inputs and of one into a new file, in the"
    yield "same round. Ratios are medians over the rounds (smallest to largest); peak is the largest resident set.\n"


def sections(tables: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    if "peers" in tables:
        yield from peers_section(tables["peers"])
    if "dtypes" in tables:
        yield "## By dtype, 8 checkpoints\n"
        yield from plain_table(tables["dtypes"], "checkpoint")
    for name, (title, column) in TITLES.items():
        if name in tables:
            yield f"## By {title}\n"
            yield from plain_table(tables[name], column)
            if name == "number":
                yield marginal(tables[name])
    checked = [row["wrong_of"] for rows in tables.values() for row in rows if row["wrong_of"]]
    n_bad, n_all = (sum(pair[i] for pair in checked) for i in (0, 1))
    yield f"Of {n_all:,} stored values compared with exact arithmetic, {n_bad} were not the nearest to the mean.\n"
    yield "![Costs over number, size and shards](mix.svg)"


def peers_section(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    us = rows[0]
    yield f"## 8 x {us['model_bytes'] // MB} MB float32, one core\n"
    yield "| way | CPU, s | CPU / limit | wall, s | peak, MB | its CPU / ours | its peak / ours |"
    yield "| :-- | --: | --: | --: | --: | --: | --: |"
    least = [cost["cpu_s"] for cost in us["limit"]]
    walls = [cost["wall_s"] for cost in us["limit"]]
    yield f"| limit | {statistics.median(least):.2f} | 1 | {statistics.median(walls):.2f} | | | |"
    for row in rows:
        against = [a / b for a, b in zip(row["cpu_s"], us["cpu_s"], strict=True)]
        peaks = row["peak_bytes"] / us["peak_bytes"]
        shown = "| 1 | 1 |" if row is us else f"| {middle(against)} | {peaks:.1f} |"
        yield (
            f"| {row['way']} | {statistics.median(row['cpu_s']):.2f} | {middle(row['cpu_ratio'])} "
            f"| {statistics.median(row['wall_s']):.2f} | {row['peak_bytes'] / MB:,.0f} {shown}"
        )
    yield ""


def plain_table(rows: Sequence[dict[str, Any]], column: str) -> Iterator[str]:
    yield f"| {column} | way | inputs, MB | CPU, s | CPU / limit | wall, s | wall / limit | peak, MB |"
    yield "| --: | :-- | --: | --: | --: | --: | --: | --: |"
    for row in rows:
        yield (
            f"| {row['about']} | {row['way']} | {row['k'] * row['model_bytes'] // MB:,} "
            f"| {statistics.median(row['cpu_s']):.2f} | {middle(row['cpu_ratio'])} "
            f"| {statistics.median(row['wall_s']):.2f} | {middle(row['wall_ratio'])} | {row['peak_bytes'] / MB:,.0f} |"
        )
    yield ""


def marginal(rows: Sequence[dict[str, Any]]) -> str:
    """What 8 more cost from 8 up to the most, in medians, against reading 8."""
    by_k = {row["k"]: row for row in rows}
    most = max(by_k)
    if 8 not in by_k or most == 8:
        return ""
    steps = (most - 8) / 8
    more = (statistics.median(by_k[most]["cpu_s"]) - statistics.median(by_k[8]["cpu_s"])) / steps
    limits = [statistics.median(cost["cpu_s"] for cost in by_k[k]["limit"]) for k in (8, most)]
    reading = (limits[1] - limits[0]) / steps
    return (
        f"From 8 to {most}, 8 more checkpoints cost {more:.2f} CPU s; `cat` of them {reading:.2f} "
        f"(ratio {more / reading:.2f}).\n"
    )


def middle(ratios: Sequence[float]) -> str:
    shown = f"{statistics.median(ratios):.2f}"
    return shown if len(ratios) == 1 else f"{shown} ({min(ratios):.2f}-{max(ratios):.2f})"


def draw(tables: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    """CPU seconds and peak memory over the number, the size and the shards, beside the limit."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "stockpot", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(9, 4.6), sharex="col", layout="constrained")
    names = {"number": "checkpoints", "size": "size of each of 4 checkpoints, MB", "shards": "shards of each of 8"}
    for column, (name, label) in zip(axes.T, names.items(), strict=True):
        rows = tables.get(name, [])
        x = [float(row["about"]) for row in rows]
        limits = [statistics.median(cost["cpu_s"] for cost in row["limit"]) for row in rows]
        column[0].plot(x, limits, "--", color="#999999", marker="s", markersize=3, label="limit")
        mine = [statistics.median(row["cpu_s"]) for row in rows]
        column[0].plot(x, mine, color="#0072B2", marker="o", markersize=4, label="stockpot mix")
        column[1].plot(x, [row["peak_bytes"] / MB for row in rows], color="#0072B2", marker="o", markersize=4)
        column[1].set_ylim(0, max([row["peak_bytes"] / MB for row in rows], default=1) * 1.4)
        column[0].set_ylim(bottom=0)
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("CPU, s")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[0, 0].legend(frameon=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    figure.savefig(path, metadata={"Date": None})


def machine() -> str:
    """Processor, cores, memory and versions; no names of hosts."""
    information = Path("/proc/cpuinfo")
    processor = platform.processor() or platform.machine()
    if information.exists():
        lines = information.read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("stockpot", "numpy", "safetensors", "torch"))
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    main()
