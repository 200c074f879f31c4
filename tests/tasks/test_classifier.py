"""The resident classifier: same bits for any number of threads, and clear words about models it cannot run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stockpot.errors import ConfigError, EvaluationError, IncompatibleError, StockpotError
from stockpot.recipes import single
from stockpot.tasks.classifier import ResidentClassifier, load_tokenizer, tokenised
from stockpot.tasks.hardware import Hardware
from stockpot.types import Ingredient
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_rows

FP32 = Hardware("cpu", "fp32", "")
TEXTS = tuple((text,) for _, text in tiny_rows(40, seed=5))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and two fine-tunes of it, `run-0` and `run-1`."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 2)
    return folder


def resident(folder: Path, *, n_labels: int = 3, n_threads: int = 1) -> ResidentClassifier:
    return ResidentClassifier(folder, n_labels=n_labels, hardware=FP32, n_threads=n_threads)


def soup_of(folder: Path):
    return single(Ingredient(folder.name, str(folder)))


def variant(tiny: Path, tmp_path: Path, **changes: object) -> Path:
    """A copy of run-0 with another config.json; None removes a key."""
    folder = Path(shutil.copytree(tiny / "run-0", tmp_path / "variant"))
    content = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


@pytest.mark.parametrize("threads_outside", [1, 2])
def test_threads_change_no_bit_and_are_given_back(tiny, threads_outside) -> None:
    batches = tokenised(tiny / "run-0", TEXTS, batch_size=4, max_length=16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads_outside)
    try:
        results = []
        for n_threads in (1, 3):
            model = resident(tiny / "run-0", n_threads=n_threads)
            model.load(soup_of(tiny / "run-0"))
            results.append(model.logits(batches, len(TEXTS)))
            assert torch.get_num_threads() == threads_outside
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*results)


def test_threads_are_given_back_after_a_failure(tiny) -> None:
    model = resident(tiny / "run-0", n_threads=2)
    with torch.no_grad():
        model.module.get_parameter("classifier.weight").fill_(float("nan"))
    before = torch.get_num_threads()
    with pytest.raises(EvaluationError, match="not finite for 40 of 40 examples"):
        model.logits(tokenised(tiny / "run-0", TEXTS, batch_size=4, max_length=16), len(TEXTS))
    assert torch.get_num_threads() == before


def test_weights_are_swapped_not_added(tiny) -> None:
    batches = tokenised(tiny / "run-0", TEXTS, batch_size=4, max_length=16)
    model = resident(tiny / "run-0")
    seen = []
    for name in ("run-0", "run-1", "run-0"):
        model.load(soup_of(tiny / name))
        seen.append(model.logits(batches, len(TEXTS)))
    assert np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


def test_a_head_of_another_size_is_refused(tiny) -> None:
    with pytest.raises(IncompatibleError) as caught:
        resident(tiny / "run-0", n_labels=5).load(soup_of(tiny / "run-0"))
    assert [line.split(":")[0] for line in caught.value.problems] == ["classifier.bias", "classifier.weight"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "nonsense"},
        {"model_type": None, "architectures": None},
        {"model_type": "vit"},
        {"hidden_size": "wide"},
        {"hidden_size": 15},
        {"hidden_act": "nonsense"},
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()),
)
def test_configurations_that_make_no_classifier(tiny, tmp_path, changes) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: no text classifier"):
        resident(variant(tiny, tmp_path, **changes))


def test_code_that_comes_with_a_model_is_never_run(tiny, tmp_path) -> None:
    folder = variant(tiny, tmp_path, model_type="mine", auto_map={"AutoConfig": "code.Mine"})
    (folder / "code.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w').close()\n")
    with pytest.raises(ConfigError):
        resident(folder)
    assert not (tmp_path / "was-run").exists()


def test_texts_longer_than_the_model_has_positions(tiny) -> None:
    model = resident(tiny / "run-0")
    with pytest.raises(EvaluationError, match="max_length") as caught:
        model.logits(tokenised(tiny / "run-0", [("red " * 60,)], batch_size=2, max_length=64), 1)
    assert caught.value.problems == ("positions: 64 needed, config.json has 32",)


def test_a_tokenizer_of_a_larger_vocabulary(tiny, tmp_path) -> None:
    model = resident(variant(tiny, tmp_path, vocab_size=6))
    with pytest.raises(EvaluationError, match=r"tokens: .* needed, config\.json has 6"):
        model.logits(tokenised(tiny / "run-0", TEXTS, batch_size=4, max_length=16), len(TEXTS))


def _without(pattern: str):
    def change(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return change


def _broken(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    "change",
    [
        _without("*token*"),  # transformers makes one without words then
        _without("tokenizer.json"),
        _broken("tokenizer.json", "{oops"),
        _broken("tokenizer.json", "{}"),
        _broken("tokenizer.json", ""),
        _broken("tokenizer_config.json", "[]"),
    ],
    ids=["none", "no-json", "no-object", "empty-object", "empty", "list"],
)
def test_unusable_tokenizers(tiny, tmp_path, change) -> None:
    folder = Path(shutil.copytree(tiny / "run-0", tmp_path / "model"))
    change(folder)
    with pytest.raises(ConfigError, match="no usable tokenizer"):
        load_tokenizer(folder)


def test_bf16_weights_are_run_at_their_own_values(tmp_path) -> None:
    """A bf16 checkpoint and its exact fp32 copy give the same bits."""
    half = tiny_classifier(tmp_path / "half", dtype="bfloat16")
    whole = Path(shutil.copytree(half, tmp_path / "whole"))
    tensors = load_file(half / "model.safetensors")
    assert tensors["classifier.weight"].dtype == torch.bfloat16
    save_file({name: tensor.float() for name, tensor in tensors.items()}, whole / "model.safetensors")
    batches = tokenised(half, TEXTS, batch_size=4, max_length=16)
    model = resident(half)
    results = []
    for folder in (half, whole):
        model.load(soup_of(folder))
        results.append(model.logits(batches, len(TEXTS)))
    assert np.array_equal(*results)


def test_a_missing_model_folder_is_a_stockpot_error(tmp_path) -> None:
    with pytest.raises(StockpotError):
        resident(tmp_path / "nowhere")
