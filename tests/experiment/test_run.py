"""A whole tiny experiment: files, schema, loadable soups, resuming, and the numbers computed a second time."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stockpot.errors import ConfigError, OutputError, RunError
from stockpot.experiment import run, running, sweep
from stockpot.journal import Journal, soup_key
from stockpot.recipes import single
from stockpot.records import read_results, read_soup
from stockpot.sweeps import fine_tuning
from stockpot.tasks import load_task
from stockpot.types import Coefficients, Ingredient, Soup
from tiny_models import tiny_experiment, tiny_task

TIMES = {"timings.json"}


def content(folder: Path) -> dict[str, str]:
    """Digest by file of everything that must not depend on how often a run was interrupted."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in TIMES and "journal" not in path.parts and path.name != ".lock"
    }


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def row(folder: Path, method: str) -> dict:
    return next(r for r in results(folder)["rows"] if r["method"] == method)


def test_files_and_schema(finished) -> None:
    found = results(finished)
    assert found["schema"] == 1
    assert found["metric"] == "accuracy"
    assert [r["method"] for r in found["rows"]] == [
        "initialisation", "best", "second_best", "mean_individual", "uniform", "greedy", "greedy_random", "ensemble",
        "greedy_ensemble",
    ]  # fmt: skip
    splits = ["held_out", "test", "shift:typos", "shift:worddrop", "shift_mean"]
    for r in found["rows"]:
        assert list(r["scores"]) == splits
        assert all({"value", "stderr", "n"} <= set(cell) for cell in r["scores"].values())
    assert row(finished, "ensemble")["inference_cost"] == 3
    assert row(finished, "greedy_random")["scores"]["test"]["n_orders"] == 2
    assert found["sentence"]
    for name in ("best", "uniform", "greedy"):
        assert {"model.safetensors", "soup.json", "README.md", "config.json", "tokenizer.json"} <= {
            path.name for path in (finished / name).iterdir()
        }
    assert (
        row(finished, "greedy")["scores"]["held_out"]["value"] >= row(finished, "best")["scores"]["held_out"]["value"]
    )
    timings = json.loads((finished / "timings.json").read_text())
    assert timings["soup_examples_per_second"] > 0


def test_nothing_of_this_machine_in_the_records(finished) -> None:
    for path in [finished / "results.json", *finished.glob("*/soup.json"), *finished.glob("ingredients/*/run.json")]:
        assert str(finished.parent) not in path.read_text()


