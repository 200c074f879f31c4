"""A user's own network: the guide's example as it stands, plain torch as the reference, and what users get wrong."""

from __future__ import annotations

import json
import re
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from stockpot import config, ingredients, write
from stockpot.cli.entry import exit_code
from stockpot.errors import ConfigError, DataError, EvaluationError
from stockpot.recipes import greedy, single, uniform
from stockpot.tasks import load_task
from stockpot.tasks.gradients import GradientOptions
from stockpot.types import Ingredient
from tiny_custom import tiny_custom_task, tiny_network_runs

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "my-own-model.md"
_numbers = count()


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def _arrays(n: int, seed: int, *, dtype=np.float32):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    return (np.eye(8)[labels] * 2 + generator.normal(size=(n, 8))).astype(dtype), labels


def _task(folder: Path, code: str, **changes) -> dict:
    """A task whose module is written anew, under a name of its own."""
    name = f"my_module_{next(_numbers)}"
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    content = {
        "family": "custom", "factory": f"{name}:build", "loader": f"{name}:load",
        "data": {"held_out": {}, "test": {}}, "evaluation": {"device": "cpu", "precision": "fp32", "batch_size": 4},
    }  # fmt: skip
    return content | changes


CODE = """
import numpy as np, torch

def build():
    return torch.nn.Linear(2, 3)

def load(split, settings):
    draw = np.random.default_rng([ord(split[0]), settings.get("seed", 0)])
    return draw.normal(size=(10, 2)), np.arange(10) % 3
"""


def test_the_guides_example_runs_as_it_stands(tmp_path, monkeypatch, capsys) -> None:
    import torch
    from safetensors.torch import save_file

    text = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (task,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (command,) = re.findall(r"```\nstockpot (.*?)\n```", text)
    (tmp_path / "my_model.py").write_text(code)
    (tmp_path / "task.yaml").write_text(task)
    for seed, split in enumerate(("held_out", "test")):
        inputs, labels = _arrays(60, seed)
        np.savez(tmp_path / f"{split}.npz", inputs=inputs, labels=labels)
    (tmp_path / "runs").mkdir()
    torch.manual_seed(0)
    start = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).state_dict()
    for run in range(3):
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        model.load_state_dict(start)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1 * (run + 1))
        inputs, labels = _arrays(40, 10 + run)
        for _ in range(20):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.tensor(inputs)), torch.tensor(labels)).backward()
            optimiser.step()
        save_file(model.state_dict(), tmp_path / "runs" / f"run-{run}.safetensors")
    monkeypatch.chdir(tmp_path)
    arguments = [part.strip("'") for part in command.split()]
    assert exit_code(arguments) == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "comparison" / "results.json").read_text())
    assert results["metric"] == "accuracy"
    rows = {row["method"]: row["scores"] for row in results["rows"]}
    assert set(rows["greedy"]) >= {"held_out", "test", "shift:brighter"}
    assert rows["greedy"]["held_out"]["value"] > 0.6  # the classes are far apart, and the runs were trained


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_predictions_are_the_networks_own_and_soups_load_again(dtype, tmp_path) -> None:
    import torch
    from safetensors.torch import load_file

    runs = tiny_network_runs(tmp_path, 2, dtype=dtype)
    task = load_task(tiny_custom_task(tmp_path))
    module = sys.modules[task.config.factory.partition(":")[0]]
    soup = uniform(runs)
    task.predict(single(runs[0]), "test")
    found = task.predict(soup, "test")
    write(soup, tmp_path / "soup")
    model = module.build().eval()
    model.load_state_dict({k: v.float() for k, v in load_file(tmp_path / "soup" / "model.safetensors").items()})
    inputs, labels = module.load("test", {"rows": 20})
    with torch.no_grad():
        expected = torch.cat([model(**{k: torch.tensor(v[[i]]) for k, v in inputs.items()}) for i in range(20)])
    tolerance = 1e-6 if dtype == "float32" else 2e-2  # the soup is written in the checkpoints' dtype
    np.testing.assert_allclose(found.logits, expected.numpy(), rtol=tolerance, atol=tolerance)
    assert np.array_equal(found.labels, labels)
    assert task.item_ids("shift:noisy") == task.item_ids("test")[:12]


