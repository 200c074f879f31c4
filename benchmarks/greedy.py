"""How many held-out examples greedy's candidates need: all, the floor, and what stockpot evaluates.

    python benchmarks/greedy.py [--quick] [--out benchmarks]

Made-up logits of k models on 10,000 examples (12 classes, five lengths, batches of 64): a signal, noise that all models
share and noise of their own; a soup's logits are the mean of its ingredients', with a little noise on top. Three ways
make the same greedy search and must keep the same ingredients:

- plain: every candidate on every example;
- natural: given up as soon as it is lost, examples in their own order;
- ours: given up as soon as it is lost, examples hard first by the cached logits (`stockpot.tasks.racing`).

The floor counts all examples of a candidate that is kept and the wrong ones that settle one that is not. It writes
greedy.md and greedy.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from stockpot.recipes import greedy
from stockpot.tasks.racing import hard_first, margins, race
from stockpot.types import Incumbent, Ingredient, Score, Soup

N_CLASSES, BATCH = 12, 64
#: Shares of examples by length, as of short texts.
BUCKETS = (0.1, 0.35, 0.3, 0.2, 0.05)
WANTED = (0, 3, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few models and examples: does the script work?")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    counts, n = ((6,), 500) if arguments.quick else ((24, 72), 10_000)
    rows = [row for k in counts for accuracy in (0.6, 0.8, 0.95) for row in chosen(k, accuracy, n)]
    (arguments.out / "greedy.md").write_text("\n".join(page(rows, n, quick=arguments.quick)) + "\n", encoding="utf-8")
    (arguments.out / "greedy.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def chosen(k: int, accuracy: float, n: int) -> list[dict[str, Any]]:
    """Of searches among models that are more or less alike, those whose acceptances come nearest to 0, 3 and 10."""
    tried = [measured(World(k, accuracy, n, alike)) for alike in (0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995)]
    found = [min(tried, key=lambda row: abs(row["accepted"] - wanted)) for wanted in WANTED]
    return [row for position, row in enumerate(found) if row not in found[:position]]


class World:
    """Logits of k models on n examples."""

    def __init__(self, k: int, accuracy: float, n: int, alike: float) -> None:
        generator = np.random.default_rng([k, round(1000 * accuracy), round(1000 * alike)])
        self.k, self.n, self.alike = k, n, alike
        self.labels = generator.integers(0, N_CLASSES, n)
        lengths = generator.choice(len(BUCKETS), n, p=BUCKETS)
        self.buckets = [np.flatnonzero(lengths == bucket).tolist() for bucket in range(len(BUCKETS))]
        shared = generator.normal(size=(n, N_CLASSES))
        own = generator.normal(size=(k, n, N_CLASSES)) * generator.uniform(0.8, 1.2, (k, 1, 1))
        noise = math.sqrt(alike) * shared + math.sqrt(1 - alike) * own
        signal = skill_for(accuracy, noise[0], self.labels) * np.eye(N_CLASSES)[self.labels]
        self.own = (noise + signal).astype(np.float32)
        self.runs = [Ingredient(str(number), str(number)) for number in range(k)]
        self.n_evaluated = 0

    def logits(self, soup: Soup) -> np.ndarray[Any, Any]:
        members = [int(ingredient.name) for ingredient in soup.ingredients]
        wobble = np.random.default_rng([len(members), *members]).normal(size=(self.n, N_CLASSES))
        scale = 0.2 * math.sqrt(1 - self.alike) if len(members) > 1 else 0.0
        result: np.ndarray[Any, Any] = self.own[members].mean(axis=0) + scale * wobble
        return result

    def plain(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        if against is not None:
            self.n_evaluated += self.n
        return Score(float((self.logits(soup).argmax(1) == self.labels).mean()))

    def natural(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        order = [(0, np.arange(start, min(start + BATCH, self.n))) for start in range(0, self.n, BATCH)]
        return self.plain(soup) if against is None else self.raced(soup, against, order)

    def ours(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        if against is None:
            return self.plain(soup)
        n = len(against.soup.ingredients)
        expected = (n * self.logits(against.soup) + self.own[int(soup.ingredients[-1].name)]) / (n + 1)
        return self.raced(soup, against, hard_first(margins(expected, self.labels), self.buckets, batch_size=BATCH))

    def raced(self, soup: Soup, against: Incumbent, order: Sequence[Any]) -> Score:
        logits = self.logits(soup)
        found = race(
            order,
            lambda batches: [logits[rows] for _, rows in batches],
            lambda rows, part: int((part.argmax(1) != self.labels[rows]).sum()),
            lambda n_wrong: not against.yields_to(Score((self.n - n_wrong) / self.n)),
            wave=1,
        )
        self.n_evaluated += len(found.rows)
        right = int((found.logits.argmax(1) == self.labels[found.rows]).sum())
        if len(found.rows) == self.n:
            return Score(right / self.n)
        n_wrong = len(found.rows) - right
        return Score(math.nan, None, self.n, len(found.rows), (self.n - n_wrong) / self.n)


def skill_for(accuracy: float, noise: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """The signal that gives one model the accuracy, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        reached = float(((noise + middle * np.eye(N_CLASSES)[labels]).argmax(1) == labels).mean())
        low, high = (middle, high) if reached < accuracy else (low, middle)
    return high


