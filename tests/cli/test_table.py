"""`stockpot table`: from files to table, and every mistake of a user."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
from pathlib import Path

import pytest

ROWS = [
    {"model_name": "a", "val": 0.80, "test": 0.70, "typos": 0.50, "slang": 0.40, "lr": 1e-5, "aug": {"mixup": [0, 1]}},
    {"model_name": "b", "val": 0.82, "test": 0.71, "typos": 0.45, "slang": 0.35, "lr": "low", "aug": None},
    {"model_name": "c", "val": 0.81, "test": 0.73, "typos": 0.40, "slang": 0.30, "lr": 1e-4, "aug": "none"},
]
ALL = ("--held-out", "val", "--test", "test", "--shift", "typos,slang")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write("scores.jsonl", ROWS)
    write("soups.jsonl", [{"model_name": "uniform", "test": 0.75, "typos": 0.55, "slang": 0.5}])
    return tmp_path


def write(name: str, rows: list[dict[str, object]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_terminal(stockpot) -> None:
    done = stockpot("table", "scores.jsonl", "soups.jsonl", *ALL)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    names = [line.split()[1] for line in lines[3:6]]
    assert names == ["b", "c", "a"]
    assert "Best individual by held-out: b (held-out 0.8200, test 0.7100, mean of shifts 0.4000)." in " ".join(
        done.out.split()
    )
    assert max(map(len, lines)) <= 80


def test_json_is_the_record_and_the_same_every_time(stockpot) -> None:
    command = ("table", "scores.jsonl", "soups.jsonl", *ALL, "--json", "out/t.json")
    assert stockpot(*command).code == 0
    first = Path("out/t.json").read_bytes()
    table = json.loads(first)
    assert (table["best"], table["second_best"], table["duplicates"]) == ("b", "c", [])
    assert [(row["model_name"], row["rank"], row["kind"]) for row in table["rows"]] == [
        ("b", 1, "individual"), ("c", 2, "individual"), ("a", 3, "individual"), ("uniform", None, "other"),
    ]  # fmt: skip
    assert [row["source"] for row in table["rows"]] == ["scores.jsonl"] * 3 + ["soups.jsonl"]
    assert table["rows"][3]["shift_mean"] == pytest.approx(0.525)
    assert table["spearman"]["held_out~test"] == 0.5
    assert table["spearman"]["held_out~shift_mean"] == -0.5
    assert "--force" in stockpot(*command).err
    assert stockpot(*command, "--force").code == 0
    assert Path("out/t.json").read_bytes() == first


def test_less_is_better(stockpot) -> None:
    assert stockpot("table", "scores.jsonl", *ALL, "--lower-is-better", "--json", "t.json").code == 0
    table = json.loads(Path("t.json").read_text())
    assert (table["best"], table["second_best"], table["columns"]["higher_is_better"]) == ("a", "c", False)


def test_files_formats_and_options_agree(stockpot) -> None:
    columns = ["model_name", "val", "test", "typos", "slang"]
    text = "".join("\t".join(str(row[key]) for key in columns) + "\n" for row in ROWS)
    Path("scores.tsv.gz").write_bytes(gzip.compress(("\t".join(columns) + "\n" + text).encode()))
    expected = stockpot("table", "scores.jsonl", *ALL, "--format", "csv").out
    options = ("--held-out", "val", "--test", "test", "--shift", "typos", "--shift", " slang", "--format", "csv")
    found = stockpot("table", "scores.tsv.gz", *options).out
    assert found == expected.replace("scores.jsonl", "scores.tsv.gz")
    lines = list(csv.DictReader(io.StringIO(found)))
    assert [float(line["test"]) for line in lines] == [0.71, 0.73, 0.70]


@pytest.mark.parametrize(("kind", "starts"), [("markdown", "| model "), ("latex", "% needs \\usepackage{booktabs}")])
def test_other_formats(stockpot, kind, starts) -> None:
    done = stockpot("table", "scores.jsonl", "soups.jsonl", *ALL, "--format", kind)
    assert done.code == 0
    assert done.out.startswith(starts)
    assert done.out.count("uniform") == 1


def test_a_column_with_a_comma_in_its_name(stockpot) -> None:
    write("odd.jsonl", [{"model_name": "a", "val": 1, "typos, rare": 0.25, "x": 0.75}])
    options = ("--held-out", "val", "--shift", '"typos, rare",x', "--json", "t.json")
    assert stockpot("table", "odd.jsonl", *options).code == 0
    (row,) = json.loads(Path("t.json").read_text())["rows"]
    assert row["shifts"] == {"typos, rare": 0.25, "x": 0.75}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("scores.jsonl",), ["no held-out column", "looks better than it is", "val, test, typos, slang"]),
        (("scores.jsonl", "--held-out", "test", "--test", "test"), ["both held-out and test"]),
        (("scores.jsonl", "--held-out", "vla"), ["no column 'vla' (did you mean 'val'?)"]),
        (("scores.jsonl", "--held-out", "lr"), ["line 2, lr: 'low' is text, not a number"]),
        (("scores.jsonl", "--held-out", "aug"), ["line 1, aug: an object", "line 2, aug: null", "line 3, aug: 'none'"]),
        (
            ("scores.jsonl", "--held-out", "val", "--sort", "tset", "--test", "test"),
            ["cannot sort by 'tset'", "'test'"],
        ),
        (("nope.jsonl", "scores.txt", "--held-out", "val"), ["nope.jsonl: no such file", "unknown suffix '.txt'"]),
        (("scores.jsonl", "--held-out", "val", "--json", "scores.jsonl", "--force"), ["being read"]),
        (("scores.jsonl", "--held-out", "val", "--format", "html"), ["html"]),
        (("scores.jsonl", "--held-out", "val", "--shift", ","), ["without a readable name"]),
        (("scores.jsonl", "--held-out", "val", "--shift", ""), ["without a readable name"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_mistakes(refused, arguments, says) -> None:
    message = refused("table", *arguments)
    assert all(text in message for text in says), message


def test_every_mistake_of_a_file_at_once(refused) -> None:
    Path("bad.jsonl").write_text(
        '{"model_name": "a", "val": NaN}\n{"model_name": "a", "val": "0.5"}\n{"val": true}\n{\n'
    )
    message = refused("table", "bad.jsonl", "--held-out", "val")
    for said in ("line 4: not JSON", "lines 1, 2: 'a'", "line 1, val: nan", "line 2, val: '0.5'", "line 3, val: true"):
        assert said in message
    assert "line 3: no 'model_name'" in message
    assert "fix:" in message


def test_ten_thousand_models_are_quick_and_equal_ones_are_found(stockpot) -> None:
    names = [f"c{i}" for i in range(6)]
    rows = [
        {"model_name": f"m{i}", **{n: (i // 2 * 31 + k) % 9973 for k, n in enumerate(names)}} for i in range(10_000)
    ]
    write("big.jsonl", rows)
    begin = time.process_time()
    options = ("--held-out", "c0", "--test", "c1", "--shift", ",".join(names[2:]), "--json", "t.json")
    assert stockpot("table", "big.jsonl", *options).code == 0
    assert time.process_time() - begin < 6  # below 1 s on a free machine; quadratic takes minutes
    assert json.loads(Path("t.json").read_text())["duplicates"][0] == ["m0", "m1"]


def test_help(stockpot) -> None:
    assert "Example: stockpot table" in stockpot("table", "--help").out