def test_gradients_are_differences(tmp_path) -> None:
    runs = tiny_network_runs(tmp_path, 2)
    task = load_task(tiny_custom_task(tmp_path))
    with task.gradient(runs, GradientOptions(batch_size=8)) as gradient:
        at, step = np.array([[0.6, 0.4]]), 1e-3
        found = gradient(at, 1.0, 0)
        for k in (0, 1):
            move = np.eye(2)[[k]] * step
            slope = (gradient(at + move, 1.0, 0).loss - gradient(at - move, 1.0, 0).loss) / (2 * step)
            assert found.gradient.ravel()[k] == pytest.approx(slope, rel=0.02, abs=1e-3)


def test_running_statistics_are_made_anew_over_the_loaders_training_rows(tmp_path) -> None:
    import torch

    runs, path = tiny_network_runs(tmp_path, 2), tiny_custom_task(tmp_path)
    task = load_task(path, recalibrate=6)
    plain, anew = load_task(path), task.predict(uniform(runs), "test")
    found = task.running_statistics(uniform(runs))
    words, module = task._model.module.words, sys.modules[task.config.loader.partition(":")[0]]
    inputs, _ = module.load("train", {"rows": 30})  # six batches of five are all of it
    with torch.no_grad():
        expected = words(torch.tensor(inputs["words"])).mean(1).mean(0)
    np.testing.assert_allclose(found["norm.running_mean"], expected.numpy(), atol=1e-6)
    assert not np.array_equal(anew.logits, plain.predict(uniform(runs), "test").logits)
    assert task.identity("test") != plain.identity("test")


def test_numbers_are_predicted_too(tmp_path) -> None:
    code = CODE.replace("Linear(2, 3)", "Linear(2, 1)").replace("np.arange(10) % 3", "draw.normal(size=10)")
    task = load_task(_task(tmp_path, code, metric="mse"), folder=tmp_path)
    from safetensors.numpy import save_file

    weights = {"weight": np.float32([[1, -1]]), "bias": np.float32([0.5])}
    save_file(weights, tmp_path / "a.safetensors")
    found = task.predict(single(Ingredient("a", str(tmp_path / "a.safetensors"))), "test")
    inputs, targets = sys.modules[task.config.loader.partition(":")[0]].load("test", {})
    np.testing.assert_allclose(found.logits[:, 0], inputs @ [1, -1] + 0.5, rtol=1e-5)
    assert task.score(found).value == pytest.approx(np.mean((inputs @ [1, -1] + 0.5 - targets) ** 2), rel=1e-5)


