"""How many held-out examples greedy's candidates need: all, the floor, and what stockpot evaluates.

    python benchmarks/greedy.py [--quick] [--out benchmarks] [--quickstart FOLDER]

Made-up logits of k models on 10,000 examples (12 classes, five lengths, batches of 64): a signal, noise that all models
share and noise of their own. A soup's logits are the mean of its ingredients' and noise that mixing weights adds, half
of it common to all soups. How much that is against the models' own noise decides how well an order can be foreseen. In
the first table it is a fifth, which is what the quickstart's soups show (with --quickstart the page says so); how alike
and how unequal models are is chosen so that about 0, 3 and 10 candidates are accepted. In the second table that is
reached by mixing that adds up to twice the models' own noise, anew for every soup: nobody can foresee half of that.
With --quickstart also the search of a finished `stockpot run`, from the logits in its journal. Three ways make the same
greedy search and must keep the same ingredients:

- plain: every candidate on every example;
- natural: given up as soon as it is lost, examples in their own order;
- ours: given up as soon as it is lost, the likeliest wrong answers first (`stockpot.tasks.racing`).

The floor counts all examples of a candidate that is kept and the wrong ones that settle one that is not; "whole
batches" the fewest batches that hold so many, had one known the answers. It writes greedy.md and greedy.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from stockpot.journal.blobs import read_blob
from stockpot.recipes import add_share, greedy, single
from stockpot.tasks.racing import hard_first, margins, race
from stockpot.types import Coefficients, Incumbent, Ingredient, Score, Soup

Array = np.ndarray[Any, Any]
N_CLASSES, BATCH = 12, 64
#: Shares of examples by length, as of short texts.
BUCKETS = (0.1, 0.35, 0.3, 0.2, 0.05)
WANTED = (0, 3, 10)
ALIKE = (0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995)
#: Knobs to turn: how alike models are, how unequal, and how much mixing adds, as a share of their own noise.
FORESEEN = [(alike, unequal, 0.2) for alike, unequal in product(ALIKE, (0.0, 0.02, 0.05, 0.1, 0.3))]
UNFORESEEN = [(alike, 0.0, mixing) for alike, mixing in product(ALIKE, (0.2, 0.5, 1.0, 2.0))]
WAYS = ("plain", "natural", "ours")
DATA = Path(__file__).resolve().parent.parent / "experiments" / "debian-sections"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few models and examples: does the script work?")
    parser.add_argument("--quickstart", type=Path, action="append", default=[], help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    counts, n = ((6,), 500) if arguments.quick else ((24, 72), 10_000)
    rows = [
        {"table": table, **row}
        for table, knobs in (("foreseen", FORESEEN), ("unforeseen", UNFORESEEN))
        for k in counts
        for accuracy in (0.6, 0.8, 0.95)
        for row in chosen(k, accuracy, n, knobs)
    ]
    for folder in arguments.quickstart:
        world = quickstart(folder)
        rows.append({"table": "runs", "name": folder.name, "mixing": mixing_of(world), **measured(world)})
    (arguments.out / "greedy.md").write_text("\n".join(page(rows, n, quick=arguments.quick)) + "\n", encoding="utf-8")
    (arguments.out / "greedy.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def chosen(k: int, accuracy: float, n: int, knobs: Sequence[tuple[float, float, float]]) -> list[dict[str, Any]]:
    """Of searches among models of all knobs, those whose acceptances come nearest to 0, 3 and 10."""
    accepted = {}
    for knob in knobs:
        soup, _ = searched(made_up(k, accuracy, n, *knob), "plain")
        accepted[knob] = len(soup.ingredients) - 1
        if all(wanted in accepted.values() for wanted in WANTED):
            break
    nearest = dict.fromkeys(min(accepted, key=lambda knob: abs(accepted[knob] - wanted)) for wanted in WANTED)
    return [
        {"name": f"{100 * accuracy:.0f} %", "alike": knob[0], "unequal": knob[1], "mixing": knob[2]}
        | measured(made_up(k, accuracy, n, *knob))
        for knob in nearest
    ]


class World:
    """Labels, lengths and logits of k models and their soups; what was asked about candidates is counted."""

    def __init__(self, labels: Array, buckets: Sequence[Sequence[int]], own: Array, batch_size: int) -> None:
        self.labels, self.buckets, self.own, self.batch_size = labels, buckets, own, batch_size
        self.k, self.n = own.shape[:2]
        self.runs = [Ingredient(str(number), str(number)) for number in range(self.k)]
        self.n_evaluated = 0

    def logits(self, soup: Soup) -> Array:
        raise NotImplementedError

    def own_of(self, soup: Soup) -> Array:
        return self.own[[int(ingredient.name) for ingredient in soup.ingredients]]

    def wrong(self, soup: Soup) -> Array:
        found: Array = self.logits(soup).argmax(1) != self.labels
        return found

    def plain(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        if against is not None:
            self.n_evaluated += self.n
        return Score(1 - int(self.wrong(soup).sum()) / self.n)

    def natural(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        return self.raced(soup, against, np.zeros((2, self.n))) if against is not None else self.plain(soup)

    def ours(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        if against is None:
            return self.plain(soup)
        n = len(against.soup.ingredients)
        first = (n * self.logits(against.soup) + self.own_of(soup)[-1]) / (n + 1)
        second = self.own_of(soup).mean(axis=0)
        return self.raced(soup, against, np.stack([margins(guess, self.labels) for guess in (first, second)]))

    def raced(self, soup: Soup, against: Incumbent, guesses: Array) -> Score:
        logits = self.logits(soup)
        # In its own order an example has no length.
        buckets = self.buckets if guesses.any() else [range(self.n)]
        found = race(
            guesses,
            self.labels,
            buckets,
            lambda batches: [logits[rows] for _, rows in batches],
            lambda rows, part: int((part.argmax(1) != self.labels[rows]).sum()),
            lambda n_wrong: not against.yields_to(Score(1 - n_wrong / self.n)),
            batch_size=self.batch_size,
            wave=1,
        )
        self.n_evaluated += len(found.rows)
        n_wrong = int((found.logits.argmax(1) != self.labels[found.rows]).sum())
        if len(found.rows) == self.n:
            return Score(1 - n_wrong / self.n)
        return Score(math.nan, None, self.n, len(found.rows), 1 - n_wrong / self.n)


class MadeUp(World):
    """A soup is the mean of its ingredients' logits and what mixing adds."""

    mixing = 0.0

    def logits(self, soup: Soup) -> Array:
        members = [int(ingredient.name) for ingredient in soup.ingredients]
        result: Array = self.own_of(soup).mean(axis=0)
        if len(members) == 1:
            return result
        seeds = (0,), (len(members), *members)
        added = [np.random.default_rng(seed).normal(size=(self.n, N_CLASSES)) for seed in seeds]
        return result + self.mixing * math.sqrt(0.5) * (added[0] + added[1])


