"""The lm-evaluation-harness with our resident model: its scores are those of our own multiple choice."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from stockpot.cli.entry import exit_code
from stockpot.errors import ConfigError, EvaluationError, MissingExtraError
from stockpot.recipes import greedy, single, uniform
from stockpot.tasks import load_task
from stockpot.tasks.harness import HarnessTask
from stockpot.types import Ingredient
from tiny_lm import tiny_lm, tiny_lm_task


def test_without_the_harness_the_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    task = HarnessTask("arc_easy", tmp_path)
    for ask in (lambda: task(single(Ingredient("a", "a"))), lambda: task.version):
        with pytest.raises(MissingExtraError, match=r"stockpot\[llm\]"):
            ask()


@pytest.fixture
def own(tmp_path) -> Path:
    """A task of the harness over the test rows of our own."""
    pytest.importorskip("lm_eval", reason="the extra llm is not installed")
    path = tiny_lm_task(tmp_path)
    content = json.loads(path.read_text())
    content["data"]["held_out"] = {}
    del content["data"]["test"], content["data"]["shifts"]
    path.write_text(json.dumps(content))
    folder = tmp_path / "tasks"
    folder.mkdir()
    task = {
        "task": "own_questions", "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
        "dataset_kwargs": {
            "data_files": {"test": str(tmp_path / "rows.jsonl")}, "cache_dir": str(tmp_path / "cache"),
        },
        "doc_to_text": "{{question}}", "doc_to_choice": "{{options}}", "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }  # fmt: skip
    (folder / "own.yaml").write_text(json.dumps(task))
    return folder


def test_scores_are_those_of_our_own_multiple_choice(own, tmp_path) -> None:
    runs = tuple(Ingredient(f"m{seed}", str(tiny_lm(tmp_path / f"m{seed}", seed=seed))) for seed in (1, 2, 3))
    harness = HarnessTask("own_questions", runs[0].source, include=own, device="cpu")
    task = load_task(tmp_path / "task.yaml", runs[0])
    for soup in (*map(single, runs), uniform(runs)):
        expected, found = task.evaluate(soup), harness(soup)
        assert (found.value, found.n_examples) == (expected.value, 48)
        assert found.stderr == pytest.approx(expected.stderr * (48 / 47) ** 0.5)  # the harness divides by n - 1
        assert (found.metric, found.higher_is_better) == ("own_questions acc", True)
    assert greedy(runs, harness).ingredients == greedy(runs, task.evaluate).ingredients


def test_its_version_knows_the_settings_and_the_files(own, tmp_path) -> None:
    tiny_lm(tmp_path / "m")
    make = lambda **more: HarnessTask("own_questions", tmp_path / "m", include=own, **more).version  # noqa: E731
    before = make()
    assert make() == before
    assert len({before, make(limit=3), make(metric="acc_norm"), make(n_shots=1)}) == 4
    (own / "own.yaml").write_text((own / "own.yaml").read_text() + "\n")
    assert make() != before


def test_the_guides_module_works_on_the_command_line(own, tmp_path, monkeypatch, capsys) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "llms.md").read_text()
    (code,) = re.findall(r"```python\n(from stockpot.tasks.harness.*?)```", page, flags=re.DOTALL)
    (command,) = re.findall(r"```\nstockpot (soup .*? --evaluate .*?)\n```", page)
    for seed in (1, 2):
        tiny_lm(tmp_path / "runs" / f"m{seed}", seed=seed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_harness.py").write_text(code)
    assert exit_code([part.strip("'") for part in command.split()]) == 0, capsys.readouterr().err
    assert (tmp_path / "soup" / "model.safetensors").exists()
    sys.modules.pop("my_harness")


def test_what_users_get_wrong_is_explained(own, tmp_path) -> None:
    soup = single(Ingredient("m", str(tiny_lm(tmp_path / "m"))))
    with pytest.raises(ConfigError, match="no task 'other'"):
        HarnessTask("other", tmp_path / "m", include=own, device="cpu")(soup)
    with pytest.raises(ConfigError, match="no such folder"):
        HarnessTask("own_questions", tmp_path / "m", include=tmp_path / "none")(soup)
    with pytest.raises(ConfigError, match="no metrics 'f1'") as caught:
        HarnessTask("own_questions", tmp_path / "m", include=own, metric="f1", device="cpu")(soup)
    assert "acc,none, acc_norm,none" in str(caught.value)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(EvaluationError, match="the harness failed on 'own_questions'"):
        HarnessTask("own_questions", tmp_path / "m", include=own, device="cpu")(soup)
