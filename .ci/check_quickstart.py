"""Checks what `stockpot run experiments/debian-sections/small.yaml` wrote, as a user of its output would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TASK = "experiments/debian-sections/small-task.yaml"
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
    a_plain_loop_agrees(out / "greedy", rows["greedy"]["scores"]["test"]["value"])
    compare_repeats(out, rows["greedy"])
    print("the small quickstart's output is whole, loadable and repeatable")


def a_plain_loop_agrees(folder: Path, expected: float) -> None:
    """transformers alone, one text at a time, gives the table's test accuracy to the last digit."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from stockpot import load_task

    task = load_task(TASK, folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    n_right = 0
    for (text,), label in zip(task.texts("test"), task.labels("test"), strict=True):
        with torch.inference_mode():
            logits = model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).logits
        n_right += int(logits.argmax()) == label
    assert n_right / task.n_examples("test") == expected, (n_right, expected)


def compare_repeats(out: Path, row: dict) -> None:
    """`compare` on the written soup gives the table's numbers to the last digit."""
    command = [sys.executable, "-m", "stockpot", "compare", str(out / "greedy"), "--task", TASK]
    subprocess.run([*command, "-o", str(out.parent / "again")], check=True)
    again = json.loads((out.parent / "again" / "results.json").read_text())["rows"][0]
    assert again["method"] == "best"
    for split, cell in row["scores"].items():
        assert again["scores"][split] == cell, (split, again["scores"][split], cell)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
