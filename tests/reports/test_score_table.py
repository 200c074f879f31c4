"""The table of a user's own scores in files: every row whole, the right numbers marked."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.reports.score_table import csv_text, findings, latex, legend, looks_of, markdown
from stockpot.score_record import ScoreColumns, ScoreRow, ScoreTable

fast = settings(deadline=None, derandomize=True, max_examples=40)


def row(name: str, held_out: float | None, test: float, typos: float, rank: int | None) -> ScoreRow:
    kind = "other" if rank is None else "individual"
    return ScoreRow(name, held_out, test, {"typos": typos}, typos, rank, kind, "s.jsonl")


def made(**changes: object) -> ScoreTable:
    rows = (row("a", 0.8123, 0.7, 0.5, 1), row("b", 0.8, 0.71, 0.5, 2), row("soup", None, 0.9, 0.9, None))
    spearman = {
        "held_out~test": -1.0, "held_out~shift:typos": None, "held_out~shift_mean": None, "test~shift:typos": 0.183,
        "test~shift_mean": -0.0001, "shift:typos~shift_mean": 1.0,
    }  # fmt: skip
    table = ScoreTable(ScoreColumns("val", "tst", ("typos",)), rows, "a", "b", spearman)
    return replace(table, **changes)  # type: ignore[arg-type]


def table_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


class TestMarkdown:
    def test_every_line_of_a_table_has_the_same_cells(self, n_cells) -> None:
        lines = table_of(markdown(made()))
        assert [n_cells(line) for line in lines] == [6] * 5 + [5] * 4
        assert "val (held-out)" in lines[0]
        assert "tst (test)" in lines[0]

    def test_the_best_individuals_are_bold_and_soups_are_not(self) -> None:
        first, second, soup = table_of(markdown(made()))[2:5]
        assert re.findall(r"\*\*(.*?)\*\*", first) == ["0.8123", "0.5000", "0.5000"]
        assert re.findall(r"\*\*(.*?)\*\*", second) == ["0.7100", "0.5000", "0.5000"]
        assert "**" not in soup
        assert soup.split("|")[3].strip() == "-"

    def test_less_can_be_better(self) -> None:
        table = made(columns=ScoreColumns("val", "tst", ("typos",), higher_is_better=False))
        assert re.findall(r"\*\*(.*?)\*\*", table_of(markdown(table))[2]) == ["0.7000", "0.5000", "0.5000"]
        assert "less is better" in markdown(table)

    def test_correlations(self) -> None:
        held_out, test = table_of(markdown(made()))[-2:]
        assert [cell.strip() for cell in held_out.split("|")[1:-1]] == ["held-out", "", "-1.000", "-", "-"]
        assert [cell.strip() for cell in test.split("|")[1:-1]] == ["test", "-1.000", "", "0.183", "0.000"]

    def test_held_out_alone_has_no_correlations(self) -> None:
        rows = (ScoreRow("a", 0.5, None, {}, None, 1, "individual", "s"),)
        text = markdown(ScoreTable(ScoreColumns("val"), rows, "a", None, {}))
        assert len(table_of(text)) == 3
        assert "orrelation" not in text
        assert "Second best" not in text

    @fast
    @given(st.text(max_size=8), st.text(max_size=8), st.floats(-1e6, 1e6))
    def test_hostile_names_keep_its_shape(self, n_cells, name: str, column: str, value: float) -> None:
        table = ScoreTable(ScoreColumns(column), (row(name, value, 0, 0, 1),), name, None, {})
        text = markdown(table)
        assert {n_cells(line) for line in table_of(text)} == {3}
        assert "<" not in text


class TestCsv:
    def test_reads_back_to_the_bit(self) -> None:
        table = made(rows=(row('a "x", y', 0.1 + 0.2, 1 / 3, 1e-7, 1), row("é", None, 0.5, 2.0, None)))
        lines = list(csv.DictReader(io.StringIO(csv_text(table))))
        assert [line["model_name"] for line in lines] == ['a "x", y', "é"]
        assert [float(lines[0][key]) for key in ("val", "tst", "typos")] == [0.1 + 0.2, 1 / 3, 1e-7]
        assert (lines[1]["val"], lines[1]["rank"], lines[1]["kind"]) == ("", "", "other")


class TestLatex:
    def test_every_line_has_as_many_cells_as_columns(self) -> None:
        text = latex(made(columns=ScoreColumns("val_a & b", "tst", ("typos",))))
        assert text.isascii()
        assert "{lrrrrr}" in text
        body = [line for line in text.splitlines() if line.endswith("\\\\")]
        assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [5] * 7
        assert "val\\_a \\& b" in body[0]
        assert "\\textbf{0.8123}" in body[2]
        assert "\\textbf" not in body[4]
        assert text.count("\\midrule") == 3

    def test_nothing_but_comments_stands_before_the_table(self) -> None:
        before = latex(made(best="a", duplicates=(("a", "b"),))).partition("\\begin{tabular}")[0]
        assert all(line.startswith("% ") for line in before.splitlines())
        assert "booktabs" in before
        assert "the same run?" in before


class TestWords:
    def test_best_and_second_best_with_their_scores(self) -> None:
        first, second = findings(made(), looks_of(made()))
        assert first == "Best individual by held-out: a (held-out 0.8123, test 0.7000, mean of shifts 0.5000)."
        assert second.startswith("Second best by held-out: b (")

    def test_ties_for_the_first_place_are_said(self) -> None:
        table = made(rows=(row("a", 0.8, 0.7, 0.5, 1), row("b", 0.8, 0.71, 0.5, 2)))
        assert any("2 models share the best held-out score" in line for line in findings(table, looks_of(table)))

    def test_duplicates(self) -> None:
        table = made(duplicates=(("a", "b"), *((f"m{i}", f"n{i}") for i in range(9))))
        lines = findings(table, looks_of(table))
        assert "a and b are equal on all 3 score columns: the same run?" in lines
        assert "5 more groups of models are equal on all 3 score columns." in lines
        table = made(columns=ScoreColumns("val"), duplicates=(tuple("abcdefgh"),))
        assert findings(table, looks_of(table))[-1].startswith(
            "a, b, c, d and 4 more are equal on the one score column"
        )

    def test_soups_are_explained_where_there_are_some(self) -> None:
        assert any("without a rank" in line for line in legend(made(), mark="*"))
        assert not any("without a rank" in line for line in legend(made(rows=made().individuals), mark="*"))


class TestDecimals:
    def test_one_number_of_decimals_for_one_magnitude(self) -> None:
        looks = looks_of(made())
        assert {looks.scales[split].decimals for split in made().columns.splits} == {4}
        assert {scale.factor for scale in looks.scales.values()} == {1.0}

    def test_percent_stays_percent(self) -> None:
        table = made(rows=(row("a", 81.234, 70.0, 45.5, 1), row("b", 80.0, 71.0, 40.0, 2)))
        assert looks_of(table).number(table.rows[0], "held_out") == "81.23"

    def test_a_much_smaller_column_has_its_own(self) -> None:
        table = made(rows=(row("a", 81.234, 0.01234, 45.5, 1),))
        looks = looks_of(table)
        assert (looks.number(table.rows[0], "test"), looks.number(table.rows[0], "held_out")) == ("0.01234", "81.23")

    def test_nothing_but_zeros(self) -> None:
        table = made(rows=(row("a", 0.0, 0.0, 0.0, 1), row("b", 0.0, 0.0, 0.0, 2)))
        assert looks_of(table).is_best(table.rows[1], "test")


def test_a_small_score_never_reads_zero() -> None:
    rows = (row("a", 0.5, 123456.7, 0.5, 1), row("b", 1e-5, 2.0, 0.5, 2))
    assert table_of(markdown(made(rows=rows)))[3].split("|")[3].strip() == "1.0e-05"


def test_one_individual_ranks_nothing() -> None:
    text = markdown(made(rows=(row("a", 0.8, 0.7, 0.5, 1),), second_best=None))
    assert "One individual: nothing to rank." in text
    assert "rank correlation with" not in text


def test_shares_and_percent_in_one_column_are_asked_about() -> None:
    text = markdown(made(rows=(row("a", 0.8, 71.0, 0.5, 1), row("b", 0.7, 0.7, 0.5, 2))))
    assert "tst holds 0.7 and 71: shares and percent in one column?" in text
    assert "shares and percent" not in markdown(made())
