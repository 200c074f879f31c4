"""The seam of fine-tuning: what text-to-text models learn from, and one whole tiny experiment with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stockpot.config import FINE_TUNED_FAMILIES, RunSettings, load_experiment_config, load_task_config
from stockpot.errors import ConfigError
from stockpot.sweeps.families import _FAMILIES, fine_tuned
from stockpot.sweeps.fine_tuning import make_ingredient
from stockpot.sweeps.head import prepare_initialisation
from stockpot.tasks import load_task
from tiny_models import tiny_classifier
from tiny_seq2seq import LABEL_WORDS, tiny_seq2seq_experiment, tiny_seq2seq_model, tiny_seq2seq_task

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_numpy = pytest.importorskip("safetensors.numpy")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny_seq2seq_model(folder / "t5")
    tiny_seq2seq_model(folder / "t5-untied", "t5-untied")
    tiny_seq2seq_model(folder / "bart", "bart")
    tiny_seq2seq_task(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    """As in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def payload(home: Path, target: Path, start: str, **settings: Any) -> dict[str, Any]:
    return {
        "name": target.name,
        "settings": {"learning_rate": 5e-3, "epochs": 1, "batch_size": 8, "seed": 3, **settings},
        "task": load_task_config(home / "task.yaml").model_dump_json(),
        "task_folder": str(home),
        "initialisation": str(home / start),
        "target": str(target),
        "journal": str(target.parent / "journal"),
    }


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_every_family_that_experiments_take_is_behind_the_seam() -> None:
    assert set(_FAMILIES) == set(FINE_TUNED_FAMILIES)


@pytest.mark.parametrize("start", ["t5", "bart"])
def test_examples_are_prompts_and_the_tokens_of_label_words(home, start) -> None:
    task = load_task(home / "task.yaml", home / start)
    made = fine_tuned(task.config.family).trainable(RunSettings(), task, home / start)
    tokenizer = transformers.AutoTokenizer.from_pretrained(home / start)
    for example, label, (text,) in zip(made.examples, task.labels("train"), task.texts("train"), strict=True):
        assert set(example) == {"input_ids", "attention_mask", "labels"}
        assert tokenizer.decode(example["labels"], skip_special_tokens=True) == LABEL_WORDS[task.label_names[label]]
        assert example["input_ids"] == tokenizer(f"task: {text}", truncation=True, max_length=16)["input_ids"]


@pytest.mark.parametrize("start", ["t5", "t5-untied", "bart"])
def test_a_run_trains_predicts_and_loads(home, start, tmp_path) -> None:
    made = make_ingredient(payload(home, tmp_path / "a", start, epochs=8))
    before, after = (safetensors_numpy.load_file(f / "model.safetensors") for f in (home / start, tmp_path / "a"))
    assert set(before) == set(after)
    moved = [name for name in before if before[name].tobytes() != after[name].tobytes()]
    assert len(moved) > len(before) * 0.8
    assert (tmp_path / "a" / "config.json").read_bytes() == (home / start / "config.json").read_bytes()
    task = load_task(home / "task.yaml", home / start)
    from stockpot.recipes import single
    from stockpot.types import Ingredient

    start_nll = _train_nll(task, home / start)
    assert _train_nll(task, tmp_path / "a") < start_nll  # it learned its label words
    again = task.evaluate(single(Ingredient("a", str(tmp_path / "a"))))
    assert again.value == pytest.approx(made["held_out"])


def _train_nll(task, folder: Path) -> float:
    from stockpot.recipes import single
    from stockpot.types import Ingredient

    task._load(single(Ingredient("m", str(folder))))
    logits = task._model.logits(task._batches_of("train"), task.n_examples("train"))
    return float(-logits[np.arange(len(logits)), task.labels("train")].mean())


def test_settings_act_and_bytes_depend_on_them_alone(home, tmp_path) -> None:
    variants: list[dict[str, Any]] = [
        {"dropout": 0.1}, {"dropout": 0.4}, {"dropout": 0.1, "label_smoothing": 0.2}, {"dropout": 0.1, "seed": 4},
    ]  # fmt: skip
    for number, settings in enumerate(variants):
        make_ingredient(payload(home, tmp_path / f"run-{number}", "t5", **settings))
    assert len({weights(tmp_path / f"run-{number}") for number in range(len(variants))}) == len(variants)
    make_ingredient(payload(home, tmp_path / "again", "t5", **variants[2]))
    assert weights(tmp_path / "again") == weights(tmp_path / "run-2")


def test_the_start_is_the_checkpoint_itself(home, tmp_path) -> None:
    task = load_task(home / "task.yaml", home / "t5-untied")
    prepare_initialisation(task, home / "t5-untied", tmp_path / "start", head="own", seed=0)
    before, after = (
        safetensors_numpy.load_file(f / "model.safetensors") for f in (home / "t5-untied", tmp_path / "start")
    )
    assert {name: value.tobytes() for name, value in before.items()} == {n: v.tobytes() for n, v in after.items()}
    with pytest.raises(ConfigError, match="no classifier head"):
        prepare_initialisation(task, home / "t5", tmp_path / "other", head="linear-probe", seed=0)


def test_starts_that_are_no_whole_text_to_text_model(home, tmp_path) -> None:
    words = {"games": "red", "mail": "green", "text": "blue"}
    task = load_task(tiny_seq2seq_task(tmp_path, label_words=words), home / "t5")
    with pytest.raises(ConfigError, match="loads no text-to-text model"):
        prepare_initialisation(task, tiny_classifier(tmp_path / "bert"), tmp_path / "a", head="own", seed=0)
    broken = tiny_seq2seq_model(tmp_path / "broken")
    kept = safetensors_numpy.load_file(broken / "model.safetensors")
    kept = {name: value for name, value in kept.items() if not name.startswith("decoder.")}
    safetensors_numpy.save_file(kept, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"weights lack decoder\."):
        prepare_initialisation(task, broken, tmp_path / "b", head="own", seed=0)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


# ------------------------------------------------------------------------------------------------------- experiments


def test_an_experiment_has_no_head_to_choose(tmp_path) -> None:
    assert load_experiment_config(tiny_seq2seq_experiment(tmp_path)).head == "own"
    content = {"head": "linear-probe", "learned": {"fold": True}, "recipes": ["learned", "greedy"]}
    path = tiny_seq2seq_experiment(tmp_path, **content)
    with pytest.raises(ConfigError) as caught:
        load_experiment_config(path)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["head", "learned.fold"]
    tiny_seq2seq_task(tmp_path, scoring="generation")
    with pytest.raises(ConfigError) as caught:
        load_experiment_config(path)
    assert any("recipes: learned need a gradient" in problem for problem in caught.value.problems)


def test_a_task_within_an_experiment_is_checked_by_its_family(tmp_path) -> None:
    from stockpot.config import canonical, experiment_config

    path = tiny_seq2seq_experiment(tmp_path)
    task = json.loads((tmp_path / "task.yaml").read_text())
    content = {**json.loads(path.read_text()), "task": task}
    made = experiment_config(content, tmp_path)
    assert canonical(made)["task"]["template"] == "task: {text}"
    assert canonical(made) == canonical(load_experiment_config(path))
    with pytest.raises(ConfigError) as caught:
        experiment_config({**content, "task": {**task, "tempalte": "x", "template": "{txt}"}}, tmp_path)
    assert any("task.tempalte: unknown key (did you mean 'template'?)" in line for line in caught.value.problems)
    assert any("task.template: {txt} is no text column" in line for line in caught.value.problems)