def test_the_identity_knows_the_functions_the_arrays_and_the_batch(tmp_path) -> None:
    runs = tiny_network_runs(tmp_path, 2)
    task = load_task(tiny_custom_task(tmp_path))
    before = task.identity("test")
    content = json.loads((tmp_path / "task.yaml").read_text())
    more = {**content, "evaluation": {**content["evaluation"], "batch_size": 3}}
    assert load_task(more, folder=tmp_path).identity("test") != before
    fewer = {**content, "data": {**content["data"], "test": {"rows": 19}}}
    assert load_task(fewer, folder=tmp_path).identity("test") != before
    assert load_task(fewer, folder=tmp_path).identity("held_out") == task.identity("held_out")
    file = Path(sys.modules[task.config.factory.partition(":")[0]].__file__)
    file.write_text(file.read_text() + "\n# changed\n")
    assert load_task(content, folder=tmp_path).identity("test") != before
    greedy(runs, task.evaluate)
    assert task.identity("test") == before


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (CODE.replace("np.arange(10) % 3", "np.arange(9) % 3"), r"shape \[10, 2\] beside labels \[9\]"),
        (CODE.replace("np.arange(10) % 3", "np.linspace(0, 1, 10)"), "labels are float64, not integers or texts"),
        (CODE.replace("np.arange(10) % 3", "[[1, 2]]"), r"labels have the shape \[1, 2\]"),
        (CODE.replace("draw.normal(size=(10, 2)),", "np.array(['a'] * 10),"), "<U1, not numbers"),
        (CODE.replace("draw.normal(size=(10, 2)),", "{},"), "there are no inputs"),
        (CODE.replace("draw.normal(size=(10, 2)),", "[[1], [2, 3]],"), "raised ValueError"),
        (CODE.replace("    draw =", "    1 / 0\n    draw ="), "split 'held_out': it raised ZeroDivisionError"),
        (CODE.replace("return draw", "return [draw").replace("% 3", "% 3]"), "it returned a list"),
        (CODE.replace("ord(split[0])", "0"), "splits share rows"),
    ],
)
def test_a_loader_that_is_wrong_is_explained(code, message, tmp_path) -> None:
    with pytest.raises(DataError, match=message):
        load_task(_task(tmp_path, code), folder=tmp_path)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (CODE.replace("return torch.nn.Linear(2, 3)", "return 3"), ConfigError, "returned a int"),
        (CODE.replace("return torch.nn.Linear(2, 3)", "raise KeyError('x')"), ConfigError, "raised KeyError"),
        (CODE.replace("Linear(2, 3)", "Flatten(0)"), EvaluationError, r"Tensor \[8\], no logits"),
        (CODE.replace("Linear(2, 3)", "LazyLinear(3)"), ConfigError, "no shape yet: weight, bias"),
        (CODE.replace("Linear(2, 3)", "Linear(2, 3).double()"), EvaluationError, "network.float"),
        (CODE.replace("Linear(2, 3)", "LSTM(2, 3)"), EvaluationError, "returned a tuple, no logits"),
        (CODE.replace("Linear(2, 3)", "Linear(5, 3)"), EvaluationError, r"failed on a batch, input \[4, 2\]"),
    ],
)
def test_a_factory_that_is_wrong_is_explained(code, error, message, tmp_path) -> None:
    task = load_task(_task(tmp_path, code), folder=tmp_path)
    with pytest.raises(error, match=message):
        task._model.logits(task._batches_of("test"), 10)


def test_functions_that_cannot_be_found_are_named_by_their_key(tmp_path) -> None:
    content = _task(tmp_path, CODE + "\nmade = lambda: build()\nimport math\nsine = math.sin\n")
    name = content["factory"].partition(":")[0]
    with pytest.raises(ConfigError, match=r"factory: '.*'buidl'(.|\n)*did you mean .*:build"):
        load_task({**content, "factory": f"{name}:buidl"}, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"loader: 'no_such_module:load'.*does not import"):
        load_task({**content, "loader": "no_such_module:load"}, folder=tmp_path)


def test_a_module_of_another_task_is_not_taken_for_this_ones(tmp_path) -> None:
    content = _task(tmp_path, CODE)
    load_task(content, folder=tmp_path)
    name = content["factory"].partition(":")[0]
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{name}.py").write_text(CODE)
    with pytest.raises(ConfigError, match="a name of its own"):
        load_task(content, folder=other)


def test_shifts_of_test_and_their_size(tmp_path) -> None:
    code = CODE.replace("10", "(10 + settings.get('more', 0))")
    data = {"held_out": {}, "test": {}, "shifts": {"s": {"of": "test", "more": 2}}}
    with pytest.raises(DataError, match="shift:s: 12 rows, and test has 10"):
        load_task(_task(tmp_path, code, data=data), folder=tmp_path)
    content = _task(tmp_path, code, data={"held_out": {}, "shifts": {"s": {"of": "test"}, "t": {"of": "x"}}})
    with pytest.raises(ConfigError) as caught:
        load_task(content, folder=tmp_path)
    assert "there is no test split" in str(caught.value)
    assert "got 'x'; allowed: 'test'" in str(caught.value)


def test_an_experiment_says_what_it_fine_tunes(tmp_path) -> None:
    content = {
        "name": "x", "initialisation": "y", "sweep": {"runs": 2}, "task": _task(tmp_path, CODE),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="fine-tunes text-classification, "):
        config.experiment_config(content)


def test_ingredients_from_single_files_are_found(tmp_path) -> None:
    runs = tiny_network_runs(tmp_path, 2)
    assert [one.source for one in ingredients([one.source for one in runs])] == [one.source for one in runs]
