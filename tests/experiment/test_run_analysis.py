"""An experiment that asks for an analysis: what `run` finds is what `analyse` finds, within what the plan allows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stockpot import ingredients
from stockpot.config import ANALYSIS_PARTS, canonical, experiment_config, load_experiment_config
from stockpot.errors import ConfigError
from stockpot.experiment import run
from stockpot.experiment.analysing import AnalysisOptions, analyse
from stockpot.experiment.planning import plan
from stockpot.records import read_analysis
from tiny_models import tiny_experiment

SMALL = {"grid": 3, "line_points": 3, "pairs": 2, "orders": 2}


def asking(experiment: Path, **analysis: object) -> Path:
    content = json.loads(experiment.read_text())
    path = experiment.with_name(f"asking-{len(list(experiment.parent.glob('asking-*')))}.yaml")
    path.write_text(json.dumps({**content, "analysis": analysis}))
    return path


def count_of_predictions(folder: Path) -> int:
    return len(list((folder / "journal").rglob("*.safetensors")))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_experiment(tmp_path_factory.mktemp("asking"), runs=3, recipes=["uniform", "greedy", "ensemble"])


def test_run_finds_what_analyse_finds(home: Path, tmp_path: Path) -> None:
    experiment = asking(home, **SMALL)
    run(experiment, tmp_path / "out")
    found = read_analysis(tmp_path / "out")
    assert all(getattr(found, part) is not None for part in ANALYSIS_PARTS)
    before = count_of_predictions(tmp_path / "out")
    again = analyse(
        ingredients(tmp_path / "out" / "ingredients" / "run-*"),
        tmp_path / "out",
        task=experiment.parent / "task.yaml",
        initialisation=str(tmp_path / "out" / "initialisation"),
        options=AnalysisOptions(grid=3, line_points=3, most_pairs=2, orders=2),
    )
    assert again == found
    assert found.asked == {**SMALL, "parts": [], "splits": [], "seed": 0}
    assert count_of_predictions(tmp_path / "out") == before
    assert "Landscape" in (tmp_path / "out" / "report.html").read_text()


def test_killed_before_its_end_it_writes_the_same_bytes(home: Path, tmp_path: Path) -> None:
    experiment = asking(home, parts=["plane", "geometry"], splits=["test", "typos"], **SMALL)
    run(experiment, tmp_path / "out")
    whole = (tmp_path / "out" / "analysis.json").read_bytes()
    assert read_analysis(tmp_path / "out").pairs is None
    for name in ("analysis.json", "results.json"):
        (tmp_path / "out" / name).unlink()
    before = count_of_predictions(tmp_path / "out")
    run(experiment, tmp_path / "out")
    assert (tmp_path / "out" / "analysis.json").read_bytes() == whole
    assert count_of_predictions(tmp_path / "out") == before


def test_an_experiment_without_one_stays_the_same_and_looks_at_nothing(home: Path, tmp_path: Path) -> None:
    assert "analysis" not in canonical(load_experiment_config(home))
    run(home, tmp_path / "out")
    assert not (tmp_path / "out" / "analysis.json").exists()


def test_one_that_has_ended_is_looked_at_later_and_its_table_stays(home: Path, tmp_path: Path) -> None:
    run(home, tmp_path / "later")
    table = (tmp_path / "later" / "results.json").read_bytes()
    run(asking(home, **SMALL), tmp_path / "later")
    run(asking(home, **SMALL), tmp_path / "at-once")
    found = [tmp_path / name / "analysis.json" for name in ("later", "at-once")]
    assert found[0].read_bytes() == found[1].read_bytes()
    assert (tmp_path / "later" / "results.json").read_bytes() == table
    assert "Landscape" in (tmp_path / "later" / "report.html").read_text()
    lines: list[str] = []
    run(asking(home, **SMALL), tmp_path / "later", on_progress=lambda p: lines.append(p.line))
    assert lines == []
    run(asking(home, parts=["line"], line_points=4), tmp_path / "later")
    assert len(read_analysis(found[0]).line.alphas) == 4


def test_one_run_has_nothing_to_be_looked_at_with(home: Path, tmp_path: Path) -> None:
    content = json.loads(home.read_text())
    content["sweep"]["runs"] = 1
    shutil.copytree(home.parent, tmp_path / "home")
    config = experiment_config({**content, "analysis": {}}, tmp_path / "home")
    assert plan(config).forward.keys() == plan(experiment_config(content, tmp_path / "home")).forward.keys()
    found = run(config, tmp_path / "out")
    assert not (tmp_path / "out" / "analysis.json").exists()
    assert any(note.startswith("The analysis is left out") for note in found.notes)


def test_parts_that_mean_nothing_for_the_task_are_left_out_and_told(tmp_path: Path) -> None:
    """Generation gives votes: their losses say little, and they have no likelihoods."""
    from tiny_seq2seq import tiny_seq2seq_model, tiny_seq2seq_task

    tiny_seq2seq_model(tmp_path / "base")
    task = json.loads(tiny_seq2seq_task(tmp_path, scoring="generation").read_text())
    task["data"]["train"] = {"rows": 8}
    content = {
        "name": "votes", "task": task, "initialisation": "base", "recipes": ["uniform"],
        "sweep": {"runs": 2, "space": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4}},
        "analysis": {"line_points": 3, "parts": ["line", "soup_vs_ensemble", "reliability"]},
    }  # fmt: skip
    config = experiment_config(content, tmp_path)
    assert "soup_vs_ensemble" not in plan(config).forward
    run(config, tmp_path / "out")
    found = read_analysis(tmp_path / "out")
    assert found.line is not None
    assert (found.soup_vs_ensemble, found.reliability) == (None, None)
    assert [note.partition(" ")[0] for note in found.notes] == ["soup_vs_ensemble", "reliability", "losses"]


def test_the_plan_holds_what_is_looked_at(home: Path, tmp_path: Path) -> None:
    """Rows predicted by the analysis are at most those planned, and none where nothing is planned."""
    plain, asked = (plan(load_experiment_config(path)) for path in (home, asking(home, **SMALL)))
    n = asked.examples
    unseen = n["test"] + n["shift:typos"] + n["shift:worddrop"]
    everything = n["held_out"] + unseen
    added = {name: value for name, value in asked.forward.items() if name not in plain.forward}
    assert added == {
        "plane": 10 * (n["held_out"] + n["test"]),
        "line": everything,
        "pairs": 2 * everything,
        "count": 2 * 2 * 3 * unseen + 2 * (0 + 1 + 2) * n["held_out"],
        "soup_vs_ensemble": 3 * 2 * unseen,
    }
    assert asked.disk_bytes > plain.disk_bytes


def test_what_cannot_be_asked_for_is_told_at_once(home: Path) -> None:
    experiment = asking(home, parts=["plane", "plan"], grid=2, pairs=0, split=["test"])
    with pytest.raises(ConfigError) as caught:
        load_experiment_config(experiment)
    told = str(caught.value)
    for words in ("analysis.parts", "'plan'", "analysis.grid", "analysis.pairs", "analysis.split", "splits"):
        assert words in told
    with pytest.raises(ConfigError, match=r"analysis\.splits\.0: got 'nowhere'; the task has held_out, test, typos"):
        load_experiment_config(asking(home, splits=["nowhere"]))
