"""A whole tiny experiment of text-to-text models: fine-tuned, cooked, compared, written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stockpot.experiment import run
from stockpot.recipes import single
from stockpot.tasks import load_task
from stockpot.types import Ingredient
from tiny_seq2seq import LABEL_WORDS, tiny_seq2seq_experiment


def test_run_ends_with_soups_that_load_and_score_as_the_table_says(tmp_path) -> None:
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    learned = {"epochs": 1, "least_steps": 2, "batch_size": 8}
    recipes = ["uniform", "greedy", "learned", "ensemble"]
    path = tiny_seq2seq_experiment(tmp_path / "home", recipes=recipes, learned=learned)
    found = run(path, tmp_path / "out")
    assert {row.method for row in found.rows} >= {"initialisation", "best", *recipes}
    scores = {row.method: row.scores["test"].value for row in found.rows}

    task = load_task(path.parent / "task.yaml", tmp_path / "out" / "uniform")
    model = T5ForConditionalGeneration.from_pretrained(tmp_path / "out" / "uniform").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "uniform")
    right = 0
    for (text,), label in zip(task.texts("test"), task.labels("test"), strict=True):
        prompt = tokenizer(f"task: {text}", return_tensors="pt", truncation=True, max_length=16)["input_ids"]
        losses = []
        for word in (LABEL_WORDS[name] for name in task.label_names):
            target = tokenizer(text_target=word, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                losses.append(float(model(input_ids=prompt, labels=target).loss) * target.shape[1])
        right += int(np.argmin(losses)) == label
    assert scores["uniform"] == pytest.approx(right / task.n_examples("test"))
    again = task.evaluate(single(Ingredient("greedy", str(tmp_path / "out" / "greedy"))))
    assert again.value == next(row for row in found.rows if row.method == "greedy").scores["held_out"].value
    assert "AutoModelForSeq2SeqLM" in (tmp_path / "out" / "uniform" / "README.md").read_text()
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["experiment"]["task"]["label_words"] == LABEL_WORDS
    assert record["experiment"]["head"] == "own"
