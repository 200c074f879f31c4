"""soup.json: what is written reads back equal, equal values give equal bytes, sources travel, damage is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given

from record_values import fast, mappings, numbers, soups
from stockpot._version import __version__
from stockpot.errors import RecordError
from stockpot.records import SCHEMA, Fingerprint, output_of, read_soup, read_soup_record, write_soup
from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

V1 = Path(__file__).parent / "v1"


def ingredient(name: str, source: str | None = None) -> Ingredient:
    return Ingredient(name, source or f"org/{name}")


def pair(left: str, right: str) -> Soup:
    chosen = (Ingredient("left", left), Ingredient("right", right))
    return Soup(chosen, Coefficients.equal(2), "uniform")


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
    @given(soup=soups())
    def test_reading_and_writing_again_gives_the_same_bytes(self, soup: Soup, tmp_path_factory) -> None:
        file = tmp_path_factory.getbasetemp() / "again.json"
        write_soup(soup, file, output={"dtype": "F32"})
        before = file.read_bytes()
        record = read_soup_record(file)
        write_soup(record.soup, file, output=record.output, fingerprints=record.fingerprints)
        assert file.read_bytes() == before

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

    def test_a_home_folder_is_a_local_source(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(home))
        write_soup(pair("~/runs/a", "~no-such-user/b"), "out/soup", output={})
        assert self.stored("out/soup") == ["../../runs/a", "~no-such-user/b"]

    def test_the_final_folder_counts(self, home: Path) -> None:
        write_soup(pair("runs/a", "runs/b"), "elsewhere/deep", output={}, final_folder="soup")
        assert self.stored("elsewhere/deep") == ["../runs/a", "../runs/b"]


class TestSchema1:
    """Files that stockpot 0.1.0 wrote before schema 2."""

    @pytest.mark.parametrize("name", ["mixed", "digests", "groups", "keyed", "greedy", "ensemble"])
    def test_they_are_read_and_written_again_as_the_current_schema(self, name: str, tmp_path: Path) -> None:
        record = read_soup_record(V1 / name)
        write_soup(record.soup, tmp_path, output=record.output, fingerprints=record.fingerprints)
        assert json.loads((tmp_path / "soup.json").read_text())["schema"] == SCHEMA == 2
        assert json.loads((V1 / name / "soup.json").read_text())["schema"] == 1
        again = read_soup_record(tmp_path)
        assert (again.soup, again.output, again.fingerprints) == (record.soup, record.output, record.fingerprints)

    def test_what_was_written_and_how(self) -> None:
        record = read_soup_record(V1 / "digests")
        output = output_of(record.output, "soup.json")
        assert (output.dtype, output.only, output.max_shard_size) == ("BF16", ("*.weight",), "30B")
        assert sorted(output.files) == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
        assert all(len(file.digest or "") == 64 and file.bytes is None for file in output.files.values())
        assert list(output.side_files) == ["config.json"]
        assert output.integer_differences == {"steps": ("b", "c")}
        assert output.header_digest is None

    def test_the_soups(self) -> None:
        greedy = read_soup(V1 / "greedy")
        assert [step.ingredient.name for step in greedy.steps] == ["b", "a", "c"]
        assert greedy.steps[2].score.is_abandoned
        assert list(read_soup(V1 / "digests").coefficients) == [0.5, 0.3, 0.2]
        assert read_soup(V1 / "groups").coefficients.row_of("head.bias") == (1.0, 0.0, 0.0)
        assert {member.key for member in read_soup(V1 / "keyed").ingredients} == {"ema"}
        assert read_soup(V1 / "ensemble").combine == "logits"

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("files", {"model.safetensors": 5}, "output.files.model.safetensors.digest"),
            ("files", ["model.safetensors"], "output.files"),
            ("side_files", [1], "output.side_files"),
            ("side_files", {"config.json": None}, "output.side_files.config.json"),
        ],
        ids=["digest", "no mapping", "no name", "no list"],
    )
    def test_their_damage_is_named_too(self, tmp_path: Path, key: str, value: object, says: str) -> None:
        content = json.loads((V1 / "mixed/soup.json").read_text())
        content["output"][key] = value
        (tmp_path / "soup.json").write_text(json.dumps(content))
        with pytest.raises(RecordError) as caught:
            read_soup(tmp_path)
        assert any(problem.startswith(says) for problem in caught.value.problems)


class TestDamage:
    def test_a_newer_schema_names_all_that_can_be_read(self, tmp_path: Path) -> None:
        assert "has schema 3, but stockpot" in (message := self.damaged_soup(tmp_path, schema=3).message)
        assert "reads schemas 1 to 2" in message

    def test_a_table_is_no_soup(self) -> None:
        with pytest.raises(RecordError, match="is a table of results, no soup"):
            read_soup(V1 / "results.json")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match=r"soup\.json cannot be read"):
            read_soup(tmp_path)

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "soup.json").write_bytes(b"\xff\xfe")
        with pytest.raises(RecordError, match="not UTF-8"):
            read_soup(tmp_path)

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

    def test_approximate_is_true_or_absent(self, tmp_path: Path) -> None:
        (problem,) = self.damaged_soup(tmp_path, approximate="yes").problems
        assert problem.startswith("approximate")

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

    def test_a_name_that_is_not_unicode(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="not valid Unicode"):
            write_soup(pair("org/a\udcff", "org/b"), tmp_path, output={})
