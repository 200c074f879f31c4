"""Checks what `stockpot run experiments/debian-sections/small.yaml` wrote, as a user of its output would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

METHODS = [
    "initialisation", "best", "second_best", "mean_individual", "uniform", "greedy", "greedy_random", "ensemble",
    "greedy_ensemble",
]  # fmt: skip
SPLITS = {"held_out", "test", "shift:long", "shift:name", "shift:typos", "shift:worddrop", "shift_mean"}


def main(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert list(rows) == METHODS, list(rows)
    for method, row in rows.items():
        assert set(row["scores"]) == SPLITS, (method, set(row["scores"]))
        assert all(0 < cell["value"] < 1 and cell["stderr"] > 0 and cell["n"] > 0 for cell in row["scores"].values())
    assert rows["greedy"]["scores"]["held_out"]["value"] >= rows["best"]["scores"]["held_out"]["value"]
    assert results["sentence"] in (out / "results.md").read_text().replace("\\", "")
    for name in ("best", "uniform", "greedy"):
        assert (out / name / "README.md").is_file()
        assert json.loads((out / name / "soup.json").read_text())["recipe"] == name
    loads_and_predicts(out / "greedy")
    compare_repeats(out, rows["greedy"])
    print("the small quickstart's output is whole, loadable and repeatable")


def loads_and_predicts(folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)("a small fast web server", return_tensors="pt")
    assert model(**inputs).logits.shape == (1, 12)


def compare_repeats(out: Path, row: dict) -> None:
    """`compare` on the written soup gives the table's numbers to the last digit."""
    task = "experiments/debian-sections/small-task.yaml"
    command = [sys.executable, "-m", "stockpot", "compare", str(out / "greedy"), "--task", task]
    subprocess.run([*command, "-o", str(out.parent / "again")], check=True)
    again = json.loads((out.parent / "again" / "results.json").read_text())["rows"][0]
    assert again["method"] == "best"
    for split, cell in row["scores"].items():
        assert again["scores"][split] == cell, (split, again["scores"][split], cell)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