class Recorded(World):
    """Logits of soups by the names of their ingredients; what the run gave up early is predicted now."""

    by_names: dict[tuple[str, ...], Array]
    names: Sequence[str]
    predict: Callable[[tuple[str, ...]], Array]

    def logits(self, soup: Soup) -> Array:
        names = tuple(self.names[int(ingredient.name)] for ingredient in soup.ingredients)
        if names not in self.by_names:
            self.by_names[names] = self.predict(names)
        return self.by_names[names]


def made_up(k: int, accuracy: float, n: int, alike: float, unequal: float, mixing: float) -> World:
    generator = np.random.default_rng([k, round(1000 * accuracy), round(1000 * alike)])
    labels = generator.integers(0, N_CLASSES, n)
    lengths = generator.choice(len(BUCKETS), n, p=BUCKETS)
    shared = generator.normal(size=(n, N_CLASSES))
    own = generator.normal(size=(k, n, N_CLASSES)) * generator.uniform(0.8, 1.2, (k, 1, 1))
    noise = math.sqrt(alike) * shared + math.sqrt(1 - alike) * own
    skills = skill_for(accuracy, noise[0], labels) * (1 + unequal * generator.normal(size=(k, 1, 1)))
    signal = skills * np.eye(N_CLASSES)[labels]
    buckets = [np.flatnonzero(lengths == bucket).tolist() for bucket in range(len(BUCKETS))]
    world = MadeUp(labels, buckets, (noise + signal).astype(np.float32), BATCH)
    world.mixing = mixing * math.sqrt(1 - alike)
    return world


