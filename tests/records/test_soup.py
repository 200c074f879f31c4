"""Records: what is written reads back equal, equal values give equal bytes, damage is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot._version import __version__
from stockpot.errors import RecordError
from stockpot.records import (
    METHODS,
    Cell,
    Comparison,
    Fingerprint,
    Results,
    Row,
    read_results,
    read_soup,
    read_soup_record,
    write_results,
    write_soup,
)
from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

fast = settings(deadline=None, derandomize=True, max_examples=60)

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | numbers | words, st.lists, max_leaves=4
)
mappings = st.dictionaries(words, json_values, max_size=3)
counts = st.none() | st.integers(0, 10**9)
# Names of the hub's form, which no file in the working directory answers to.
sources = st.integers(0, 99).map(lambda number: f"no-such-organisation/model-{number}")
ingredients = st.builds(Ingredient, words, sources, mappings, digest=st.none() | words, key=st.none() | words)
scores = st.builds(
    Score, numbers, stderr=st.none() | numbers, n_examples=counts, n_evaluated=counts, at_most=st.none() | numbers,
    metric=words, higher_is_better=st.booleans(),
)  # fmt: skip


@st.composite
def soups(draw: st.DrawFn) -> Soup:
    chosen = draw(st.lists(ingredients, min_size=1, max_size=4))
    row = st.tuples(*[numbers] * len(chosen))
    groups = draw(st.none() | st.lists(st.lists(words, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple))
    rows = tuple(draw(row) for _ in range(1 if groups is None else len(groups)))
    tried = st.sampled_from(chosen) | ingredients
    steps = draw(st.lists(st.builds(Step, tried, scores, st.booleans()), max_size=4))
    combine = draw(st.sampled_from(["weights", "logits"]))
    return Soup(tuple(chosen), Coefficients(rows, groups), draw(words), combine, draw(numbers), tuple(steps))


cells = st.builds(Cell, numbers, st.none() | numbers, counts, st.none() | numbers, counts)
rows = st.builds(
    Row, st.sampled_from(METHODS) | words, st.floats(0, 1e6), st.integers(1, 100),
    st.dictionaries(words, cells, max_size=4), st.lists(words, max_size=3).map(tuple),
)  # fmt: skip
comparisons = st.builds(Comparison, words, words, words, numbers, st.none() | numbers, counts, st.none() | numbers)
results = st.builds(
    Results, words, st.booleans(), st.lists(rows, max_size=4).map(tuple), st.lists(comparisons, max_size=3).map(tuple),
    words, words | mappings, st.lists(words, max_size=2).map(tuple),
)  # fmt: skip


def ingredient(name: str, source: str | None = None) -> Ingredient:
    return Ingredient(name, source or f"org/{name}")


def pair(left: str, right: str) -> Soup:
    chosen = (Ingredient("left", left), Ingredient("right", right))
    return Soup(chosen, Coefficients.equal(2), "uniform")


def reversed_mappings(value: object) -> object:
    if isinstance(value, dict):
        return {key: reversed_mappings(value[key]) for key in reversed(value)}
    return [reversed_mappings(item) for item in value] if isinstance(value, list) else value


class TestRoundTrip:
    @fast
    @given(soup=soups(), output=mappings)
    def test_a_soup_reads_back_equal(self, soup: Soup, output: dict[str, object], tmp_path_factory) -> None:
        folder = tmp_path_factory.getbasetemp() / "soup"
        write_soup(soup, folder, output=output)
        record = read_soup_record(folder)
        assert (record.soup, record.output) == (soup, output)
        assert record.stockpot == __version__

    @fast
    @given(recorded=results)
    def test_results_read_back_equal(self, recorded: Results, tmp_path_factory) -> None:
        folder = tmp_path_factory.getbasetemp() / "results"
        write_results(recorded, folder)
        found = read_results(folder)
        assert found == recorded
        assert [list(row.scores) for row in found.rows] == [list(row.scores) for row in recorded.rows]

    @fast
    @given(value=numbers)
    def test_floats_keep_every_bit(self, value: float, tmp_path_factory) -> None:
        file = tmp_path_factory.getbasetemp() / "bits.json"
        write_soup(Soup((ingredient("a"),), Coefficients.of([value]), "best"), file, output={})
        (found,) = read_soup(file).coefficients
        assert found.hex() == value.hex()

    def test_an_abandoned_score_is_null(self, tmp_path: Path) -> None:
        score = Score(math.nan, n_examples=100, n_evaluated=31, at_most=0.7)
        soup = Soup((ingredient("a"),), Coefficients.equal(1), "greedy", steps=(Step(ingredient("b"), score, False),))
        write_soup(soup, tmp_path, output={})
        assert json.loads((tmp_path / "soup.json").read_text())["steps"][0]["score"]["value"] is None
        (step,) = read_soup(tmp_path).steps
        assert step.score.is_abandoned
        assert (step.score.at_most, step.score.n_evaluated) == (0.7, 31)

    def test_rejected_candidates_are_kept_apart(self, tmp_path: Path) -> None:
        steps = (Step(ingredient("a"), Score(0.7), True), Step(ingredient("b"), Score(0.6), False))
        soup = Soup((ingredient("a"),), Coefficients.equal(1), "greedy", steps=steps)
        write_soup(soup, tmp_path, output={})
        content = json.loads((tmp_path / "soup.json").read_text())
        assert [entry["name"] for entry in content["candidates"]] == ["b"]
        assert [step["ingredient"] for step in content["steps"]] == [0, 1]

    def test_fingerprints(self, tmp_path: Path) -> None:
        prints = (Fingerprint(12, "ab"), Fingerprint())
        write_soup(pair("org/a", "org/b"), tmp_path, output={}, fingerprints=prints)
        assert read_soup_record(tmp_path).fingerprints == prints
        first, second = json.loads((tmp_path / "soup.json").read_text())["ingredients"]
        assert (first["bytes"], first["header_digest"]) == (12, "ab")
        assert "bytes" not in second


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

    @fast
    @given(soup=soups())
    def test_reading_and_writing_again_gives_the_same_bytes(self, soup: Soup, tmp_path_factory) -> None:
        file = tmp_path_factory.getbasetemp() / "again.json"
        write_soup(soup, file, output={"dtype": "F32"})
        before = file.read_bytes()
        record = read_soup_record(file)
        write_soup(record.soup, file, output=record.output, fingerprints=record.fingerprints)
        assert file.read_bytes() == before

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

    def test_nothing_is_left_beside_the_record(self, tmp_path: Path) -> None:
        write_soup(pair("org/a", "org/b"), tmp_path, output={})
        assert [path.name for path in tmp_path.iterdir()] == ["soup.json"]


class TestSources:
    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for folder in ("runs/a", "runs/b", "out/soup", "elsewhere/deep"):
            (tmp_path / folder).mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def stored(self, folder: Path | str) -> list[str]:
        content = json.loads(Path(folder, "soup.json").read_text())
        return [entry["source"] for entry in content["ingredients"]]

    def test_local_sources_are_relative_to_the_record(self, home: Path) -> None:
        write_soup(pair("runs/a", str(home / "runs/b")), "out/soup", output={})
        assert self.stored("out/soup") == ["../../runs/a", "../../runs/b"]

    def test_they_come_back_in_the_manner_of_the_folder(self, home: Path) -> None:
        write_soup(pair("runs/a", "runs/b"), "out/soup", output={})
        assert [i.source for i in read_soup("out/soup").ingredients] == ["runs/a", "runs/b"]
        assert [i.source for i in read_soup(home / "out/soup").ingredients] == [
            str(home / "runs/a"),
            str(home / "runs/b"),
        ]

    def test_hub_ids_are_left_alone(self, home: Path) -> None:
        write_soup(pair("org/model", "org/other"), "out/soup", output={})
        assert self.stored("out/soup") == ["org/model", "org/other"]
        assert [i.source for i in read_soup("out/soup").ingredients] == ["org/model", "org/other"]

    def test_a_source_inside_the_folder_is_no_hub_id(self, home: Path) -> None:
        write_soup(pair("runs/a", "runs/b"), "runs/soup.json", output={})
        assert self.stored("runs") == ["./a", "./b"]
        assert [i.source for i in read_soup("runs").ingredients] == ["runs/a", "runs/b"]

    def test_a_folder_that_moves_with_its_ingredients(self, home: Path) -> None:
        write_soup(pair("runs/a", "runs/b"), "out/soup", output={})
        (home / "moved").mkdir()
        for name in ("runs", "out"):
            (home / name).rename(home / "moved" / name)
        assert [i.source for i in read_soup("moved/out/soup").ingredients] == ["moved/runs/a", "moved/runs/b"]

    def test_a_linked_folder(self, home: Path) -> None:
        (home / "soup").symlink_to(home / "elsewhere/deep")
        write_soup(pair("runs/a", "runs/b"), "soup", output={})
        assert [i.source for i in read_soup("soup").ingredients] == ["runs/a", "runs/b"]

    def test_the_final_folder_counts(self, home: Path) -> None:
        write_soup(pair("runs/a", "runs/b"), "elsewhere/deep", output={}, final_folder="soup")
        assert self.stored("elsewhere/deep") == ["../runs/a", "../runs/b"]


GOOD_RESULTS = {"schema": 1, "metric": "accuracy", "higher_is_better": True, "rows": []}


class TestDamage:
    def refused(self, tmp_path: Path, content: object) -> RecordError:
        file = tmp_path / "results.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(RecordError) as caught:
            read_results(file)
        assert str(file) in str(caught.value)
        return caught.value

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match=r"soup\.json cannot be read"):
            read_soup(tmp_path)

    def test_not_json_names_the_line(self, tmp_path: Path) -> None:
        assert "line 2, column" in self.refused(tmp_path, '{"schema": 1,\n"metric" "accuracy"}').message

    @pytest.mark.parametrize(
        "text", ["", "\ufeff{}", "[" * 100_000, '{"schema": 1, "metric": 1e999}', '{"schema": NaN}']
    )
    def test_what_json_does_not_allow(self, tmp_path: Path, text: str) -> None:
        assert self.refused(tmp_path, text).fix

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "soup.json").write_bytes(b"\xff\xfe")
        with pytest.raises(RecordError, match="not UTF-8"):
            read_soup(tmp_path)

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

    def damaged_soup(self, tmp_path: Path, **changes: object) -> RecordError:
        write_soup(pair("org/a", "org/b"), tmp_path, output={})
        file = tmp_path / "soup.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        with pytest.raises(RecordError) as caught:
            read_soup(tmp_path)
        return caught.value

    def test_coefficients_that_do_not_fit(self, tmp_path: Path) -> None:
        error = self.damaged_soup(tmp_path, coefficients={"rows": [[1.0]], "groups": None})
        assert "1 coefficients for 2 ingredients" in error.message

    @pytest.mark.parametrize("index", [-1, 2])
    def test_a_step_without_ingredient(self, tmp_path: Path, index: int) -> None:
        step = {"ingredient": index, "score": {"value": 0.5}, "accepted": True}
        assert self.damaged_soup(tmp_path, steps=[step]).problems == (f"steps[0]: {index}",)

    def test_an_unknown_way_of_combining(self, tmp_path: Path) -> None:
        (problem,) = self.damaged_soup(tmp_path, combine="words").problems
        assert problem.startswith("combine: ")


class TestRefusedValues:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, b"bytes", {1: "a"}, {"a": {2.0}}, Path("a")])
    def test_settings_that_json_cannot_hold_are_named(self, tmp_path: Path, value: object) -> None:
        soup = Soup((Ingredient("a", "org/a", {"odd": value}),), Coefficients.equal(1), "best")
        with pytest.raises(RecordError, match=r"soup\.json: ingredients\[0\]: settings: odd"):
            write_soup(soup, tmp_path, output={})
        assert not list(tmp_path.iterdir())

    def test_a_cell_that_is_not_finite(self, tmp_path: Path) -> None:
        bad = Results("accuracy", True, (Row("best", 1, 1, {"test": Cell(math.nan, None, None)}),))
        with pytest.raises(RecordError, match="scores: test: value is nan"):
            write_results(bad, tmp_path)

    def test_a_name_that_is_not_unicode(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="not valid Unicode"):
            write_soup(pair("org/a\udcff", "org/b"), tmp_path, output={})
