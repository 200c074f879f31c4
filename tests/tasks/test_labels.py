"""Class numbers: whose names count, in which order, and what integers mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stockpot.config import DataConfig, SplitConfig
from stockpot.errors import DataError
from stockpot.tasks.data import Split, digest, load_splits
from stockpot.tasks.labels import encode_labels

RTE = ("entailment", "not_entailment")


def labelled(split: str, labels: list[Any], class_names: tuple[str, ...] = ()) -> Split:
    rows = range(len(labels))
    texts, items = tuple((f"{split} {row}",) for row in rows), tuple(f"{split}.tsv:{row + 2}" for row in rows)
    return Split(split, texts, tuple(labels), items, class_names=class_names)


def test_names_are_numbered_in_sorted_order() -> None:
    names, ids = encode_labels({"train": labelled("train", ["b", "c"]), "held_out": labelled("held_out", ["a", "b"])})
    assert names == ("a", "b", "c")
    assert ids["train"].tolist() == [1, 2]
    assert ids["held_out"].dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "model_labels", "expected"), [(["b", "a"], ["x", "a", "b"], [1, 0]), (None, ["x", "a", "b"], [1, 2])]
)
def test_the_tasks_order_comes_before_the_models(
    labels: list[str] | None, model_labels: list[str], expected: list[int]
) -> None:
    held_out = labelled("held_out", ["a", "b"])
    assert encode_labels({"held_out": held_out}, labels, model_labels=model_labels).ids["held_out"].tolist() == expected


def test_the_models_own_names_in_another_order_are_refused() -> None:
    held_out = Split("held_out", (("x",), ("y",)), ("a", "b"), ("f:2", "f:3"))
    with pytest.raises(DataError, match="the model's outputs are, in order, b, a"):
        encode_labels({"held_out": held_out}, ["a", "b"], model_labels=["b", "a"])
    assert encode_labels({"held_out": held_out}, ["b", "a"], model_labels=["b", "a"]).names == ("b", "a")


def test_unknown_labels_are_listed_with_counts_and_neighbours() -> None:
    splits = {"held_out": labelled("held_out", ["sport", "sprot", "sprot"]), "test": labelled("test", ["xyz", "sport"])}
    with pytest.raises(DataError) as caught:
        encode_labels(splits, ["sport", "news"])
    assert caught.value.message == "labels that are none of: sport, news"
    assert caught.value.problems == ("held_out: 'sprot' (2 rows) (did you mean 'sport'?)", "test: 'xyz' (1 row)")


def test_test_labels_must_occur_in_training_data() -> None:
    with pytest.raises(DataError, match="test: 'c'"):
        encode_labels({"held_out": labelled("held_out", ["a", "b"]), "test": labelled("test", ["c"])})


def test_integers_are_class_numbers_also_where_a_class_is_absent() -> None:
    names, ids = encode_labels({"held_out": labelled("held_out", [0, 3, 1])})
    assert (names, ids["held_out"].tolist()) == (("0", "1", "2", "3"), [0, 3, 1])


def test_integers_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match=r"held_out: 2 \(1 row\); allowed: 0 to 1"):
        encode_labels({"held_out": labelled("held_out", [0, 2])}, ["no", "yes"])
    with pytest.raises(DataError, match=r"held_out: -1 \(1 row\)"):
        encode_labels({"held_out": labelled("held_out", [0, -1, 1])})


def test_integers_that_are_names_mean_these_classes() -> None:
    held_out = labelled("held_out", [5, 1, 2])
    assert encode_labels({"held_out": held_out}, ["1", "2", "3", "4", "5"]).ids["held_out"].tolist() == [4, 0, 1]
    with pytest.raises(DataError, match=r"0 \(1 row\); allowed: 1 to 3"):
        encode_labels({"held_out": labelled("held_out", [0, 1])}, ["1", "2", "3"])


# -- class numbers that their file names, as `datasets` writes Parquet


def write_named(path: Path, labels: list[Any], names: tuple[str, ...]) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"label": {"names": list(names), "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    table = pa.table({"text": [f"{path.stem} {row}" for row in range(len(labels))], "label": labels})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    if path.suffix == ".parquet":
        parquet.write_table(table.replace_schema_metadata(metadata), path)
        return
    table = table.replace_schema_metadata(metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def named(labels: list[Any], names: tuple[str, ...] = RTE, split: str = "held_out") -> dict[str, Split]:
    return {split: labelled(split, labels, names)}


@pytest.mark.parametrize("file", ["a.parquet", "a.arrow"])
def test_names_are_read_from_the_files_schema(tmp_path: Path, file: str) -> None:
    write_named(tmp_path / file, [0, 1, 1], RTE)
    config = DataConfig(file=file, text=("text",), label="label", held_out=SplitConfig())
    splits = load_splits(config, folder=tmp_path)
    assert (splits["held_out"].labels, splits["held_out"].class_names) == ((0, 1, 1), RTE)
    assert encode_labels(splits, RTE[::-1]).ids["held_out"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "model_labels", "expected"),
    [
        (RTE[::-1], None, [1, 0, 0]),
        (None, RTE[::-1], [1, 0, 0]),
        (None, ("NOT ENTAILMENT", "Entailment"), [1, 0, 0]),
        (None, None, [0, 1, 1]),
        (("0", "1"), None, [0, 1, 1]),
        (("1", "0"), None, [1, 0, 0]),
        (("follows", "does not"), None, [0, 1, 1]),
        (("follows", "does not"), RTE, [0, 1, 1]),
    ],
)
def test_numbers_mean_what_their_file_names_them(labels: Any, model_labels: Any, expected: list[int]) -> None:
    assert encode_labels(named([0, 1, 1]), labels, model_labels=model_labels).ids["held_out"].tolist() == expected


def test_the_order_of_the_files_names_is_that_of_the_classes() -> None:
    """Not the sorted one: a head that was trained on the numbers has its outputs in their order."""
    for labels in ([1, 0], ["trouser", "shirt"]):  # images come with their names
        names, ids = encode_labels(named(labels, ("shirt", "trouser", "bag")))
        assert names == ("shirt", "trouser", "bag")
        assert ids["held_out"].tolist() == [1, 0]


def test_files_with_and_without_names_go_together() -> None:
    splits = named([0, 1], split="train") | {"held_out": labelled("held_out", [1, 0]), "test": labelled("test", [*RTE])}
    _, ids = encode_labels(splits, RTE[::-1])
    assert {name: found.tolist() for name, found in ids.items()} == {
        "train": [1, 0],
        "held_out": [1, 0],
        "test": [1, 0],
    }


def test_names_that_are_numbers_are_names() -> None:
    assert encode_labels(named(["3", "1"], ("3", "1", "2")), ["1", "2", "3"]).ids["held_out"].tolist() == [2, 0]


def test_names_that_are_not_the_models_are_refused() -> None:
    with pytest.raises(DataError, match=r"names the classes entailment, not_entailment; the model: no, yes") as caught:
        encode_labels(named([0, 1]), model_labels=("no", "yes"))
    assert "in the order of the model's outputs" in (caught.value.fix or "")
    assert encode_labels(named([0, 1]), RTE[::-1], model_labels=("no", "yes")).ids["held_out"].tolist() == [1, 0]


def test_a_class_that_the_task_lacks_is_told_by_its_name() -> None:
    with pytest.raises(DataError) as caught:
        encode_labels(named([0, 1, 2, -1], ("bad", "good", "unsure")), ["good", "bad"])
    assert caught.value.problems == (
        "held_out: -1 (1 row); allowed: 0 to 1",
        "held_out: 2, which its file names 'unsure' (1 row)",
    )


def test_other_names_are_another_content() -> None:
    assert digest(named([0, 1])["held_out"]) != digest(named([0, 1], RTE[::-1])["held_out"])


@pytest.mark.parametrize("label", [10**6, 20190101, 10**30])
def test_numbers_too_large_for_classes_are_refused_at_once(label: int) -> None:
    with pytest.raises(DataError, match=f"the label {label} is no class number"):
        encode_labels({"held_out": labelled("held_out", [1, label])})
    names = [str(label), "1"]
    assert encode_labels({"held_out": labelled("held_out", [1, label])}, names).ids["held_out"].tolist() == [1, 0]


def test_names_that_differ_in_blanks_alone_are_one_name_written_twice() -> None:
    held_out = {"held_out": labelled("held_out", ["very good", "good ", "good", "very  good", "bad"])}
    with pytest.raises(DataError, match="differ in blanks alone") as failure:
        encode_labels(held_out)
    assert failure.value.problems == ("'good'", "'good '", "'very  good'", "'very good'")
    with pytest.raises(DataError, match="none of: bad, good, very good"):
        encode_labels(held_out, ["bad", "good", "very good"])
