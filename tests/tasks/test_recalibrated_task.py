"""`recalibrate` of a task: every candidate with statistics of its own, in scores, table and written weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from stockpot.assembly import verify, with_digests  # noqa: E402
from stockpot.checkpoints import ingredients  # noqa: E402
from stockpot.errors import ConfigError, RecordError  # noqa: E402
from stockpot.recipes import single, uniform  # noqa: E402
from stockpot.tasks import load_task  # noqa: E402
from stockpot.tasks.recalibration import recalibrate  # noqa: E402


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small ResNets that were changed at random, and images of three classes."""
    home = tmp_path_factory.mktemp("resnets")
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3,
        id2label={0: "dark", 1: "grey", 2: "light"},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(config)
    processor = transformers.ViTImageProcessor(
        do_resize=False, do_rescale=True, do_normalize=False, size={"height": 16, "width": 16}
    )
    for number in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape))
        model.save_pretrained(home / f"run-{number}")
        processor.save_pretrained(home / f"run-{number}")
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, n in (("train", 20), ("held_out", 12), ("test", 12)):
        for level, name in enumerate(("dark", "grey", "light")):
            (home / split / name).mkdir(parents=True)
            for number in range(n):
                pixels = np.clip(generator.normal(60 + 60 * level, 40, (16, 16)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels, "L").save(home / split / name / f"{number}.png")
    data = {split: {"path": split} for split in ("train", "held_out", "test")}
    task = {
        "family": "image-classification",
        "data": {**data, "cache": "cache"},
        "evaluation": {"batch_size": 8, "device": "cpu", "precision": "fp32"},
    }
    (home / "task.yaml").write_text(json.dumps(task))
    return home


@pytest.fixture
def runs(home: Path):
    return with_digests(ingredients(home / "run-*"))


def test_each_model_is_judged_with_its_own_statistics(home: Path, runs) -> None:
    plain, anew = (load_task(home / "task.yaml", runs[0], n_threads=1, recalibrate=n) for n in (0, 3))
    assert plain.identity("test") != anew.identity("test")
    for soup in (single(runs[0]), uniform(runs)):
        before, after = plain.predict(soup, "test").logits, anew.predict(soup, "test").logits
        assert not np.allclose(before, after, atol=1e-3)
        assert np.array_equal(after, anew.predict(soup, "test").logits)
        # The same by hand: the plain module with the same batches.
        plain.predict(soup, "test")
        module = plain._model.module
        batches = [
            {name: torch.from_numpy(values[: len(batch.rows)]) for name, values in batch.inputs.items()}
            for batch in anew._training_batches(3)
        ]
        recalibrate(module, batches)
        by_hand = plain._model.logits(plain._batches_of("test"), plain.n_examples("test"))
        plain._model.forget()
        assert np.allclose(by_hand, after, atol=1e-5)


def test_the_order_of_candidates_does_not_matter(home: Path, runs) -> None:
    first, second = (load_task(home / "task.yaml", runs[0], n_threads=1, recalibrate=2) for _ in range(2))
    a = [first.predict(single(run), "test").logits for run in runs]
    b = [second.predict(single(run), "test").logits for run in reversed(runs)][::-1]
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_task_without_training_examples_cannot(home: Path, runs, tmp_path: Path) -> None:
    task = json.loads((home / "task.yaml").read_text())
    del task["data"]["train"]
    with pytest.raises(ConfigError, match="the task names none"):
        load_task(task, runs[0], folder=home, recalibrate=2)
    from stockpot.experiment import cook

    for run in ("train", "held_out", "test"):
        (tmp_path / run).symlink_to(home / run)
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    with pytest.raises(ConfigError, match="the task names none"):
        cook(
            ingredients(home / "run-*"), tmp_path / "soup", recipe="greedy", task=tmp_path / "task.yaml", recalibrate=2
        )
    assert not (tmp_path / "soup").exists()


def test_more_batches_than_there_are_is_said_and_recorded(home: Path, tmp_path: Path) -> None:
    from stockpot.experiment import cook

    said: list[str] = []
    runs = ingredients(home / "run-*")
    cook(
        runs, tmp_path / "soup", recipe="uniform", task=home / "task.yaml", recalibrate=999,
        on_progress=lambda progress: said.append(progress.line),
    )  # fmt: skip
    note = "made anew over 8 batches: 999 were asked for, and 60 training examples give no more"
    assert len([line for line in said if note in line]) == 1
    assert note in "".join(json.loads((tmp_path / "soup/soup.json").read_text())["notes"])
    lines = verify(tmp_path / "soup")
    assert not [line for line in lines if "not recorded" in line]
    task = load_task(home / "task.yaml", runs[0], recalibrate=2)
    assert task.recalibration_notes == ("Running statistics were made anew over 2 batches.",)
    assert load_task(home / "task.yaml", runs[0]).recalibration_notes == ()


def test_what_is_written_has_them(home: Path, tmp_path: Path) -> None:
    from stockpot.assembly import rebuild
    from stockpot.experiment import cook

    soup = cook(
        ingredients(home / "run-*"), tmp_path / "soup", recipe="uniform", task=home / "task.yaml", recalibrate=3
    )
    task = load_task(home / "task.yaml", soup.ingredients[0], n_threads=1, recalibrate=3)
    expected = task.predict(soup, "test").logits
    model = transformers.ResNetForImageClassification.from_pretrained(tmp_path / "soup").eval()
    plain = load_task(home / "task.yaml", soup.ingredients[0], n_threads=1, recalibrate=0)
    with torch.no_grad():
        found = np.concatenate([
            model(**{n: torch.from_numpy(v[: len(b.rows)]) for n, v in b.inputs.items()}).logits.numpy()
            for b in plain._batches_of("test")
        ])  # fmt: skip
    assert np.allclose(found, expected, atol=1e-5)
    record = json.loads((tmp_path / "soup/soup.json").read_text())
    names = [name for name in load_file(tmp_path / "soup/model.safetensors") if "running_" in name]
    assert set(names) < set(record["output"]["recalibrated"])
    assert verify(tmp_path / "soup", tensors=True)
    with pytest.raises(RecordError, match="made anew with training data"):
        rebuild(tmp_path / "soup", tmp_path / "again")


def test_the_table_says_what_was_before(home: Path, tmp_path: Path) -> None:
    from stockpot.experiment import compare

    results = compare(
        ingredients(home / "run-*"), task=home / "task.yaml", recipes=("uniform",), recalibrate=3, out=tmp_path / "c"
    )
    (note,) = [note for note in results.notes if note.startswith("Before running statistics were made anew")]
    assert "accuracy on test was: best " in note
    assert "uniform 0." in note


def test_it_needs_a_task(home: Path, tmp_path: Path) -> None:
    from stockpot.experiment import compare

    with pytest.raises(ConfigError, match="it needs a task"):
        compare(ingredients(home / "run-*"), evaluate=lambda soup: 1.0, recalibrate=3)
