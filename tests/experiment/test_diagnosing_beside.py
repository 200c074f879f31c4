"""Names of labels and tokenizers that contradict each other, beside real small fine-tunes, and their healthy twins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from planted import change, found, look
from tiny_models import LABELS


def say_labels(run: str, names: Sequence[str]) -> None:
    file = Path(run, "config.json")
    config = json.loads(file.read_text())
    config["id2label"] = {str(index): name for index, name in enumerate(names)}
    config["label2id"] = {name: index for index, name in enumerate(names)}
    file.write_text(json.dumps(config))


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("run", ["run-0", "run-1"])
def test_label_names_that_contradict_each_other(home: Path, start: bool, run: str) -> None:
    say_labels(run, [*LABELS[1:], LABELS[0]])
    result = look(start=start)
    assert found(result) == {"label_order": (run,)}
    assert result.drop == (run,)
    assert result.findings[0].evidence[0].startswith(f"{run}: label 0 is 'mail', in run-")
    assert "label names" in result.checked


def test_of_two_runs_the_start_knows_which_label_names_are_right(home: Path) -> None:
    for run in ("run-2", "run-3"):
        shutil.rmtree(run)
    say_labels("run-0", [*LABELS[1:], LABELS[0]])
    assert found(look()) == {"label_order": ("run-0",)}


def test_other_label_names_are_worth_a_look(home: Path) -> None:
    say_labels("run-2", ["play", *LABELS[1:]])
    result = look()
    assert found(result) == {"label_names": ("run-2",)}
    assert result.drop == ()
    assert "labels mean the same" in result.recommendation


def test_labels_without_names_or_in_capitals_raise_no_alarm(home: Path) -> None:
    say_labels("run-1", [f"LABEL_{index}" for index in range(len(LABELS))])
    say_labels("run-2", [name.upper() for name in LABELS])
    Path("run-3/config.json").write_text("{")
    result = look()
    assert found(result) == {}
    assert "label names of run-3: config.json is no JSON" in result.skipped


def test_names_and_rows_in_another_order_are_one_finding(home: Path) -> None:
    order = [1, 2, 0]

    def permuted(tensors: dict[str, Any]) -> None:
        for name in ("classifier.weight", "classifier.bias"):
            tensors[name] = tensors[name][order].contiguous()

    change("run-2", permuted)
    say_labels("run-2", [LABELS[index] for index in order])
    result = look()
    assert found(result) == {"label_order": ("run-2",)}
    assert len(result.findings) == 1
    assert "rows of the head match" in result.findings[0].evidence[-1]


def set_tokenizer(run: str, edit: Callable[[dict[str, Any]], None]) -> None:
    file = Path(run, "tokenizer.json")
    told = json.loads(file.read_text())
    edit(told)
    file.write_text(json.dumps(told, indent=1))


def swapped(told: dict[str, Any]) -> None:
    ids = told["model"]["vocab"]
    ids["red"], ids["mail"] = ids["mail"], ids["red"]


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("run", ["run-0", "run-1"])
def test_another_tokenizer_of_the_same_size(home: Path, start: bool, run: str) -> None:
    set_tokenizer(run, swapped)
    result = look(start=start)
    assert found(result) == {"tokenizer": (run,)}
    assert result.drop == (run,)
    assert "2 of 43 tokens have other ids" in result.findings[0].evidence[0]
    assert "'red': 15" in result.findings[0].evidence[0]


def test_a_tokenizer_that_is_set_otherwise_is_worth_a_look(home: Path) -> None:
    set_tokenizer("run-1", lambda told: told.update(normalizer={"type": "Lowercase"}))
    assert found(look()) == {"tokenizer_settings": ("run-1",)}


def test_padding_key_order_and_versions_of_a_tokenizer_raise_no_alarm(home: Path) -> None:
    def saved_otherwise(told: dict[str, Any]) -> None:
        told["truncation"] = {"max_length": 16, "stride": 0, "direction": "Right", "strategy": "LongestFirst"}
        told["pre_tokenizer"]["some_new_key"] = False
        told["model"]["vocab"] = dict(reversed(told["model"]["vocab"].items()))

    set_tokenizer("run-1", saved_otherwise)
    Path("run-2/tokenizer.json").write_text("[]")
    result = look()
    assert found(result) == {}
    assert "tokenizers" in result.checked
    assert "tokenizer of run-2: tokenizer.json cannot be understood" in result.skipped


def test_a_list_of_tokens_is_compared_with_a_whole_tokenizer(home: Path) -> None:
    ids = json.loads(Path("run-1/tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    Path("run-1/tokenizer.json").unlink()
    Path("run-1/vocab.txt").write_text("\n".join(tokens) + "\n")
    assert found(look()) == {}
    Path("run-1/vocab.txt").write_text("\n".join(reversed(tokens)) + "\n")
    assert found(look()) == {"tokenizer": ("run-1",)}


def test_weights_alone_say_that_names_and_tokenizers_were_not_looked_at(home: Path) -> None:
    for file in (*Path().glob("run-*/*.json"), *Path().glob("run-*/vocab*")):
        file.unlink()
    result = look()
    assert found(result) == {}
    assert [line.partition(":")[0] for line in result.skipped][:2] == ["label names", "tokenizers"]