def measured(world: World) -> dict[str, Any]:
    searches = {name: searched(world, name) for name in ("plain", "natural", "ours")}
    kept = {name: soup.ingredients for name, (soup, _) in searches.items()}
    assert kept["plain"] == kept["natural"] == kept["ours"], "a decision has changed"
    soup, n_ours = searches["ours"]
    candidates = soup.steps[1:]
    lost = [step.score for step in candidates if step.score.is_abandoned]
    floor = world.n * (len(candidates) - len(lost)) + sum(world.n - round(world.n * score.at_most) for score in lost)
    n_all = world.n * len(candidates)
    return {
        "k": world.k,
        "best": max(step.score.value for step in soup.steps[:1]),
        "accepted": sum(step.accepted for step in candidates),
        "floor": floor / n_all,
        "ours": n_ours / n_all,
        "natural": searches["natural"][1] / n_all,
        "ours_over_floor": n_ours / floor,
        "extra_batches_per_candidate": (n_ours - 1.1 * floor) / BATCH / len(candidates),
    }


def searched(world: World, name: str) -> tuple[Soup, int]:
    world.n_evaluated = 0
    soup = greedy(world.runs, getattr(world, name))
    return soup, world.n_evaluated


def page(rows: Sequence[dict[str, Any]], n: int, *, quick: bool) -> Iterator[str]:
    yield "# What greedy's candidates cost"
    command = "python benchmarks/greedy.py" + (" --quick" if quick else "")
    yield f"\nMade by `{command}` on {date.today()}, numpy {version('numpy')}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    yield f"\nShare of the held-out examples ({n:,} for each candidate) that is evaluated while candidates are tried."
    yield "Made-up logits, 12 classes, five lengths, batches of 64. In every row the three ways keep the same"
    yield "ingredients."
    yield "\n| k | best single | accepted | plain | natural order | **ours** | floor | ours / floor |"
    yield "| --: | --: | --: | --: | --: | --: | --: | --: |"
    for row in rows:
        kept = f"{row['accepted']} of {row['k'] - 1}"
        shares = [f"{row['natural']:.3f}", f"**{row['ours']:.3f}**", f"{row['floor']:.3f}"]
        cells = [row["k"], f"{100 * row['best']:.1f} %", kept, 1, *shares, f"{row['ours_over_floor']:.2f}"]
        yield f"| {' | '.join(map(str, cells))} |"
    yield "\nFloor: all examples of what is kept, and of the others the wrong ones that settle them. Above it stand"
    yield "whole batches, and up to one batch for each length."


if __name__ == "__main__":
    main()
