"""results.json: what is written reads back equal, equal values give equal bytes, damage is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given

from record_values import fast, results
from stockpot.errors import RecordError
from stockpot.records import Cell, Results, Row, read_results, write_results

V1 = Path(__file__).parent / "v1"


def reversed_mappings(value: object) -> object:
    if isinstance(value, dict):
        return {key: reversed_mappings(value[key]) for key in reversed(value)}
    return [reversed_mappings(item) for item in value] if isinstance(value, list) else value


class TestRoundTrip:
    @fast
    @given(recorded=results)
    def test_results_read_back_equal(self, recorded: Results, tmp_path_factory) -> None:
        folder = tmp_path_factory.getbasetemp() / "results"
        write_results(recorded, folder)
        found = read_results(folder)
        assert found == recorded
        assert [list(row.scores) for row in found.rows] == [list(row.scores) for row in recorded.rows]

    def test_a_file_written_before_soups_had_schema_2(self, tmp_path: Path) -> None:
        found = read_results(V1 / "results.json")
        assert (found.row("greedy_random").n_ingredients, found.comparisons[0].p) == (1.5, 0.6)
        write_results(found, tmp_path)
        assert (tmp_path / "results.json").read_bytes() == (V1 / "results.json").read_bytes()


class TestBytes:
    @fast
    @given(recorded=results)
    def test_the_order_of_free_mappings_does_not_show(self, recorded: Results, tmp_path_factory) -> None:
        folder = tmp_path_factory.getbasetemp()
        turned = Results(
            recorded.metric, recorded.higher_is_better, recorded.rows, recorded.comparisons, recorded.sentence,
            reversed_mappings(recorded.experiment), recorded.notes,
        )  # fmt: skip
        write_results(recorded, folder / "one.json")
        write_results(turned, folder / "two.json")
        assert (folder / "one.json").read_bytes() == (folder / "two.json").read_bytes()

    def test_the_schema_of_the_table(self, tmp_path: Path) -> None:
        row = Row("greedy", 4.0, 1, {"held_out": Cell(0.75, 0.01, 1000)}, ("a",))
        write_results(Results("accuracy", True, (row,)), tmp_path)
        content = json.loads((tmp_path / "results.json").read_text())
        assert content["schema"] == 1
        assert content["rows"] == [
            {
                "method": "greedy",
                "n_ingredients": 4,
                "inference_cost": 1,
                "scores": {"held_out": {"value": 0.75, "stderr": 0.01, "n": 1000}},
                "ingredients": ["a"],
            }
        ]
        assert isinstance(content["rows"][0]["n_ingredients"], int)


GOOD_RESULTS = {"schema": 1, "metric": "accuracy", "higher_is_better": True, "rows": []}


class TestDamage:
    def refused(self, tmp_path: Path, content: object) -> RecordError:
        file = tmp_path / "results.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(RecordError) as caught:
            read_results(file)
        assert str(file) in str(caught.value)
        return caught.value

    def test_not_json_names_the_line(self, tmp_path: Path) -> None:
        assert "line 2, column" in self.refused(tmp_path, '{"schema": 1,\n"metric" "accuracy"}').message

    @pytest.mark.parametrize(
        "text", ["", "\ufeff{}", "[" * 100_000, '{"schema": 1, "metric": 1e999}', '{"schema": NaN}']
    )
    def test_what_json_does_not_allow(self, tmp_path: Path, text: str) -> None:
        assert self.refused(tmp_path, text).fix

    @pytest.mark.parametrize("schema", [2, 0, "1", True, None])
    def test_another_schema_names_both(self, tmp_path: Path, schema: object) -> None:
        error = self.refused(tmp_path, {**GOOD_RESULTS, "schema": schema})
        assert f"schema {schema!r}" in error.message
        assert "reads schema 1" in error.message

    @pytest.mark.parametrize("content", [[], 1, "text", {}, {"rows": []}])
    def test_no_record_at_all(self, tmp_path: Path, content: object) -> None:
        assert "no 'schema'" in self.refused(tmp_path, json.dumps(content)).message

    def test_every_missing_key_is_named_at_once(self, tmp_path: Path) -> None:
        row = {"method": "best", "scores": {"test": {"value": 0.5}}}
        error = self.refused(tmp_path, {"schema": 1, "rows": [row]})
        assert set(error.problems) == {
            "metric: missing",
            "higher_is_better: missing",
            "rows[0].n_ingredients: missing",
            "rows[0].inference_cost: missing",
            "rows[0].scores.test.stderr: missing",
            "rows[0].scores.test.n: missing",
        }

    @pytest.mark.parametrize("value", ["0.5", True, None, []])
    def test_numbers_must_be_numbers(self, tmp_path: Path, value: object) -> None:
        cell = {"value": value, "stderr": None, "n": None}
        row = {"method": "best", "n_ingredients": 1, "inference_cost": 1, "scores": {"test": cell}}
        (problem,) = self.refused(tmp_path, {**GOOD_RESULTS, "rows": [row]}).problems
        assert problem.startswith("rows[0].scores.test.value: should be a valid number")

    def test_unknown_keys_are_ignored(self, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text(json.dumps({**GOOD_RESULTS, "later": 1}))
        assert read_results(tmp_path).metric == "accuracy"


class TestRefusedValues:
    def test_a_cell_that_is_not_finite(self, tmp_path: Path) -> None:
        bad = Results("accuracy", True, (Row("best", 1, 1, {"test": Cell(math.nan, None, None)}),))
        with pytest.raises(RecordError, match="scores: test: value is nan"):
            write_results(bad, tmp_path)
