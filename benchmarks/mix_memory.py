"""Peak memory and time of `stockpot mix` over the number of BERT-base-sized checkpoints.

    python benchmarks/mix_memory.py [--quick] [--out benchmarks/mix_memory.md] [--folder SCRATCH]

Makes k = 2, 4, 8, 16 float32 checkpoints of 438 MB, all values random, and runs the command on the first k of them,
as a user would. Peak memory is the whole process's largest resident set. Beside it stands what the same bytes cost at
least: reading all inputs with `cat` and writing one output with `dd`, measured in turn with it, with files in the page
cache. Needs about 8 GB of disk (450 MB with --quick) and removes them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

#: Elements generated at once. Small, because Linux counts the parent's memory at the start into a child's peak.
_BLOCK = 2**18
_MEGABYTE = 10**6


@dataclass(frozen=True)
class Size:
    """A BERT encoder with a classifier, by the numbers that matter."""

    name: str
    vocabulary: int
    width: int
    n_layers: int
    counts: tuple[int, ...]
    repeats: int


FULL = Size("BERT-base", 30_522, 768, 12, (2, 4, 8, 16), repeats=3)
QUICK = Size("a small BERT", 8_000, 512, 2, (2, 4, 8), repeats=1)


@dataclass(frozen=True)
class Cost:
    """What a finished process used.

    Args:
        peak_bytes: largest resident set.
        cpu_s: user and system time.
        wall_s: elapsed time.
    """

    peak_bytes: int
    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    k: int
    mix: Cost
    copy: Cost


def bert_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Names and shapes as transformers' BertForSequenceClassification stores them."""
    width, prefix = size.width, "bert.embeddings"
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}.word_embeddings.weight": (size.vocabulary, width),
        f"{prefix}.position_embeddings.weight": (512, width),
        f"{prefix}.token_type_embeddings.weight": (2, width),
        f"{prefix}.LayerNorm.weight": (width,),
        f"{prefix}.LayerNorm.bias": (width,),
    }
    for layer in range(size.n_layers):
        shapes |= {f"bert.encoder.layer.{layer}.{name}": shape for name, shape in _layer_shapes(width).items()}
    shapes |= _linear("bert.pooler.dense", width, width)
    return shapes | _linear("classifier", 2, width)


def _layer_shapes(width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        shapes |= _linear(name, width, width)
    shapes |= _linear("intermediate.dense", 4 * width, width) | _linear("output.dense", width, 4 * width)
    for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return shapes


def _linear(name: str, n_out: int, n_in: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def write_random(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    """Writes a safetensors file of normal numbers, a block at a time."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, end // 4, _BLOCK):
            block = random.standard_normal(min(_BLOCK, end // 4 - start), np.float32)
            file.write((block * np.float32(0.02)).astype("<f4").data)


def measure(command: Sequence[str]) -> Cost:
    """Runs a command to its end; its children are counted in."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 has reaped it
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime, wall_s)


def mix(files: Sequence[Path], output: Path) -> Cost:
    """`stockpot mix` of the files, as a user runs it."""
    return measure([sys.executable, "-m", "stockpot", "mix", *map(str, files), "-o", str(output)])


def copy(files: Sequence[Path], output: Path) -> Cost:
    """The same bytes without arithmetic: all inputs read, one written."""
    output.mkdir()
    script = 'target=$1; shift; cat "$@" > /dev/null && dd if="$1" of="$target" bs=1M status=none'
    return measure(["sh", "-c", script, "copy", str(output / "copy"), *map(str, files)])


def best_of(repeats: int, run: Callable[[Sequence[Path], Path], Cost], files: Sequence[Path], output: Path) -> Cost:
    """The largest peak and the smallest times of several runs: noise only ever adds time."""
    costs = []
    for _ in range(repeats):
        costs.append(run(files, output))
        shutil.rmtree(output)
    return Cost(max(c.peak_bytes for c in costs), min(c.cpu_s for c in costs), min(c.wall_s for c in costs))


def measure_all(size: Size, folder: Path) -> list[Row]:
    """Makes the files in `folder`, then measures each k."""
    shapes = bert_shapes(size)
    files = [folder / f"ingredient-{i:02}.safetensors" for i in range(max(size.counts))]
    for seed, path in enumerate(files):
        write_random(path, shapes, seed)
    rows = []
    for k in size.counts:
        copied = best_of(size.repeats, copy, files[:k], folder / "copied")
        mixed = best_of(size.repeats, mix, files[:k], folder / "soup")
        rows.append(Row(k, mixed, copied))
        print(_table_line(rows[-1]), flush=True)
    return rows


def check_disk(size: Size, folder: Path) -> None:
    """Refuses to begin what cannot be finished."""
    needed = model_bytes(size) * (max(size.counts) + 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{folder} has {free // _MEGABYTE} MB free, {needed // _MEGABYTE} MB are needed; use --folder")


def model_bytes(size: Size) -> int:
    """Bytes of one checkpoint's tensors."""
    return sum(4 * math.prod(shape) for shape in bert_shapes(size).values())


def report(size: Size, rows: Sequence[Row]) -> str:
    """The page that is written."""
    repeats = f"{size.repeats} runs" if size.repeats > 1 else "one run"
    return "\n".join(
        [
            "# Peak memory of `stockpot mix`",
            "",
            f"k float32 checkpoints of {size.name} ({model_bytes(size) // _MEGABYTE} MB each, random values), uniform, "
            f"one safetensors file each, in the page cache; largest peak and smallest times of {repeats}. *copy*: "
            "`cat` of all inputs to /dev/null and `dd` of one to a new file.",
            "",
            "| k | inputs, MB | peak memory, MB | CPU, s | wall, s | copy: CPU, s | copy: wall, s | CPU / copy's CPU |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|",
            *(_table_line(row, model_bytes(size)) for row in rows),
            "",
            f"Machine: {machine()}.",
            f"Versions: Python {platform.python_version()}, numpy {np.__version__}, stockpot {version('stockpot')}, "
            f"safetensors {version('safetensors')}.",
            f"Command: `python benchmarks/mix_memory.py{' --quick' if size is QUICK else ''}`",
            "",
        ]
    )


def _table_line(row: Row, one_bytes: int = 0) -> str:
    ratio = row.mix.cpu_s / row.copy.cpu_s if row.copy.cpu_s else math.inf
    inputs = f" {row.k * one_bytes // _MEGABYTE} |" if one_bytes else ""
    times = f"{row.mix.cpu_s:.2f} | {row.mix.wall_s:.2f} | {row.copy.cpu_s:.2f} | {row.copy.wall_s:.2f}"
    return f"| {row.k} |{inputs} {row.mix.peak_bytes / _MEGABYTE:.0f} | {times} | {ratio:.1f} |"


def machine() -> str:
    """Processor, cores and memory; no names of hosts."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB memory, {platform.system()} {platform.release()}"


def main() -> None:
    """Parses the options, measures, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model, k up to 8, one run each")
    parser.add_argument("--out", type=Path, help="where the page goes; printed only by default")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are made; the system's temporary folder")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="stockpot-benchmark-", dir=options.folder) as folder:
        check_disk(size, Path(folder))
        page = report(size, measure_all(size, Path(folder)))
    print(f"\n{page}")
    if options.out:
        options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
