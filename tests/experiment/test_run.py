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

from stockpot.errors import OutputError
from stockpot.experiment import run, sweep
from stockpot.journal import Journal, soup_key
from stockpot.recipes import single
from stockpot.records import read_soup
from stockpot.tasks import load_task
from stockpot.types import Coefficients, Ingredient, Soup
from tiny_models import tiny_experiment

TIMES = {"timings.json"}


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="session")
def finished(experiment: Path) -> Path:
    run(experiment, experiment.parent / "out", n_workers=1)
    return experiment.parent / "out"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


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
    (copied / "ingredients" / ".run-01.partial-0-0-0").mkdir()
    assert [i.name for i in sweep(experiment, copied, n_workers=2)] == ["run-00", "run-01", "run-02"]
    shutil.rmtree(copied / "ingredients" / ".run-01.partial-0-0-0")
    run(experiment, copied, n_workers=2)
    assert content(copied) == content(finished)


def test_finished_returns_the_table_and_computes_nothing(finished, experiment) -> None:
    lines: list[str] = []
    before = content(finished)
    assert run(experiment, finished, on_progress=lambda p: lines.append(p.line)).row("greedy") is not None
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
