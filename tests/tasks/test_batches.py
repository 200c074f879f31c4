"""A row's bits depend on the row alone: not on its companions, its place or how many there are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.recipes import single
from stockpot.tasks.batches import bucket_of
from stockpot.tasks.classifier import ResidentClassifier, tokenised
from stockpot.tasks.hardware import Hardware
from stockpot.types import Ingredient
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_rows

TEXTS = tuple((text,) for _, text in tiny_rows(29, seed=3))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and two fine-tunes of it, `run-0` and `run-1`."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 2)
    return folder


def classifier(folder, *, precision: str = "fp32", n_threads: int = 1) -> ResidentClassifier:
    made = ResidentClassifier(folder, n_labels=3, hardware=Hardware("cpu", precision, ""), n_threads=n_threads)
    made.load(single(Ingredient("run-0", str(folder))))
    return made


def logits(model: ResidentClassifier, folder, texts) -> np.ndarray:
    return model.logits(tokenised(folder, texts, batch_size=4, max_length=16), len(texts))


@given(st.integers(1, 600), st.integers(1, 512))
@settings(deadline=None, derandomize=True)
def test_a_bucket_holds_its_length_and_grows_with_it(length, max_length) -> None:
    length = min(length, max_length)
    assert length <= bucket_of(length, max_length) <= max_length
    assert bucket_of(max(length - 1, 1), max_length) <= bucket_of(length, max_length)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def reference(request, tiny):
    model = classifier(tiny / "run-0", precision=request.param)
    return model, logits(model, tiny / "run-0", TEXTS)


@given(st.permutations(range(len(TEXTS))), st.integers(1, len(TEXTS)))
@settings(deadline=None, derandomize=True, max_examples=15)
def test_order_and_companions_change_no_bit(reference, tiny, order, n_kept) -> None:
    model, expected = reference
    kept = order[:n_kept]
    got = logits(model, tiny / "run-0", [TEXTS[row] for row in kept])
    assert np.array_equal(got, expected[kept])


def test_left_padding_follows_the_tokenizer(tiny, tmp_path) -> None:
    folder = tmp_path / "left"
    shutil.copytree(tiny / "run-0", folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    for batch in tokenised(folder, TEXTS, batch_size=4, max_length=16):
        mask = batch.inputs["attention_mask"]
        assert (np.diff(mask, axis=1) >= 0).all()
        assert mask[:, -1].all()


def test_batches_are_full_to_the_last_and_dummies_are_real_texts(tiny) -> None:
    batches = tokenised(tiny / "run-0", TEXTS[:3], batch_size=64, max_length=16)
    assert {batch.inputs["input_ids"].shape[0] for batch in batches} == {64}
    assert all(batch.inputs["attention_mask"].any(axis=1).all() for batch in batches)


def test_longer_texts_are_cut(tiny) -> None:
    batches = tokenised(tiny / "run-0", [("red " * 50,)], batch_size=2, max_length=10)
    assert batches[0].inputs["input_ids"].shape == (2, 10)