def test_written_soup_gives_the_tables_numbers(finished, experiment) -> None:
    """A plain loop of transformers over the written folder, one text at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    task = load_task(experiment.parent / "task.yaml", finished / "greedy")
    model = AutoModelForSequenceClassification.from_pretrained(finished / "greedy").eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "greedy")
    right = 0
    for (text,), label in zip(task.texts("test"), task.labels("test"), strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, truncation=True, max_length=16, return_tensors="pt")).logits
        right += int(logits.argmax()) == label
    assert right / len(task.labels("test")) == row(finished, "greedy")["scores"]["test"]["value"]


def test_numbers_from_kept_predictions(finished, experiment) -> None:
    task = load_task(experiment.parent / "task.yaml", finished / "initialisation")
    runs = [ingredient_of(finished, f"run-{n:02d}") for n in range(3)]
    with Journal(finished / "journal") as journal:

        def correct(soup: Soup, split: str) -> np.ndarray:
            kept = journal.predictions(soup_key(soup, task.identity(split)))
            assert kept is not None
            return kept["logits"].argmax(axis=1) == kept["labels"]

        each = {split: [correct(single(i), split).mean() for i in runs] for split in task.splits}
        uniform = Soup(tuple(runs), Coefficients.equal(3), "any")
        mean = row(finished, "mean_individual")["scores"]
        for split in task.splits:
            assert mean[split]["value"] == pytest.approx(statistics.mean(each[split]))
            assert row(finished, "uniform")["scores"][split]["value"] == pytest.approx(correct(uniform, split).mean())
        assert row(finished, "best")["scores"]["held_out"]["value"] == max(each["held_out"])
        ranked = sorted(each["held_out"], reverse=True)
        assert row(finished, "second_best")["scores"]["held_out"]["value"] == ranked[1]
        shifts = [correct(uniform, split).mean() for split in ("shift:typos", "shift:worddrop")]
        assert row(finished, "uniform")["scores"]["shift_mean"]["value"] == pytest.approx(statistics.mean(shifts))
        best = next(i for i, value in zip(runs, each["held_out"], strict=True) if value == max(each["held_out"]))
        compared = next(
            c for c in results(finished)["comparisons"]
            if (c["method"], c["against"], c["split"]) == ("uniform", "best", "test")
        )  # fmt: skip
        gain = correct(uniform, "test").astype(float) - correct(single(best), "test").astype(float)
        assert compared["difference"] == pytest.approx(gain.mean())
        assert compared["stderr"] == pytest.approx(gain.std(ddof=1) / len(gain) ** 0.5)


def ingredient_of(folder: Path, name: str) -> Ingredient:
    digest = hashlib.sha256((folder / "ingredients" / name / "model.safetensors").read_bytes()).hexdigest()
    return Ingredient(name, str(folder / "ingredients" / name), digest=digest)


def forget_results(folder: Path) -> None:
    (folder / "results.json").unlink()


def forget_a_soup(folder: Path) -> None:
    forget_results(folder)
    shutil.rmtree(folder / "greedy")


def forget_predictions(folder: Path) -> None:
    forget_a_soup(folder)
    for blob in sorted((folder / "journal").rglob("*.safetensors"))[::2]:
        blob.unlink()


@pytest.mark.parametrize("forget", [forget_results, forget_a_soup, forget_predictions])
def test_resumed_ends_with_the_same_bytes(finished, copied, experiment, forget: Callable[[Path], None]) -> None:
    forget(copied)
    run(experiment, copied, n_workers=1)
    assert content(copied) == content(finished)


def test_a_lost_run_is_repeated_with_the_same_bytes(finished, copied, experiment) -> None:
    forget_results(copied)
    shutil.rmtree(copied / "ingredients" / "run-01")
    assert [i.name for i in sweep(experiment, copied)] == ["run-00", "run-01", "run-02"]
    run(experiment, copied)
    assert content(copied) == content(finished)


def test_real_workers_and_the_death_of_one_change_no_byte(finished, experiment, tmp_path, deadly) -> None:
    """The other tests' runs are made in this process, one after another; here by two workers, one of them killed."""
    run(experiment, tmp_path / "out", n_workers=2)
    assert deadly.attempts == {"run-00": 1, "run-01": 2, "run-02": 1}
    assert content(tmp_path / "out") == content(finished)


def test_fresh_starts_over_and_ends_with_the_same_bytes(finished, copied, experiment) -> None:
    (copied / "results.md").write_text("old")
    stages: list[str] = []
    run(experiment, copied, fresh=True, on_progress=lambda p: stages.append(p.stage))
    assert {"head", "sweep", "select", "measure", "write"} == set(stages)
    assert content(copied) == content(finished)
    assert [path.name for path in copied.parent.iterdir()] == ["out"]


def test_a_failed_run_is_named_and_repeated_alone(finished, copied, experiment, monkeypatch) -> None:
    forget_a_soup(copied)
    shutil.rmtree(copied / "ingredients" / "run-02")
    lines: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning, "_check_finite", lambda _: 1 / 0)
        with pytest.raises(RunError) as caught:
            run(experiment, copied, on_progress=lambda p: lines.append(p.line))
    (problem,) = caught.value.problems
    told = copied / "ingredients" / "run-02.error.txt"
    assert problem == f"run-02: ZeroDivisionError: division by zero (more in {told})"
    assert told.read_text().startswith("Traceback")
    assert lines[-1] == "run-02 failed: ZeroDivisionError: division by zero"
    run(experiment, copied)
    assert content(copied) == content(finished)


