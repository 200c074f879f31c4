"""A row's bits depend on the row alone: not on its companions, its place or how many there are."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.recipes import single
from stockpot.tasks.batches import bucket_of, fixed_batch, rows_by_bucket
from stockpot.tasks.classifier import ResidentClassifier, encoded, tokenised
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
    encodings = encoded(tiny / "run-0", TEXTS, max_length=16)
    buckets = encodings.rows_by_bucket(4)
    bucket_by_row = {row: bucket for bucket, rows in buckets.items() for row in rows}
    for bucket in buckets:
        kept = [row for row in order[:n_kept] if bucket_by_row[row] == bucket]
        batches = [fixed_batch(encodings, kept[at : at + 4], 4, bucket) for at in range(0, len(kept), 4)]
        for batch, part in zip(batches, model.logits_by_batch(batches), strict=True):
            assert np.array_equal(part, expected[batch.rows])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 8), st.integers(9, 12))
@settings(deadline=None, derandomize=True)
def test_no_other_bounds_of_buckets_make_fewer_tokens(lengths, batch_size, max_length) -> None:
    def n_tokens(buckets: dict[int, list[int]]) -> int:
        return sum(-(-len(rows) // batch_size) * batch_size * bucket for bucket, rows in buckets.items())

    found = rows_by_bucket(lengths, batch_size=batch_size, max_length=max_length)
    assert sorted(row for rows in found.values() for row in rows) == list(range(len(lengths)))
    assert list(found) == sorted(found)
    assert all(found.values())
    assert all(lengths[row] <= bucket for bucket, rows in found.items() for row in rows)
    present = sorted(set(lengths))
    for n_below in range(len(present)):
        for below in combinations(present[:-1], n_below):
            bounds, other = (*below, present[-1]), dict[int, list[int]]()
            for row, length in enumerate(lengths):
                other.setdefault(next(bound for bound in bounds if bound >= length), []).append(row)
            assert n_tokens(found) <= n_tokens(other)


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
