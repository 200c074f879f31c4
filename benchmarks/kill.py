"""Kills `stockpot run` again and again, and compares what it ends with to an undisturbed run, byte by byte.

    python benchmarks/kill.py [--kills 20] [--seed 0] [--experiment PATH] [--workdir FOLDER] [--out benchmarks]

By default the experiment is small but real: four fine-tunings of a small BERT with random weights on rows of the
quickstart's data, all recipes, two workers. It runs once undisturbed; then in other folders, one after another, with
``kill -9`` of the main process (or of one worker) at random moments, started again after every death until it ends.
In every second folder the moments are uniform over the undisturbed duration. In the others each falls into one stage
or into the tenths of a second in which a soup is half written: what is short beside the sweep, hardly any uniform
moment would hit.

Compared: experiment.json, results.json, results.md and every file of the initialisation, the ingredients and the soups.
Nothing may be left over. The journal and timings.json are not compared: a journal knows more than it needs after a
kill, and times differ. Exit code 1 on any difference. It writes kill.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "experiments" / "debian-sections" / "data" / "debian-sections.tsv.gz"
STAGES = ("start", "head", "sweep", "select", "measure", "write")
SOUPS = ("best", "uniform", "greedy")
#: What is killed and when: the main process in a stage or while it writes that soup, a worker in the sweep.
AIMED = (
    "worker", "sweep", "worker", "sweep", "select", "select", "measure", "measure", "best", "uniform", "greedy",
    "write",
)  # fmt: skip
#: The main process at any moment of the undisturbed duration.
UNIFORM = ("any",) * 12
COMPARED = (
    "experiment.json",
    "results.json",
    "results.md",
    "best",
    "uniform",
    "greedy",
    "initialisation",
    "ingredients",
)
POLL_SECONDS = 0.002


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--experiment", type=Path, help="experiment.yaml; default: a small one, made here")
    parser.add_argument("--workdir", type=Path, help="default: a temporary folder")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="where kill.md goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stockpot-kill-") as scratch:
        work = arguments.workdir or Path(scratch)
        experiment = arguments.experiment or small_experiment(work / "experiment")
        verdict = Trial(experiment, work, random.Random(arguments.seed)).survive(arguments.kills)
    text = report(verdict)
    (arguments.out / "kill.md").write_text(text, encoding="utf-8")
    print(text)
    return 1 if verdict.problems else 0


@dataclass(frozen=True)
class Kill:
    """One kill -9: whose, when, and how far the command was."""

    folder: str
    victim: str
    seconds: float
    stage: str
    state: str


@dataclass
class Verdict:
    """All kills, and what was wrong afterwards, by folder."""

    undisturbed: dict[str, float]
    kills: list[Kill] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    n_files: int = 0


class Command:
    """`stockpot run`, started; follows its lines to know its stage."""

    def __init__(self, experiment: Path, out: Path) -> None:
        self.started = time.monotonic()
        self.entered = {"start": self.started}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stockpot", "run", str(experiment), "-o", str(out), "--workers", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def stage(self) -> str:
        return max(self.entered, key=STAGES.index)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def workers(self) -> list[psutil.Process]:
        try:
            children = psutil.Process(self.process.pid).children()
            return [child for child in children if "stockpot.engines.worker" in " ".join(child.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait(self) -> None:
        """Until it ends well; anything else is what this script looks for."""
        code = self.process.wait()
        self._listener.join()
        if code != 0:
            raise SystemExit(f"exit code {code}:\n" + "".join(self.lines[-30:]))

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if (stage := stage_of(line)) is not None:
                self.entered.setdefault(stage, time.monotonic())


def stage_of(line: str) -> str | None:
    """The stage that a line of the command's output opens or belongs to."""
    beginnings = {
        "preparing": "head", "[": "sweep", "best: ": "select", "greedy": "select", "measuring": "measure",
        "writing": "write",
    }  # fmt: skip
    return next((stage for beginning, stage in beginnings.items() if line.startswith(beginning)), None)


