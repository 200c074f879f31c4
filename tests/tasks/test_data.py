"""Splits: read strictly, disjoint, sharing items where derived, refused where they leak."""

from __future__ import annotations

import bz2
import csv as csv_module
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.config import DataConfig, ShiftConfig, SplitConfig, load_task_config
from stockpot.errors import DataError, MissingExtraError
from stockpot.tasks.data import Split, check_overlap, digest, load_splits
from stockpot.tasks.labels import encode_labels

N = 40
ROWS = [{"label": "abcd"[i % 4], "text": f"text {i}", "long": f"longer text {i}"} for i in range(N)]


def tsv(rows: list[dict[str, Any]]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in [list(rows[0]), *(row.values() for row in rows)])


def csv(rows: list[dict[str, Any]]) -> str:
    quoted = ([f'"{cell}"' for cell in row.values()] for row in rows)
    return "".join(",".join(row) + "\r\n" for row in [list(rows[0]), *quoted])


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def data(**changes: Any) -> DataConfig:
    return DataConfig(**{"file": "a.tsv", "text": "text", "label": "label", "held_out": SplitConfig(), **changes})


def drawn(**changes: Any) -> DataConfig:
    sizes = {"train": SplitConfig(rows=8), "held_out": SplitConfig(rows=10), "test": SplitConfig(rows=12)}
    return data(**{**sizes, **changes})


