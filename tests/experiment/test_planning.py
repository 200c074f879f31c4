"""The plan's counts are what a run then does; nothing heavy is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from stockpot.config import canonical, experiment_config, load_experiment_config
from stockpot.errors import DataError
from stockpot.experiment.plan_text import plan_lines
from stockpot.experiment.planning import plan
from stockpot.tasks.data import load_splits
from stockpot.tasks.image_cache import ImageCache
from stockpot.tasks.images import load_image_splits
from tiny_images import tiny_image_task
from tiny_models import tiny_experiment


def content(**changes: Any) -> dict[str, Any]:
    data = {
        "file": "a.tsv", "text": "t", "label": "l", "train": {"rows": 100}, "held_out": {"rows": 40},
        "test": {"rows": 30}, "shifts": {"a": {"of": "test", "first": 20, "corrupt": "typos", "rate": 0.1}},
    }  # fmt: skip
    return {
        "name": "x", "task": {"family": "text-classification", "data": data}, "initialisation": "a/b",
        "sweep": {"runs": 4, "space": {"epochs": 2, "batch_size": 32}}, **changes,
    }  # fmt: skip


def test_counts_by_hand() -> None:
    found = plan(experiment_config(content(recipes=["uniform", "greedy", "greedy_random", "ensemble"])))
    assert (found.steps, found.training_examples) == (4 * 2 * 4, 4 * 2 * 100)
    assert found.forward == {
        "linear probe": 100, "individuals": 4 * 90, "uniform": 40, "greedy": 3 * 40, "greedy_random": 3 * 3 * 40,
        "measuring": 6 * 50 + 40,
    }  # fmt: skip
    assert found.learned_examples == 0
    assert found.disk_bytes is None
    assert found.notes == ("data that are not on this disk: a.tsv", "disk and memory: a/b is not on this disk")


def test_moving_averages_are_ingredients(tmp_path: Path) -> None:
    config = content()
    config["sweep"]["space"]["ema_decay"] = {"choice": [0.9]}
    found = plan(experiment_config(config))
    assert found.n_ingredients == 8
    assert found.forward["individuals"] == 8 * 90
    assert next(plan_lines(found)) == "x: 4 runs, 4 moving averages"


def test_settings_of_all_runs_are_told_exactly_and_steps_of_warm_up_instead_of_a_share() -> None:
    config = content()
    config["sweep"]["space"] |= {"ema_decay": 0.9999, "warmup_ratio": 0.2}
    told = "\n".join(plan_lines(plan(experiment_config(config))))
    assert "ema_decay 0.9999" in told
    assert "warmup_ratio 0.2" in told
    config["sweep"]["space"]["warmup_steps"] = 500
    told = "\n".join(plan_lines(plan(experiment_config(config))))
    assert "warmup_steps 500" in told
    assert "warmup_ratio" not in told


def test_a_budget_bounds_greedy() -> None:
    assert plan(experiment_config(content(max_evaluations=2))).forward["greedy"] == 2 * 40


def test_whole_files_are_counted_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("t\tl\n" + "x\ty\n" * 7)
    config = content()
    config["task"]["data"] |= {"train": {"fraction": 0.5}, "held_out": {"rows": 4}, "test": {"file": "elsewhere.tsv"}}
    found = plan(experiment_config(config, tmp_path))
    assert found.examples == {"train": 3, "held_out": 4, "test": None, "shift:a": 20}
    assert found.notes[:2] == (
        "data that are not on this disk: elsewhere.tsv",
        "examples of test: not stated as rows, and not counted from here",
    )
    assert "evaluation, at most: unknown examples forward" in list(plan_lines(found))


@pytest.mark.parametrize(
    ("file", "lines", "more"),
    [
        ("a.csv", 't,l\n"one\nof two lines",y\n' + "x,y\n" * 9, {}),
        ("a.tsv", "x\ty\n" * 10, {"columns": ["t", "l"]}),
        ("a.jsonl", '{"t": "x", "l": "y"}\n' * 10, {}),
        ("a-*.tsv", "t\tl\n" + "x\ty\n" * 10, {}),
    ],
)
def test_sizes_are_those_that_a_run_finds(tmp_path: Path, file: str, lines: str, more: dict[str, Any]) -> None:
    (tmp_path / file.replace("*", "0")).write_text(lines)
    sizes = {"train": {"fraction": 0.29}, "held_out": {"fraction": 0.5}, "test": {"rows": 2}}
    data = {"file": file, "text": "t", "label": "l", **sizes, **more}
    task = {"family": "text-classification", "data": data}
    config = experiment_config({**content(), "task": task}, tmp_path)
    counts = {name: len(split) for name, split in load_splits(config.task.data, folder=tmp_path).items()}
    assert plan(config).examples == counts == {"train": 2, "held_out": 5, "test": 2}


def test_more_rows_than_there_are_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("t\tl\n" + "x\ty\n" * 7)
    with pytest.raises(DataError, match=r"a\.tsv has 7 rows, but 170 are asked for"):
        plan(experiment_config(content(), tmp_path))


def test_small_image_folders_are_counted(tmp_path: Path) -> None:
    path = tiny_image_task(tmp_path, n=60)
    written = json.loads(path.read_text())
    written["data"] |= {"train": {"fraction": 0.31}, "held_out": {"fraction": 0.2}}
    config = experiment_config({**content(), "task": written, "initialisation": "base"}, tmp_path)
    cache = ImageCache(tmp_path / "cache", limit_bytes=2**20)
    counts = {
        name: len(split.items)
        for name, split in load_image_splits(config.task.data, folder=tmp_path, cache=cache).items()
    }
    assert plan(config).examples == counts


def test_sizes_come_from_the_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    found = plan(load_experiment_config(tiny_experiment(tmp_path)))
    assert found.parameters is not None
    assert found.worker_bytes == 16 * found.parameters
    assert found.disk_bytes is not None
    assert found.disk_bytes > 4 * found.parameters * (3 + 1 + 3)


@pytest.mark.parametrize("kind", ["clip", "open_clip"])
def test_of_a_dual_encoder_the_image_tower_counts(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("open_clip")
    from stockpot.tasks.dual_encoders import dual_encoder
    from tiny_clip import tiny_clip

    encoder = dual_encoder(tiny_clip(tmp_path / "whole", kind), with_weights=True)
    config = content()
    config["task"] = {"family": "clip", "data": {"path": "photos", "held_out": {"rows": 4}, "train": {"rows": 8}}}
    config |= {"initialisation": str(tmp_path / "whole"), "head": "zero-shot", "recipes": ["uniform"]}
    config["task"]["labels"] = ["cat", "dog"]
    expected = sum(parameter.numel() for parameter in encoder.tower().parameters())
    assert plan(experiment_config(config, tmp_path)).parameters == expected


def test_a_moving_average_is_held_beside_and_of_a_dual_encoder_the_image_tower_is_trained(tmp_path: Path) -> None:
    tensors = {
        "vision_model.a": (7, 5),
        "visual_projection.weight": (5, 2),
        "text_model.a": (100, 9),
        "logit_scale": (),
    }
    base = tmp_path / "base"
    base.mkdir()
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, base / "model.safetensors")
    data = {"path": "photos", "train": {"rows": 10}, "held_out": {"rows": 5}}
    config = content(initialisation="base", task={"family": "clip", "data": data})
    found = plan(experiment_config(config, tmp_path))
    assert (found.parameters, found.worker_bytes) == (45, 16 * 45)
    config["sweep"]["space"]["ema_decay"] = 0.9
    assert plan(experiment_config(config, tmp_path)).worker_bytes == 20 * 45


def test_a_warm_up_that_never_ends_is_told(tmp_path: Path) -> None:
    config = content()
    config["sweep"]["space"]["warmup_steps"] = {"choice": [2, 8]}
    found = plan(experiment_config(config))
    late = sum(run["warmup_steps"] == 8 for run in found.runs)
    assert 0 < late < 4
    (warning,) = found.warnings
    assert warning.startswith(f"Warm-up is no shorter than {late} of 4 runs (8 steps of 8)")
    assert list(plan_lines(found))[-1] == f"warning: {warning}"
    config["sweep"]["space"]["warmup_steps"] = 7
    assert not plan(experiment_config(config)).warnings


def test_the_command_computes_nothing_and_imports_no_framework(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(json.dumps(content()))
    program = (
        "import sys; from stockpot.cli.entry import exit_code; "
        f"code = exit_code(['run', {str(tmp_path / 'x.yaml')!r}, '--dry-run']); "
        "print(code, sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == "x: 4 runs"
    assert lines[-1] == "0 []"
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_published_sizes_stand_in_for_what_is_not_on_this_disk(tmp_path: Path) -> None:
    content = {
        "name": "x", "initialisation": "a/b", "sweep": {"runs": 2, "space": {"epochs": 3, "batch_size": 10}},
        "recipes": ["uniform"],
        "task": {
            "family": "text-classification",
            "data": {
                "text": "t", "label": "l", "train": {"file": "train.tsv", "fraction": 0.5},
                "held_out": {"file": "held.tsv"}, "test": {"file": "test.tsv"},
            },
        },
    }  # fmt: skip
    (tmp_path / "held.tsv").write_text("t\tl\n" + "a\tb\n" * 7)
    expected = {"examples": {"train": 101, "held_out": 5000, "test": 40}, "parameters": 1000}
    found = plan(experiment_config({**content, "expected": expected}, tmp_path))
    assert found.examples == {"train": 101, "held_out": 7, "test": 40}  # what is there is counted
    assert found.steps == 2 * 3 * 11
    assert found.worker_bytes == 16_000
    assert len([note for note in found.notes if "`expected`" in note]) == 2
    no_folder = plan(experiment_config({**content, "initialisation": "./base", "expected": expected}, tmp_path))
    assert no_folder.worker_bytes == 16_000
    without = plan(experiment_config(content, tmp_path))
    assert without.steps is None
    assert without.worker_bytes is None
    # Sizes for the plan are no part of what is computed.
    assert canonical(experiment_config({**content, "expected": expected}, tmp_path)) == canonical(
        experiment_config(content, tmp_path)
    )