class Trial:
    """One experiment, undisturbed and tormented."""

    def __init__(self, experiment: Path, work: Path, generator: random.Random) -> None:
        self.experiment = experiment
        self.work = work
        self.generator = generator
        self.seconds: dict[str, float] = {}

    def survive(self, n_kills: int) -> Verdict:
        """Kills until `n_kills` have been delivered and the last folder has ended."""
        reference = self.work / "undisturbed"
        verdict = Verdict(self.undisturbed(reference))
        verdict.n_files = len(contents(reference))
        while len(verdict.kills) < n_kills:
            folder = self.work / f"killed-{len(verdict.folders) + 1}"
            verdict.folders.append(folder.name)
            self.torment(folder, AIMED if len(verdict.folders) % 2 else UNIFORM, verdict, n_kills)
            if problems := differences(reference, folder):
                verdict.problems[folder.name] = problems
            print(f"{folder.name}: {len(verdict.kills)} kills so far, {len(problems)} problems", flush=True)
        return verdict

    def undisturbed(self, folder: Path) -> dict[str, float]:
        """Seconds by stage."""
        command = Command(self.experiment, folder)
        command.wait()
        ends = [*list(command.entered.values())[1:], time.monotonic()]
        seconds = {stage: end - start for (stage, start), end in zip(command.entered.items(), ends, strict=True)}
        print("undisturbed: " + ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items()), flush=True)
        self.seconds = seconds
        return seconds

    def torment(self, folder: Path, aims: Sequence[str], verdict: Verdict, n_kills: int) -> None:
        """Kills and starts again until the folder has what it should."""
        command = Command(self.experiment, folder)
        for aim in aims:
            if len(verdict.kills) == n_kills:
                break
            if self.is_over(folder, aim):
                continue
            victim = self.strike(command, folder, aim)
            if victim is None:
                break
            kill = Kill(folder.name, victim, command.seconds, command.stage, state_of(folder))
            verdict.kills.append(kill)
            print(f"  {kill.victim} killed after {kill.seconds:.1f} s, {kill.stage}: {kill.state}", flush=True)
            if victim == "main":
                command = Command(self.experiment, folder)
        command.wait()

    def is_over(self, folder: Path, aim: str) -> bool:
        """Whether a folder is too far for an aim: what has landed is not done again."""
        if aim in SOUPS:
            return (folder / aim).exists()
        landed = "ingredients/*/run.json"
        n_runs = len(list((self.work / "undisturbed").glob(landed)))
        return aim in ("worker", "sweep") and len(list(folder.glob(landed))) == n_runs

    def strike(self, command: Command, folder: Path, aim: str) -> str | None:
        """Waits for the moment and kills; who was killed, or None if the command ended before."""
        is_time = self.moment(command, folder, aim)
        while not is_time():
            if command.has_ended():
                return None
            time.sleep(POLL_SECONDS)
        if aim == "worker" and (workers := command.workers()):
            self.generator.choice(workers).kill()
            return "worker"
        if command.has_ended():
            return None
        command.kill()
        return "main"

    def moment(self, command: Command, folder: Path, aim: str) -> Callable[[], bool]:
        """Whether it has come; drawn once."""
        if aim in SOUPS:
            half_written = f".{aim}.partial-*/*"
            return lambda: any(folder.glob(half_written))
        stage = {"any": "start", "worker": "sweep"}.get(aim, aim)
        delay = self.generator.uniform(0, sum(self.seconds.values()) if aim == "any" else self.seconds[stage])
        return lambda: stage in command.entered and time.monotonic() >= command.entered[stage] + delay


def state_of(folder: Path) -> str:
    """What a kill found: landed runs, predictions, soups, and what was half done."""
    landed = len(list(folder.glob("ingredients/*/run.json")))
    blobs = len(list(folder.glob("journal/blobs/*/*.safetensors")))
    soups = sum((folder / name / "soup.json").exists() for name in SOUPS)
    half = len(leftovers(folder))
    return f"{landed} runs, {blobs} predictions, {soups} soups" + (f", {half} half done" if half else "")