def quickstart(folder: Path) -> Recorded:
    """The held-out logits in a finished run's journal."""
    from safetensors import safe_open

    from stockpot.config import task_config
    from stockpot.tasks import load_task
    from stockpot.tasks.classifier import encoded

    config = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["experiment"]
    names = sorted(path.name for path in (folder / "ingredients").iterdir() if path.is_dir())
    task = load_task(task_config(config["task"], DATA), folder / "initialisation", folder=DATA)
    texts, labels = task.texts("held_out"), task.labels("held_out")
    encodings = encoded(folder / "initialisation", texts, max_length=config["task"]["evaluation"]["max_length"])
    found = {}
    for path in sorted((folder / "journal" / "blobs").glob("*/*.safetensors")):
        with safe_open(path, framework="numpy") as blob:
            about = json.loads(blob.metadata()["about"])
        arrays = read_blob(path)
        if about.get("split") == "held_out" and arrays is not None and len(arrays["labels"]) == len(labels):
            assert np.array_equal(arrays["labels"], labels), "other data than the run had"
            found[tuple(about["ingredients"])] = arrays["logits"]
    own = np.stack([found[(name,)] for name in names])
    batch_size = config["task"]["evaluation"]["batch_size"]
    world = Recorded(labels, list(encodings.rows_by_bucket(batch_size).values()), own, batch_size)
    world.by_names, world.names = found, names

    def predict(members: tuple[str, ...]) -> Array:
        parts = tuple(Ingredient(name, str(folder / "ingredients" / name)) for name in members)
        logits: Array = task.predict(Soup(parts, Coefficients.equal(len(parts)), "greedy"), "held_out").logits
        return logits

    world.predict = predict
    return world


def mixing_of(world: Recorded) -> float:
    """What mixing adds to the mean of logits, against how far models lie apart: root mean squares, classes centred."""
    own = world.own - world.own.mean(-1, keepdims=True)
    apart = float(own.var(axis=0, ddof=1).mean())
    added = []
    for names, logits in world.by_names.items():
        if len(names) > 1 and set(names) <= set(world.names):
            members = [world.names.index(name) for name in names]
            added.append(float(np.square(logits - logits.mean(-1, keepdims=True) - own[members].mean(0)).mean()))
    return math.sqrt(sum(added) / len(added) / apart)


