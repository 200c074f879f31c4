"""Records of an experiment that never ran, for the page to show."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from stockpot.records import (
    Cell,
    Comparison,
    Diagnosis,
    Finding,
    Individual,
    Results,
    Row,
    write_diagnosis,
    write_results,
    write_soup,
)
from stockpot.reports.sentence import summary_sentence
from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

HOSTILE = "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'>"


def experiment(folder: Path, *, runs: int = 6, shifts: int = 2, hostile: bool = True) -> Path:
    """results.json, a greedy soup.json and diagnosis.json."""
    generator = random.Random(0)
    names = [f"run-{i:03d}" for i in range(runs)]
    if hostile:
        names[1] = HOSTILE
    splits = ["held_out", "test", *(f"shift:s{i}" for i in range(shifts)), "shift_mean"]

    def cells(base: float) -> dict[str, Cell]:
        return {split: Cell(base + generator.uniform(-0.02, 0.02), 0.01, 2000) for split in splits}

    settings = {
        name: {"learning_rate": 10 ** generator.uniform(-5, -3), "epochs": generator.randint(1, 5)} for name in names
    }
    individuals = tuple(Individual(name, cells(0.7), settings[name]) for name in names)
    ece = {f"ece{suffix}": {"test": Cell(0.05, 0.01, 2000)} for suffix in ("", "_scaled")}
    methods = (("best", 1, 0.71), ("uniform", runs, 0.72), ("greedy", 3, 0.74), ("ensemble", runs, 0.73))
    rows = tuple(Row(method, n, 1, cells(base), (), ece, 1.2) for method, n, base in methods)
    comparisons = tuple(
        Comparison("greedy", "best", split, 0.02, 0.005, 2000, 0.0004, 91, "mcnemar_exact")
        for split in ("test", "shift_mean")
    )
    found = Results("accuracy", True, rows, comparisons, individuals=individuals, notes=("A remark.",))
    found = replace(found, sentence=summary_sentence(found), experiment={"seed": 1})
    folder.mkdir(parents=True, exist_ok=True)
    write_results(found, folder)
    ingredients = tuple(Ingredient(name, f"runs/{i}", settings[name], "ab" * 32) for i, name in enumerate(names))
    steps = tuple(
        Step(one, Score(0.7 + 0.002 * i, 0.01, 1000, 1000, metric="accuracy"), accepted=i % 2 == 0)
        for i, one in enumerate(ingredients)
    )
    soup = Soup(ingredients[::2], Coefficients.equal(len(ingredients[::2])), "greedy", steps=steps)
    (folder / "greedy").mkdir(exist_ok=True)
    write_soup(soup, folder / "greedy", output={})
    finding = Finding("basin", "fault", f"the loss rises behind {HOSTILE}", ("1.0, 2.0",), "leave it out", (names[1],))
    write_diagnosis(Diagnosis(tuple(names), (finding,), "leave it out", (names[1],)), folder)
    return folder