def differences(reference: Path, folder: Path) -> list[str]:
    """Every file that is not as in the undisturbed run, and every leftover."""
    wanted, found = contents(reference), contents(folder)
    problems = [f"{name}: missing" for name in wanted if name not in found]
    problems += [f"{name}: not in the undisturbed run" for name in found if name not in wanted]
    problems += [f"{name}: other bytes" for name in wanted if name in found and wanted[name] != found[name]]
    problems += [f"{path.relative_to(folder)}: left over" for path in leftovers(folder)]
    top, top_wanted = ({path.name for path in place.iterdir()} for place in (folder, reference))
    problems += [f"{name}: left over" for name in sorted(top - top_wanted) if ".partial-" not in name]
    return problems


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 by relative path of all that must be equal."""
    places = [folder / name for name in COMPARED]
    files = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }


def leftovers(folder: Path) -> list[Path]:
    """Temporary names."""
    return sorted(path for path in folder.rglob(".*") if ".partial-" in path.name or ".replaced-" in path.name)


# --- the small experiment ----------------------------------------------------------------------------------------


def small_experiment(folder: Path) -> Path:
    """An experiment in which every stage takes long enough to be hit."""
    folder.mkdir(parents=True, exist_ok=True)
    small_bert(folder / "base")
    task = {
        "family": "text-classification",
        "data": {
            "file": str(DATA), "text": "synopsis", "label": "section", "seed": 0,
            "train": {"rows": 200}, "held_out": {"rows": 250}, "test": {"rows": 250},
            "shifts": {
                "name": {"of": "test", "first": 100, "text": "name"},
                "typos": {"of": "test", "first": 100, "corrupt": "typos", "rate": 0.08},
            },
        },
        "evaluation": {"batch_size": 32, "max_length": 32},
    }  # fmt: skip
    experiment = {
        "name": "killed", "task": task, "initialisation": "base", "head": "linear-probe",
        "sweep": {
            "runs": 4, "seed": 0,
            "space": {
                "learning_rate": {"log_uniform": [2e-4, 2e-3]}, "epochs": 1, "dropout": 0.1,
                "freeze": ["*embeddings*"],
            },
        },
        "random_orders": 3,
    }  # fmt: skip
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(experiment, indent=1), encoding="utf-8")
    return path


def small_bert(folder: Path) -> None:
    """2 layers, 256 wide, random; a large vocabulary makes the files large enough for writing to take a while."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_000, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=64,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def word_tokenizer():
    """One token per word of the data."""
    import gzip

    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        texts = [line.split("\t")[2] for line in islice(lines, 1, None)]
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=30_000, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, special.index(name)) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


# --- the page ----------------------------------------------------------------------------------------------------


def report(verdict: Verdict) -> str:
    """kill.md."""
    hits = Counter(kill.stage for kill in verdict.kills)
    victims = Counter(kill.victim for kill in verdict.kills)
    n_bad = len(verdict.problems)
    outcome = (
        f"**{n_bad} of {len(verdict.folders)} folders differ from the undisturbed run.**"
        if n_bad
        else f"All {len(verdict.folders)} folders ended with the bytes of the undisturbed run "
        f"({verdict.n_files} files compared in each), and nothing was left over."
    )
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in verdict.undisturbed.items())
    lines = [
        "# kill -9 of `stockpot run`",
        "",
        f"{len(verdict.kills)} kills: {victims['main']} of the main process, {victims['worker']} of a worker.",
        outcome,
        "",
        f"Undisturbed: {sum(verdict.undisturbed.values()):.1f} s ({seconds}). Hits by stage: "
        + ", ".join(f"{stage} {hits[stage]}" for stage in STAGES)
        + ".",
        "",
        f"Made by `python benchmarks/kill.py` on {date.today().isoformat()}: {machine()}.",
        "",
        "| # | folder | killed | after s | stage | found in the folder | bytes equal at the end |",
        "|---|---|---|---|---|---|---|",
        *(table_row(number, kill, verdict) for number, kill in enumerate(verdict.kills, 1)),
        "",
    ]
    problems = [f"- {folder}: {problem}" for folder, found in verdict.problems.items() for problem in found]
    return "\n".join([*lines, *problems]).rstrip() + "\n"


def table_row(number: int, kill: Kill, verdict: Verdict) -> str:
    cells: Sequence[object] = (
        number, kill.folder, kill.victim, f"{kill.seconds:.1f}", kill.stage, kill.state,
        "no" if kill.folder in verdict.problems else "yes",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def machine() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    sys.exit(main())