def skill_for(accuracy: float, noise: Array, labels: Array) -> float:
    """The signal that gives one model the accuracy, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        reached = float(((noise + middle * np.eye(N_CLASSES)[labels]).argmax(1) == labels).mean())
        low, high = (middle, high) if reached < accuracy else (low, middle)
    return high


def measured(world: World) -> dict[str, Any]:
    searches = {name: searched(world, name) for name in WAYS}
    kept = {name: soup.ingredients for name, (soup, _) in searches.items()}
    assert kept["plain"] == kept["natural"] == kept["ours"], "a decision has changed"
    soup, n_plain = searches["plain"]
    least = floors(world, soup)
    n_ours, n_candidates = searches["ours"][1], len(soup.steps) - 1
    return {
        "k": world.k,
        "best": soup.steps[0].score.value,
        "accepted": len(soup.ingredients) - 1,
        "natural": searches["natural"][1] / n_plain,
        "ours": n_ours / n_plain,
        **{name: value / n_plain for name, value in least.items()},
        "ours_over_floor": n_ours / least["floor"],
        "ours_over_error_rates": n_ours / least["error_rates"],
        "ours_over_whole_batches": n_ours / least["whole_batches"],
        "batches_above_1.1_floors_per_candidate": (n_ours - 1.1 * least["floor"]) / world.batch_size / n_candidates,
    }


def floors(world: World, soup: Soup) -> dict[str, int]:
    """Examples of all candidates that cannot be done without, in three meanings."""
    incumbent = single(soup.steps[0].ingredient)
    total = {"floor": 0, "error_rates": 0, "whole_batches": 0}
    for step in soup.steps[1:]:
        tried = add_share(incumbent, step.ingredient)
        wrong, needed = world.wrong(tried), int(world.wrong(incumbent).sum()) + 1
        if step.accepted:
            incumbent = tried
            total = {name: value + world.n for name, value in total.items()}
        else:
            total["floor"] += needed
            total["error_rates"] += int(wrong.sum())
            total["whole_batches"] += fewest(world, wrong, needed)
    return total


def fewest(world: World, wrong: Array, needed: int) -> int:
    n_seen = n_wrong = 0
    for _, rows in hard_first(wrong.astype(float), world.buckets, batch_size=world.batch_size):
        n_seen, n_wrong = n_seen + len(rows), n_wrong + int(wrong[rows].sum())
        if n_wrong >= needed:
            break
    return n_seen


def searched(world: World, name: str) -> tuple[Soup, int]:
    world.n_evaluated = 0
    soup = greedy(world.runs, getattr(world, name))
    return soup, world.n_evaluated


def page(rows: Sequence[dict[str, Any]], n: int, *, quick: bool) -> Iterator[str]:
    yield "# What greedy's candidates cost"
    has_runs = any("alike" not in row for row in rows)
    command = f"python benchmarks/greedy.py{' --quick' if quick else ''}{' --quickstart FOLDER' if has_runs else ''}"
    yield f"\nMade by `{command}` on {date.today()}, numpy {version('numpy')}."
    if quick:
        yield "\n**A quick run: no number here means anything.**"
    yield f"\nShare of the held-out examples ({n:,} for each candidate) that is evaluated while candidates are tried."
    yield "Made-up logits, 12 classes, five lengths, batches of 64; runs like the quickstart have 1,000 held-out"
    yield "examples and batches of 32. In every row the three ways keep the same ingredients."
    titles = {
        "foreseen": "Mixing adds a fifth of what models differ by",
        "runs": "Finished runs",
        "unforeseen": "Mixing adds up to twice what models differ by",
    }
    for name, title in titles.items():
        of_table = [row for row in rows if row["table"] == name]
        if of_table:
            yield from table(title, of_table)
    yield "\nFloor: all examples of what is kept, and of every other candidate as many wrong ones as the incumbent has,"
    yield "and one more: no order needs fewer. Whole batches: the fewest batches of one length that hold so many, had"
    yield "one known the answers. Error rates: a + (1 - a) e, with the share a of candidates that are kept and the"
    yield "error rate e of the others; more than the floor where candidates are much worse than the incumbent."


def table(title: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"\n## {title}\n"
    titles = "models, k, best single, accepted, plain, natural order, **ours**, floor, whole batches, ours / floor"
    yield "| " + " | ".join([*titles.split(", "), "ours / error rates", "ours / whole batches"]) + " |"
    yield "| :-- | " + "--: | " * 10 + "--: |"
    for row in rows:
        kept = f"{row['accepted']} of {row['k'] - 1}"
        shares = [
            f"{row['natural']:.3f}",
            f"**{row['ours']:.3f}**",
            f"{row['floor']:.3f}",
            f"{row['whole_batches']:.3f}",
        ]
        ratios = [f"{row[f'ours_over_{name}']:.2f}" for name in ("floor", "error_rates", "whole_batches")]
        cells = [row["name"], row["k"], f"{100 * row['best']:.1f} %", kept, 1, *shares, *ratios]
        yield f"| {' | '.join(map(str, cells))} |"
    yield f"\n{summary(rows)}"
    if rows[0]["table"] == "runs":
        added = ", ".join(f"{row['mixing']:.2f} ({row['name']})" for row in rows)
        yield f"Mixing adds to the mean of logits, as a share of what models differ by: {added}."


def summary(rows: Sequence[dict[str, Any]]) -> str:
    names = ("ours_over_floor", "ours_over_error_rates")
    within, by_rates = (sum(row[name] <= 1.1 for row in rows) for name in names)
    extra = [row["batches_above_1.1_floors_per_candidate"] for row in rows]
    blind = max(row["ours_over_whole_batches"] for row in rows)
    return (
        f"Within 1.1 of the floor: {within} of {len(rows)} rows, within that and one batch a candidate: "
        f"{sum(value <= 1 for value in extra)};\nwithin 1.1 of the error rates: {by_rates}. The worst row takes "
        f"{max(*extra, 0.0):.1f} batches a candidate more than 1.1 of the floor,\nand {blind:.2f} of whole batches."
    )


if __name__ == "__main__":
    main()