def refusal(config: DataConfig, folder: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load_splits(config, folder=folder)
    assert caught.value.fix or "known:" in caught.value.message
    return caught.value


def labelled(name: str, labels: list[str | int], *, texts: list[str] | None = None, of: str | None = None) -> Split:
    texts = texts or [f"{name} {i}" for i in range(len(labels))]
    ids = tuple(f"{name}.tsv:{i + 2}" for i in range(len(labels)))
    return Split(name, tuple((text,) for text in texts), tuple(labels), ids, of)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.tsv").write_text(tsv(ROWS))
    return tmp_path


# -- formats


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.tsv", tsv(ROWS).encode()),
        ("b.TSV", tsv(ROWS).encode()),
        ("b.tab", tsv(ROWS).replace("\n", "\r\n").encode()),
        ("b.tsv.gz", gzip.compress(tsv(ROWS).encode(), mtime=0)),
        ("b.tsv.xz", lzma.compress(tsv(ROWS).encode())),
        ("b.csv.bz2", bz2.compress(csv(ROWS).encode())),
        ("b.csv", b"\xef\xbb\xbf" + csv(ROWS).encode()),
        ("b.jsonl", json_lines(ROWS).encode()),
        ("b.ndjson.gz", gzip.compress(json_lines(ROWS).encode(), mtime=0)),
    ],
)
def test_every_format_gives_the_same_rows(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    expected = load_splits(data(), folder=folder)["held_out"]
    read = load_splits(data(file=name), folder=folder)["held_out"]
    assert (read.texts, read.labels) == (expected.texts, expected.labels)
    assert digest(read) == digest(expected)


def test_parquet_gives_the_same_rows(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "b.parquet")
    read = load_splits(data(file="b.parquet"), folder=folder)["held_out"]
    assert digest(read) == digest(load_splits(data(), folder=folder)["held_out"])
    (folder / "c.parquet").write_bytes(b"PAR1 nonsense")
    assert "c.parquet cannot be read" in refusal(data(file="c.parquet"), folder).message
    assert "did you mean 'text'" in str(refusal(data(file="b.parquet", text="txt"), folder))


@pytest.mark.parametrize("maker", ["new_file", "new_stream"])
def test_arrow_gives_the_same_rows(folder: Path, maker: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pylist(ROWS)
    with getattr(pyarrow.ipc, maker)(str(folder / "b.arrow"), table.schema) as file:
        file.write_table(table)
    read = load_splits(data(file="b.arrow"), folder=folder)["held_out"]
    assert digest(read) == digest(load_splits(data(), folder=folder)["held_out"])
    (folder / "c.arrow").write_bytes(b"ARROW1 nonsense")
    assert "c.arrow cannot be read" in refusal(data(file="c.arrow"), folder).message
    assert "did you mean 'text'" in str(refusal(data(file="b.arrow", text="txt"), folder))
    assert "no such file" in refusal(data(file="d.arrow"), folder).message


def test_parquet_without_pyarrow_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pyarrow":
                raise ModuleNotFoundError(name, name=name)

    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"stockpot\[hf\]"):
        load_splits(data(file="b.parquet"), folder=folder)


def test_quotes_are_text_in_tsv_and_syntax_in_csv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('label\ttext\na\t"stray quote\nb\tanother "one"\n')
    (tmp_path / "a.csv").write_text('label,text\na,"one, two\nlines ""quoted"""\nb,plain\n')
    assert load_splits(data(), folder=tmp_path)["held_out"].texts == (('"stray quote',), ('another "one"',))
    read = load_splits(data(file="a.csv"), folder=tmp_path)["held_out"]
    assert read.texts == (('one, two\nlines "quoted"',), ("plain",))
    assert read.item_ids == ("a.csv:3", "a.csv:4")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("b.tsv", b"", "b.tsv is empty"),
        ("b.tsv", b"label\ttext\n", "b.tsv holds no rows"),
        ("b.jsonl", b"\n", "b.jsonl holds no rows"),
        ("b.xlsx", b"", "b.xlsx: unknown kind of file; known: .tsv, .tab, .csv, .jsonl, .ndjson, .parquet, .pq"),
        ("b.parquet.gz", b"", "b.parquet.gz: unknown kind of file"),
        ("b.tsv.gz", b"plain text", "b.tsv.gz cannot be read"),
        ("b.tsv.gz", gzip.compress(b"label\ttext\na\tb\n" * 50, mtime=0)[:-12], "b.tsv.gz cannot be read"),
        ("b.tsv.xz", b"plain text", "b.tsv.xz cannot be read"),
        ("b.tsv", b"label\ttext\na\tgood\nb\tcaf\xe9\n", "b.tsv, line 3: byte 0xe9 is not UTF-8"),
        ("b.tsv", b"label\ttext\ttext\na\tb\tc\n", "b.tsv: columns given twice: text"),
        ("b.tsv", b"label\ttexts\na\tb\n", "no column 'text' (did you mean 'texts'?)"),
        ("b.tsv", b"label\ttext\na\nb\tc\td\n", "line 2: 1 fields where the header has 2"),
        ("b.tsv", b"label\ttext\na\nb\tc\td\n", "line 3: 3 fields where the header has 2"),
        ("b.tsv", b"label\ttext\na\t\nb\t \n", "b.tsv, line 2: column 'text' is empty"),
        ("b.tsv", b"label\ttext\n\tgood\n", "b.tsv, line 2: column 'label' is empty"),
        ("b.csv", b'label,text\na,"never closed\nb,c\n', "b.csv, line 3: unexpected end of data"),
        ("b.csv", b'label,text\na,"closed" early\n', "b.csv, line 2: ',' expected after '\"'"),
        ("b.jsonl", b'{"label": "a", "text": "b"}\n{"label":\n', "line 2: not JSON"),
        ("b.jsonl", b"[1]\n", "line 1: a list, not an object"),
        ("b.jsonl", b'{"label": "a", "text": "b"}\n{"label": "a"}\n', "b.jsonl, line 2: column 'text' is empty"),
        ("b.jsonl", b'{"label": "a", "text": 3}\n', "b.jsonl, line 1: column 'text' holds 3, which is no text"),
        ("b.jsonl", b'{"label": true, "text": "b"}\n', "column 'label' holds True, which is no name or integer"),
        ("b.jsonl", b'{"label": 1.5, "text": "b"}\n', "column 'label' holds the number 1.5: for regression"),
        ("b.jsonl", b'{"label": "a", "text": "\\ud800"}\n', "line 1: column 'text' holds half of a surrogate pair"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert expected in str(refusal(data(file=name), tmp_path))


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_text_may_be_longer_than_csv_allows_by_itself(tmp_path: Path, ending: str) -> None:
    text, between = "word " * 50_000 + "end", "," if ending == "csv" else "\t"
    before = csv_module.field_size_limit()
    (tmp_path / f"a.{ending}").write_text(f"text{between}label\n{text}{between}x\n")
    config = DataConfig(file=f"a.{ending}", text="text", label="label", held_out=SplitConfig())
    assert load_splits(config, folder=tmp_path)["held_out"].texts == ((text,),)
    assert csv_module.field_size_limit() == before


def test_a_folder_of_sets_names_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "saved")
    config = DataConfig(file="saved", text="text", label="label", held_out=SplitConfig())
    with pytest.raises(DataError, match="a folder for each set: test, train") as failure:
        load_splits(config, folder=tmp_path)
    assert failure.value.fix == "name one of them: saved/test"
    one = config.model_copy(update={"file": "saved/test"})
    assert load_splits(one, folder=tmp_path)["held_out"].labels == (0, 1)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "no such file: a.tsv" in str(refusal(data(), tmp_path))
    (tmp_path / "a.tsv").mkdir()
    assert "a.tsv is a folder without tables" in str(refusal(data(), tmp_path))


def test_all_files_are_complained_about_at_once(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_text("label\tx\na\tb\n")
    error = refusal(data(test=SplitConfig(file="b.tsv")), tmp_path)
    assert error.message == "2 files cannot be used"
    assert any("a.tsv" in problem for problem in error.problems)
    assert any("no column 'text'" in problem for problem in error.problems)


def test_ten_problems_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("label\ttext\n" + "a\t\n" * 25)
    error = refusal(data(), tmp_path)
    assert error.message == "25 values cannot be used"
    assert len(error.problems) == 11
    assert error.problems[-1] == "and 15 more"


def test_rows_out_of_use_may_be_incomplete(folder: Path) -> None:
    rows = [{**row, "long": ""} if i % 2 else row for i, row in enumerate(ROWS)]
    (folder / "a.tsv").write_text(tsv(rows))
    load_splits(drawn(), folder=folder)
    shifts = {"long": ShiftConfig(of="test", text="long")}
    assert "column 'long' is empty" in str(refusal(drawn(shifts=shifts), folder))


# -- drawing


def test_drawn_splits_are_disjoint_and_have_their_sizes(folder: Path) -> None:
    splits = load_splits(drawn(), folder=folder)
    assert {name: len(split) for name, split in splits.items()} == {"train": 8, "held_out": 10, "test": 12}
    assert len({item for split in splits.values() for item in split.item_ids}) == 30


def test_rows_keep_text_label_and_line_together(folder: Path) -> None:
    for split in load_splits(drawn(), folder=folder).values():
        for (text,), label, item in zip(split.texts, split.labels, split.item_ids, strict=True):
            i = int(text.removeprefix("text "))
            assert (label, item) == ("abcd"[i % 4], f"a.tsv:{i + 2}")


def test_the_seed_decides(folder: Path) -> None:
    assert load_splits(drawn(), folder=folder) == load_splits(drawn(), folder=folder)
    assert load_splits(drawn(), folder=folder) != load_splits(drawn(seed=1), folder=folder)


def test_splits_before_a_resized_one_stay(folder: Path) -> None:
    one, two = (load_splits(drawn(test=SplitConfig(rows=n)), folder=folder) for n in (5, 20))
    assert (one["train"], one["held_out"]) == (two["train"], two["held_out"])
    assert one["test"].texts == two["test"].texts[:5]


def test_whole_files_keep_their_order(folder: Path) -> None:
    split = load_splits(data(), folder=folder)["held_out"]
    assert [text for (text,) in split.texts] == [row["text"] for row in ROWS]


def test_splits_from_several_files_with_columns_of_their_own(folder: Path) -> None:
    (folder / "other.csv").write_text("kind,left,right\nb,l,r\n")
    other = SplitConfig(file="other.csv", text=("left", "right"), label="kind")
    splits = load_splits(data(train=SplitConfig(rows=3), held_out=SplitConfig(fraction=0.5), test=other), folder=folder)
    assert splits["test"].texts == (("l", "r"),)
    assert splits["test"].labels == ("b",)
    assert [len(split) for split in splits.values()] == [3, 20, 1]


def test_two_spellings_of_a_file_are_one_file(folder: Path) -> None:
    splits = load_splits(drawn(test=SplitConfig(file="./a.tsv", rows=22)), folder=folder)
    assert len({text for split in splits.values() for text in split.texts}) == N


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 99))
def test_fractions_are_cut_as_written(tmp_path_factory: pytest.TempPathFactory, n: int, percent: int) -> None:
    folder = tmp_path_factory.mktemp("fractions")
    (folder / "a.tsv").write_text(tsv((ROWS * 2)[:n]))
    first, second = SplitConfig(fraction=percent / 100), SplitConfig(fraction=(100 - percent) / 100)
    sizes = [n * percent // 100, n * (100 - percent) // 100]
    if min(sizes) == 0:
        assert "is none" in str(refusal(data(train=first, held_out=second), folder))
    else:
        splits = load_splits(data(train=first, held_out=second), folder=folder)
        assert [len(split) for split in splits.values()] == sizes


def test_asking_for_too_much_names_both_numbers(folder: Path) -> None:
    error = refusal(drawn(test=SplitConfig(rows=30)), folder)
    assert "a.tsv has 40 rows, but 48 are asked for (train 8, held_out 10, test 30)" in error.message


def test_a_whole_file_cannot_be_shared(folder: Path) -> None:
    error = refusal(drawn(train=SplitConfig()), folder)
    assert "train would take the whole file that train and held_out and test share" in error.message


# -- shifts


def test_shifts_of_test_share_its_items_and_labels(folder: Path) -> None:
    shifts = {
        "long": ShiftConfig(of="test", first=5, text="long"),
        "typos": ShiftConfig(of="test", corrupt="typos", rate=0.5),
        "both": ShiftConfig(of="test", first=3, text="long", corrupt="word_drop", rate=0.5),
    }
    splits = load_splits(drawn(shifts=shifts), folder=folder)
    test = splits["test"]
    assert list(splits) == ["train", "held_out", "test", "shift:long", "shift:typos", "shift:both"]
    for name, n in [("long", 5), ("typos", 12), ("both", 3)]:
        shift = splits[f"shift:{name}"]
        assert (shift.item_ids, shift.labels, shift.of) == (test.item_ids[:n], test.labels[:n], "test")
    assert splits["shift:long"].texts == tuple((f"longer {text}",) for (text,) in test.texts[:5])
    assert splits["shift:typos"].texts != test.texts
    assert all(len(text.split()) <= 3 for (text,) in splits["shift:both"].texts)


def test_a_shift_may_have_a_file_of_its_own(folder: Path) -> None:
    (folder / "other.csv").write_text("kind,words\na,one\nb,two\nc,three\n")
    shift = ShiftConfig(file="other.csv", text="words", label="kind", first=2)
    split = load_splits(drawn(shifts={"other": shift}), folder=folder)["shift:other"]
    assert (split.texts, split.labels, split.of) == ((("one",), ("two",)), ("a", "b"), None)


def test_a_shift_cannot_be_longer_than_its_split(folder: Path) -> None:
    shift = ShiftConfig(of="test", first=13, text="long")
    assert "shift:long: first 13 of the 12 rows of test" in str(refusal(drawn(shifts={"long": shift}), folder))


# -- overlap


def test_shared_rows_are_counted_and_shown() -> None:
    train = labelled("train", ["a"] * 3, texts=["one", "two", "three"])
    held_out = labelled("held_out", ["a"] * 2, texts=["two ", "five"])
    test = labelled("test", ["a"] * 3, texts=["five", "three", "three"])
    with pytest.raises(DataError) as caught:
        check_overlap({"train": train, "held_out": held_out, "test": test})
    assert caught.value.problems == (
        "1 of 2 rows of held_out are in train: 'two ' (held_out.tsv:2 and train.tsv:3)",
        "2 of 3 rows of test are in train: 'three' (test.tsv:3 and train.tsv:4)",
        "1 of 3 rows of test are in held_out: 'five' (test.tsv:2 and held_out.tsv:3)",
    )
    assert "allow_overlap: true" in (caught.value.fix or "")
    check_overlap({"train": train, "held_out": held_out, "test": test}, allow_overlap=True)


def test_derived_shifts_and_repetitions_inside_a_split_are_fine() -> None:
    held_out = labelled("held_out", ["a", "a"], texts=["one", "one"])
    test = labelled("test", ["a", "a"], texts=["two", "two"])
    shift = labelled("shift:name", ["a"], texts=["one"], of="test")
    check_overlap({"held_out": held_out, "test": test, "shift:name": shift})
    with pytest.raises(DataError, match="1 of 1 rows of shift:name are in held_out"):
        check_overlap({"held_out": held_out, "shift:name": replace(shift, of=None)})


def test_all_columns_must_be_equal() -> None:
    train = Split("train", (("a", "b"),), ("x",), ("t:2",))
    test = Split("test", (("a", "c"),), ("x",), ("u:2",))
    check_overlap({"train": train, "test": test})


def test_another_column_of_a_training_row_is_an_overlap(folder: Path) -> None:
    """A shift that reads the whole file again would be tested on training rows, under another text."""
    splits = load_splits(drawn(shifts={"long": ShiftConfig(file="a.tsv", text="long")}), folder=folder)
    with pytest.raises(DataError, match="8 of 40 rows of shift:long are in train"):
        check_overlap(splits)


# -- labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["0", "12", "-1"], (0, 12, -1)), (["0", "x"], ("0", "x")), (["007", "1"], ("007", "1")), ([1, "x"], ("1", "x"))],
)
def test_a_column_of_whole_numbers_is_integers(tmp_path: Path, labels: list[Any], expected: tuple[Any, ...]) -> None:
    (tmp_path / "a.jsonl").write_text(json_lines([{"label": label, "text": "t"} for label in labels]))
    assert load_splits(data(file="a.jsonl"), folder=tmp_path)["held_out"].labels == expected