def test_a_run_that_diverges_is_left_out_and_told(tmp_path) -> None:
    experiment = tiny_experiment(tmp_path, runs=3, recipes=["uniform", "greedy", "ensemble"])
    content = json.loads(experiment.read_text())
    space = {name: setting for name, setting in content["sweep"]["space"].items() if name != "learning_rate"}
    content["sweep"] = {"grid": {"learning_rate": [1e-3, 1e30, 2e-3]}, "space": space}
    experiment.write_text(json.dumps(content))
    lines: list[str] = []
    found = run(experiment, tmp_path / "out", on_progress=lambda p: lines.append(p.line))
    assert [one.name for one in found.individuals] == ["run-00", "run-02"]
    assert any(line.startswith("run-01 diverged and is left out: ") for line in lines)
    assert "Of 3 runs 1 diverged and left no ingredient: run-01." in found.notes
    (tmp_path / "out" / "results.json").unlink()
    again: list[str] = []
    assert run(experiment, tmp_path / "out", on_progress=lambda p: again.append(p.line)) == found
    assert not any("run-01 diverged" in line for line in again)


@pytest.mark.parametrize("runs", [1, 2])
def test_without_test_split_and_shifts(tmp_path, runs) -> None:
    experiment = tiny_experiment(tmp_path, runs=runs, recipes=["uniform", "greedy", "ensemble"])
    tiny_task(tmp_path, test=False, shifts=False, metric="nll")
    found = run(experiment, tmp_path / "out")
    second = [] if runs == 1 else ["second_best"]
    methods = ["initialisation", "best", *second, "mean_individual", "uniform", "greedy", "ensemble"]
    assert [r.method for r in found.rows] == methods
    assert all(list(r.scores) == ["held_out"] for r in found.rows)
    assert found.comparisons == ()
    best, greedy = (found.row(method).scores["held_out"].value for method in ("best", "greedy"))
    assert greedy <= best  # of a loss
    assert found.sentence.startswith("There was one ingredient only" if runs == 1 else "On held-out greedy scores")
    assert (tmp_path / "out" / "results.md").exists()


def test_a_run_is_the_same_in_a_longer_sweep(finished, experiment, tmp_path) -> None:
    content_of = json.loads(experiment.read_text())
    content_of["sweep"]["runs"] = 1
    shorter = experiment.with_name("shorter.yaml")
    shorter.write_text(json.dumps(content_of))
    (made,) = sweep(shorter, tmp_path / "out")
    assert (Path(made.source) / "model.safetensors").read_bytes() == (
        finished / "ingredients" / "run-00" / "model.safetensors"
    ).read_bytes()


def test_finished_returns_the_table_and_computes_nothing(finished, experiment) -> None:
    lines: list[str] = []
    before = content(finished)
    assert run(experiment, finished, on_progress=lambda p: lines.append(p.line)) == read_results(finished)
    assert not lines
    assert content(finished) == before


def test_another_experiment_is_refused_by_its_keys(copied, experiment) -> None:
    changed = json.loads(experiment.read_text())
    changed["sweep"]["seed"] = 5
    other = experiment.with_name("other.yaml")
    other.write_text(json.dumps(changed))
    with pytest.raises(OutputError, match=r"sweep\.seed"):
        run(other, copied)


def test_soups_are_records_of_what_was_tried(finished) -> None:
    soup = read_soup(finished / "greedy")
    assert soup.recipe == "greedy"
    assert len(soup.steps) == 3
    assert [step.ingredient for step in soup.steps if step.accepted] == list(soup.ingredients)
    assert {i.settings["learning_rate"] for i in soup.ingredients}


def test_runs_are_spread_over_the_gpus(experiment, tmp_path, monkeypatch, in_process) -> None:
    asked: list[tuple[int | None, tuple[str, ...]]] = []
    usual = running.LocalEngine

    def engine(*, workers: int | None, gpus: tuple[str, ...]):
        asked.append((workers, gpus))
        return usual(workers=workers)

    monkeypatch.setattr(running, "LocalEngine", engine)
    monkeypatch.setattr(running, "visible_gpus", lambda device: ("2", "5", "6"))
    sweep(experiment, tmp_path / "out")
    assert asked == [(None, ("2", "5", "6"))]
    with pytest.raises(ConfigError, match="batches of 8 cannot be shared by the 3 GPUs"):
        sweep(experiment, tmp_path / "other", n_workers=1)


def test_a_launcher_of_several_processes_is_refused_before_anything(experiment, tmp_path, monkeypatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="started this command 2 times at once"):
        run(experiment, tmp_path / "out")
    assert not list(tmp_path.iterdir())
