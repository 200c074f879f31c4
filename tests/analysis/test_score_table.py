"""The table's numbers against the plainest ways to compute them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.analysis.ranks import spearman
from stockpot.analysis.score_table import score_table
from stockpot.errors import DataError

SCORES = st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, 0.7])] * 4), min_size=1, max_size=12)


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def models(values: list[tuple[float, ...]]) -> list[dict[str, object]]:
    return [{"model_name": f"m{i}", "lr": "x", **dict(zip("vtab", v, strict=True))} for i, v in enumerate(values)]


@settings(deadline=None, derandomize=True, max_examples=30)
@given(SCORES, st.booleans())
def test_against_the_definitions(tmp_path_factory, values, higher) -> None:
    file = lines(tmp_path_factory.mktemp("scores") / "s.jsonl", models(values))
    table = score_table([file], held_out="v", test="t", shifts=["a", "b"], higher_is_better=higher)
    sign = -1 if higher else 1
    order = sorted(range(len(values)), key=lambda i: (sign * values[i][0], i))
    assert [row.model_name for row in table.rows] == [f"m{i}" for i in order]
    assert [row.rank for row in table.rows] == list(range(1, len(values) + 1))
    assert (table.best, table.second_best) == (f"m{order[0]}", f"m{order[1]}" if len(order) > 1 else None)
    for row, index in zip(table.rows, order, strict=True):
        held_out, test, a, b = values[index]
        assert (row.held_out, row.test, dict(row.shifts)) == (held_out, test, {"a": a, "b": b})
        assert row.shift_mean == pytest.approx(statistics.mean([a, b]), abs=1e-15)
    ranked = [values[i] for i in order]
    assert table.spearman["held_out~test"] == spearman([v[0] for v in ranked], [v[1] for v in ranked])
    assert table.spearman["test~shift:b"] == spearman([v[1] for v in ranked], [v[3] for v in ranked])
    means = [row.shift_mean for row in table.rows]
    assert table.spearman["held_out~shift_mean"] == spearman([v[0] for v in ranked], means)
    assert len(table.spearman) == 10
    equal = {v: [f"m{i}" for i, w in enumerate(values) if w == v] for v in values}
    assert sorted(table.duplicates) == sorted(tuple(names) for names in equal.values() if len(names) > 1)


def test_other_files_are_shown_but_do_not_compete(tmp_path) -> None:
    first = lines(tmp_path / "s.jsonl", models([(0.5, 0.5, 0.1, 0.2), (0.6, 0.4, 0.2, 0.1), (0.4, 0.6, 0.3, 0.3)]))
    soups = [{"model_name": "uniform", "t": 0.9, "a": 0.9, "b": 0.8}]
    soups += [{"model_name": "m0", "v": 0.5, "t": 0.5, "a": 0.1, "b": 0.2}]
    second = lines(tmp_path / "soups.jsonl", soups)
    columns = {"held_out": "v", "test": "t", "shifts": ["a", "b"]}
    alone, both = score_table([first], **columns), score_table([first, second], **columns)
    assert both.individuals == alone.rows
    assert (both.best, both.spearman, both.duplicates) == (alone.best, alone.spearman, ())
    uniform, again = both.others
    assert (uniform.model_name, uniform.held_out, uniform.rank, uniform.source) == (
        "uniform",
        None,
        None,
        "soups.jsonl",
    )
    assert uniform.shift_mean == pytest.approx(0.85)
    assert again.kind == "other"


def test_other_files_need_test_and_every_shift(tmp_path) -> None:
    first = lines(tmp_path / "s.jsonl", models([(0.5, 0.5, 0.1, 0.2)]))
    second = lines(tmp_path / "soups.jsonl", [{"model_name": "uniform", "t": 0.9, "a": 0.9}])
    with pytest.raises(DataError, match=r"soups.jsonl: no column 'b'"):
        score_table([first, second], held_out="v", test="t", shifts=["a", "b"])


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, "m1 m0 m2"), ("v", "m1 m0 m2"), ("t", "m2 m0 m1"), ("test", "m2 m0 m1"), ("b", "m0 m2 m1"),
        ("shift_mean", "m2 m0 m1"), ("model_name", "m0 m1 m2"),
    ],
)  # fmt: skip
def test_the_order_of_the_rows_leaves_the_ranks(tmp_path, sort, expected) -> None:
    values = [(0.5, 0.5, 0.1, 0.3), (0.6, 0.4, 0.2, 0.1), (0.4, 0.6, 0.3, 0.2)]
    table = score_table(
        [lines(tmp_path / "s.jsonl", models(values))], held_out="v", test="t", shifts=["a", "b"], sort=sort
    )
    assert [row.model_name for row in table.rows] == expected.split()
    assert {row.model_name: row.rank for row in table.rows} == {"m1": 1, "m0": 2, "m2": 3}


def test_all_problems_are_told_at_once_and_each_fix_once(tmp_path) -> None:
    good = lines(tmp_path / "s.jsonl", models([(0.5, 0.5, 0.1, 0.2)]))
    files = [good, good, tmp_path / "nope.csv", tmp_path / "x.json"]
    with pytest.raises(DataError) as caught:
        score_table(files, held_out="w", test="w", shifts=["a", "a"], sort="c")
    text = str(caught.value)
    for said in ("given twice", "both held-out and test", "named 2 times", "no column 'w'", "no such file", "suffix"):
        assert said in text
    assert "cannot sort by 'c'" in text
    assert f"{len(caught.value.problems)} problems" in text
    fixes = (caught.value.fix or "").split("; ")
    assert len(fixes) == len(set(fixes))


def test_held_out_is_required(tmp_path) -> None:
    good = lines(tmp_path / "s.jsonl", models([(0.5, 0.5, 0.1, 0.2)]))
    with pytest.raises(DataError, match="no held-out column") as caught:
        score_table([good], held_out=None, test="t")
    assert "v, t, a, b" in (caught.value.fix or "")
    with pytest.raises(DataError, match="no files"):
        score_table([], held_out="v")


def test_the_same_numbers_as_csv_give_the_same_table(tmp_path) -> None:
    rows = models([(0.1 + 0.2, 1 / 3, 0.1, 0.2), (0.6, 0.4, 0.2, 0.1)])
    first = lines(tmp_path / "s.jsonl", rows)
    text = "".join(",".join(str(row[key]) for key in ("model_name", *"vtab")) + "\n" for row in rows)
    (tmp_path / "s.csv").write_text("model_name,v,t,a,b\n" + text)
    columns = {"held_out": "v", "test": "t", "shifts": ["a", "b"]}
    one, two = score_table([first], **columns), score_table([tmp_path / "s.csv"], **columns)
    assert [(r.model_name, r.held_out, r.test, r.shifts) for r in one.rows] == [
        (r.model_name, r.held_out, r.test, r.shifts) for r in two.rows
    ]
