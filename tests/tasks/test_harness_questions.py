"""Multiple choice of the lm-evaluation-harness as a task: accuracies and log-likelihoods are the harness's own."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from stockpot.cli.entry import exit_code
from stockpot.config import task_config
from stockpot.errors import ConfigError, DataError, MissingExtraError
from stockpot.recipes import single
from stockpot.tasks import load_task
from stockpot.types import Ingredient
from tiny_lm import tiny_lm, tiny_lm_rows

#: What tasks of the harness do differently from each other: name -> their settings.
TASKS = {
    "plain": {"doc_to_text": "{{question}}"},
    "blank_before": {"doc_to_text": "Q: {{text}} ", "target_delimiter": ""},
    "two_shots": {"doc_to_text": "{{question}}", "num_fewshot": 2, "description": "Right or wrong.\n\n"},
    "no_context": {"doc_to_text": "{{start}}", "target_delimiter": ""},
    "answer_as_text": {"doc_to_text": "{{question}}", "doc_to_target": "{{options[right]}}"},
    "mutual": {"doc_to_text": "{{question}}", "metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}]},
    "sentences": {"doc_to_text": "{{right}}", "doc_to_choice": "{{sentences}}", "doc_to_target": "{{text}}"},
}
SHUFFLED = "import random\n\ndef shuffled(docs):\n    return docs.select(random.sample(range(len(docs)), len(docs)))\n"


def _write_tasks(folder: Path, changes: dict[str, dict] | None = None) -> Path:
    """A folder of YAML tasks over some rows."""
    rows = tiny_lm_rows(24, seed=3)
    for number, row in enumerate(rows):
        row["far"] = 9 if number == 5 else 0
        row["start"] = "" if number % 2 else row["question"] + " "
        row["sentences"] = [f"{row['question']} {choice}" for choice in row["options"]]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "own.py").write_text(SHUFFLED)
    common = {
        "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test", "fewshot_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")},
        "doc_to_choice": "{{options}}", "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}],
    }  # fmt: skip
    for name, settings in {**TASKS, **(changes or {})}.items():
        text = json.dumps({"task": name, **common, **settings}, indent=1)
        (tasks / f"{name}.yaml").write_text(re.sub(r'"(!function [\w.]+)"', r"\1", text))
    (tasks / "both.yaml").write_text(json.dumps({"group": "both", "task": ["plain", "blank_before"]}))
    return tasks


def _task(**data: object) -> dict:
    return {
        "family": "lm", "scoring": "harness", "data": {"tasks": "tasks", **data},
        "evaluation": {"batch_size": 5, "max_length": 200, "precision": "fp32", "device": "cpu"},
    }  # fmt: skip


@pytest.fixture
def tasks(tmp_path) -> Path:
    pytest.importorskip("lm_eval", reason="the extra llm is not installed")
    return _write_tasks(tmp_path)


def test_everything_is_as_the_harness_has_it(tasks, tmp_path) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = tiny_lm(tmp_path / "m", seed=1)
    language_model = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(run), tokenizer=AutoTokenizer.from_pretrained(run)
    )
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    found = lm_eval.simple_evaluate(language_model, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0)
    samples = found["samples"]
    for metric, score in (("acc", "sum"), ("acc_norm", "characters"), ("acc_bytes", "bytes")):
        shifts = {name: {"task": name} for name in TASKS if name != "plain"}
        settings = _task(held_out={"task": "plain"}, shifts=shifts, allow_overlap=True)
        task = load_task({**settings, "choice_score": score}, run, folder=tmp_path)
        for split, name in (("held_out", "plain"), *((f"shift:{name}", name) for name in shifts)):
            predictions = task.predict(single(Ingredient("m", str(run))), split)
            if metric in found["results"][name] or f"{metric},none" in found["results"][name]:
                expected = np.mean([sample[metric] for sample in samples[name]])
                assert task.score(predictions).value == pytest.approx(expected), (name, metric)
            if score == "sum":
                for logits, sample in zip(predictions.logits, samples[name], strict=True):
                    n = len(sample["doc"]["options"])
                    given = [response[0][0] for response in sample["resps"]][:n]
                    assert logits[:n] == pytest.approx(given, abs=1e-3), name
                    assert (logits[n:] == -1e9).all()


def test_tasks_that_shuffle_are_shuffled_the_same_way_every_time(tmp_path) -> None:
    pytest.importorskip("lm_eval", reason="the extra llm is not installed")
    _write_tasks(tmp_path, {"shuffled": {"doc_to_text": "{{question}}", "process_docs": "!function own.shuffled"}})
    run = tiny_lm(tmp_path / "m")
    before = random.getstate(), np.random.get_state()[1].tolist()
    first, again = (load_task(_task(held_out={"task": "shuffled"}), run, folder=tmp_path) for _ in range(2))
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
    assert first.identity("held_out") == again.identity("held_out")
    plain = load_task(_task(held_out={"task": "plain"}), run, folder=tmp_path)
    assert first.texts("held_out") != plain.texts("held_out")
    assert sorted(first.texts("held_out")) == sorted(plain.texts("held_out"))


def test_prompts_longer_than_the_limit_lose_their_start_and_are_told(tasks, tmp_path) -> None:
    run = tiny_lm(tmp_path / "m")
    make = lambda n: load_task(  # noqa: E731
        {**_task(held_out={"task": "plain"}), "evaluation": {"max_length": n}}, run, folder=tmp_path
    )
    assert make(200).split_notes == ()
    assert re.fullmatch(
        r"held_out: \d+ of 24 rows are longer than `max_length` 8 tokens .* start\.", *make(8).split_notes
    )
    with pytest.raises(DataError, match=r"choices unfit for 3 tokens[\s\S]*has 3 tokens after"):
        make(3)


def test_a_split_can_be_scored_its_own_way(tasks, tmp_path) -> None:
    run = tiny_lm(tmp_path / "m")
    named = {"task": "plain", "rows": 12}
    task = load_task(_task(held_out=named, test={**named, "choice_score": "bytes"}), run, folder=tmp_path)
    plain = load_task(_task(held_out=named, test=named), run, folder=tmp_path)
    soup = single(Ingredient("m", str(run)))
    lengths = [[len(choice) for choice in row[1:]] for row in task.texts("test")]
    whole, by_length = plain.predict(soup, "test").logits, task.predict(soup, "test").logits
    for row, sizes in enumerate(lengths):
        assert by_length[row, : len(sizes)] == pytest.approx(whole[row, : len(sizes)] / sizes)
    assert task.identity("held_out") == plain.identity("held_out")
    assert task.identity("test") != plain.identity("test")


def test_questions_are_drawn_and_shared_by_no_two_splits(tasks, tmp_path) -> None:
    run = tiny_lm(tmp_path / "m")
    splits = {"held_out": {"task": "plain", "rows": 9}, "test": {"task": "plain", "fraction": 0.5}}
    task = load_task(_task(**splits, shifts={"more": {"task": "plain", "rows": 3}}), run, folder=tmp_path)
    items = [item for split in task.splits for item in task.item_ids(split)]
    assert task.splits == ("held_out", "test", "shift:more")
    assert sorted(items) == sorted(f"plain:{number}" for number in range(24))
    group = load_task(_task(held_out={"task": "both"}), run, folder=tmp_path)
    assert {item.partition(":")[0] for item in group.item_ids("held_out")} == {"plain", "blank_before"}
    with pytest.raises(DataError, match=r"24 of 24 rows of test are in held_out"):
        load_task(_task(held_out={"task": "both"}, test={"task": "answer_as_text"}), run, folder=tmp_path)


def test_examples_before_the_questions_are_asked_for_by_the_task_file(tasks, tmp_path) -> None:
    run = tiny_lm(tmp_path / "m")
    make = lambda name, **data: load_task(_task(held_out={"task": name}, **data), run, folder=tmp_path)  # noqa: E731
    assert make("plain", shots=2).identity("held_out") != make("plain").identity("held_out")
    assert make("two_shots", shots=2).identity("held_out") == make("two_shots").identity("held_out")
    assert make("two_shots", shots=0).identity("held_out") != make("two_shots").identity("held_out")


def test_the_guides_task_compares_recipes_over_tasks_of_the_harness(tasks, tmp_path, monkeypatch, capsys) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "llms.md").read_text()
    (content,) = re.findall(r"```yaml\n(family: lm\nscoring: harness.*?)```", page, flags=re.DOTALL)
    for name, stands_for in (("own_questions", "plain"), ("hellaswag", "sentences"), ("arc_easy", "two_shots")):
        text = (tasks / f"{stands_for}.yaml").read_text().replace(f'"{stands_for}"', f'"{name}"')
        (tasks / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.yaml").write_text(
        content.replace("rows: 500", "rows: 10").replace("data:", "data:\n  allow_overlap: true")
    )
    for seed in (1, 2):
        tiny_lm(tmp_path / "runs" / f"m{seed}", seed=seed)
    few = [part for recipe in ("uniform", "greedy", "greedy_ensemble") for part in ("--only", recipe)]
    assert exit_code(["compare", "runs/*", "--task", "task.yaml", *few, "-o", "out"]) == 0
    shown = capsys.readouterr()
    table = (tmp_path / "out" / "results.md").read_text()
    for expected in ("greedy soup", "greedy ensemble", "hellaswag", "arc easy"):
        assert expected in table
    assert "it/s" not in shown.err  # the harness's own progress bars


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"output_type": "generate_until", "doc_to_target": "{{text}}"}, "'bad' is of type generate_until"),
        ({"process_results": "!function own.shuffled"}, "'bad' is scored by code of its own"),
        ({"doc_to_target": "{{far}}"}, "bad:5 has [2-4] choices and the answer 9"),
        ({"doc_to_text": "{{nothing.at.all}}"}, "the harness cannot load 'bad': UndefinedError"),
        ({"dataset_kwargs": {"data_files": {"test": "none.jsonl"}}}, "the harness cannot load 'bad': FileNotFound"),
    ],
)
def test_what_is_no_multiple_choice_is_refused(tmp_path, settings, expected) -> None:
    pytest.importorskip("lm_eval", reason="the extra llm is not installed")
    _write_tasks(tmp_path, {"bad": {"doc_to_text": "{{question}}", **settings}})
    run = tiny_lm(tmp_path / "m")
    with pytest.raises((ConfigError, DataError)) as caught:
        load_task(_task(held_out={"task": "bad"}), run, folder=tmp_path)
    assert re.search(expected, str(caught.value)), caught.value
    assert caught.value.fix


def test_tasks_that_are_not_there(tasks, tmp_path, monkeypatch) -> None:
    import lm_eval.tasks

    known = lm_eval.tasks.TaskManager  # its own thousands of files take seconds to list
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", lambda **given: known(**given | {"include_defaults": False}))
    run = tiny_lm(tmp_path / "m")
    with pytest.raises(ConfigError, match="the harness has no task 'none_such', 'nor_this'"):
        load_task(_task(held_out={"task": "none_such"}, test={"task": "nor_this"}), run, folder=tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        load_task(_task(held_out={"task": "plain"}) | {"data": {"tasks": "x", "held_out": {"task": "plain"}}}, run)


def test_without_the_harness_the_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtraError, match=r"stockpot\[llm\]"):
        load_task(_task(held_out={"task": "plain"}), tmp_path, folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metric": "f1"}, "metric: got 'f1'; allowed for harness: accuracy"),
        ({"labels": ["a", "b"]}, "labels: given, but"),
        ({"choice_score": "max"}, "choice_score: got 'max' (did you mean 'mean'?); allowed: 'sum'"),
        ({"data": {}}, "data.held_out: is missing"),
        ({"data": {"held_out": {"file": "a"}}}, "data.held_out.file: unknown key"),
        ({"data": {"held_out": {"task": "a", "rows": 1, "fraction": 0.5}}}, "allowed: one of them"),
        (
            {"data": {"held_out": {"task": "a", "rows": 1}, "shifts": {"s": {"task": "a"}}}},
            "data.shifts.s: is all of 'a', which other splits share; give it `rows` or `fraction`",
        ),
    ],
)
def test_keys_that_do_not_fit(changes, expected, tmp_path) -> None:
    with pytest.raises(ConfigError) as caught:
        task_config({**_task(held_out={"task": "a"}), **changes}, tmp_path)
    assert expected in str(caught.value)