# -- digest


@pytest.mark.parametrize(
    "change",
    [
        lambda split: replace(split, labels=("b", "a")),
        lambda split: replace(split, labels=(0, 1)),
        lambda split: replace(split, texts=(("x",), ("z",))),
        lambda split: replace(split, texts=(("x", "y"), ("y", "x"))),
        lambda split: replace(split, texts=split.texts[::-1], labels=split.labels[::-1]),
    ],
)
def test_the_digest_is_that_of_texts_and_labels(change: Callable[[Split], Split]) -> None:
    split = Split("test", (("x",), ("y",)), ("a", "b"), ("f:2", "f:3"))
    assert digest(replace(split, name="held_out", item_ids=("g:1", "g:2"))) == digest(split)
    assert digest(change(split)) != digest(split)


# -- the shipped data


def test_the_quickstarts_data_is_what_its_readme_says() -> None:
    folder = Path(__file__).parents[2] / "experiments" / "debian-sections"
    config = load_task_config(folder / "task.yaml").data
    splits = load_splits(config, folder=folder)
    check_overlap(splits, config.allow_overlap)
    sizes = {"train": 1000, "held_out": 1000, "test": 2000}
    sizes |= {f"shift:{name}": 500 for name in ("long", "name", "typos", "worddrop")}
    assert {name: len(split) for name, split in splits.items()} == sizes
    assert len(encode_labels(splits).names) == 12


def test_files_without_a_header_are_read_by_the_names_given(tmp_path: Path) -> None:
    (tmp_path / "cola.tsv").write_text("gj04\t1\t\tOur friends won't buy \"this.\ngj05\t0\t*\tThey drank pub.\n")
    config = DataConfig(
        file="cola.tsv", columns=("source", "label", "mark", "sentence"), text=("sentence",), label="label",
        held_out=SplitConfig(),
    )  # fmt: skip
    split = load_splits(config, folder=tmp_path)["held_out"]
    assert split.texts == (("Our friends won't buy \"this.",), ("They drank pub.",))
    assert split.labels == (1, 0)
    (tmp_path / "cola.tsv").write_text("gj04\t1\tA sentence.\n")
    with pytest.raises(DataError, match="line 1: 3 fields where the header has 4"):
        load_splits(config, folder=tmp_path)
