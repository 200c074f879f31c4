"""A soup's folder that is as its record says passes; whatever differs is named, all of it at once."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from stockpot import ingredients, uniform, write
from stockpot.assembly import OutputOptions, verify, with_digests
from stockpot.errors import BlendError, CheckpointError, RecordError
from stockpot.recipes import ensemble
from stockpot.records import write_soup
from stockpot.types import Coefficients, Soup

V1 = Path(__file__).parents[1] / "records" / "v1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in "ab":
        Path("runs", name).mkdir(parents=True)
        arrays = {"body": generator.standard_normal((4, 5)).astype(np.float32), "head": generator.standard_normal(6)}
        save_file(arrays | {"steps": np.arange(3)}, f"runs/{name}/model.safetensors", {"tied": "body"})
        Path("runs", name, "config.json").write_text("{}")
    return tmp_path


def made(*, digests: bool = True, **options) -> Path:
    members = ingredients("runs/*")
    write(uniform(with_digests(members) if digests else members), "soup", OutputOptions(**options))
    return Path("soup")


def problems(folder: str | Path = "soup", **options: bool) -> tuple[str, ...]:
    with pytest.raises(CheckpointError, match=r"is not what its record says|but not its ingredients") as caught:
        verify(folder, **options)
    # What is wrong with the ingredients alone no rebuild can mend.
    wanted = "bring the ingredients back" if "but not its ingredients" in caught.value.message else "stockpot rebuild"
    assert wanted in (caught.value.fix or "")
    return caught.value.problems


def flip(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def edit(change: Callable[[dict], object], file: Path = Path("soup/soup.json")) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


class TestWhole:
    def test_one_line_for_each_thing(self, home: Path) -> None:
        lines = verify(made(), ingredients=True, tensors=True)
        assert lines == (
            "soup.json: uniform of 2 ingredients",
            "model.safetensors: SHA-256 as recorded",
            "config.json: SHA-256 as recorded",
            "tensors: 3 tensors, names, dtypes and shapes as recorded",
            f"a ({home}/runs/a): SHA-256 as recorded",
            f"b ({home}/runs/b): SHA-256 as recorded",
            "blend: 3 tensors, equal to the bit",
        )

    def test_without_digests_it_says_what_was_compared(self, home: Path) -> None:
        size = (made(digests=False) / "model.safetensors").stat().st_size
        lines = verify("soup", ingredients=True)
        assert lines[1] == f"model.safetensors: {size:,} bytes as recorded; no digest was taken"
        assert lines[4].endswith("bytes, tensor names and shapes, time as recorded; no digest was taken")
        assert lines[-1] == "blend: 3 tensors, equal to the bit"

    @pytest.mark.parametrize("digests", [True, False])
    @pytest.mark.parametrize("options", [{"max_shard_size": 90}, {"only": ("head",), "dtype": "bf16"}], ids=str)
    def test_shards_and_options(self, home: Path, digests: bool, options: dict) -> None:
        lines = verify(made(digests=digests, **options), ingredients=True, tensors=True)
        assert lines[-1] == "blend: 3 tensors, equal to the bit"
        assert ("model.safetensors.index.json" in str(lines)) is ("max_shard_size" in options)

    def test_by_group(self, home: Path) -> None:
        coefficients = Coefficients(((0.25, 0.75), (1.0, 0.0)), (("body",), ("head",)))
        write(Soup(ingredients("runs/*"), coefficients, "learned"), "soup")
        assert verify("soup", tensors=True)[-1] == "blend: 3 tensors, equal to the bit"

    @pytest.mark.parametrize("name", ["mixed", "digests", "groups", "keyed", "greedy"])
    def test_records_of_schema_1(self, home: Path, name: str) -> None:
        shutil.copytree(V1, "old")
        lines = verify(f"old/{name}/soup.json", ingredients=True, tensors=True)
        assert lines[-1].endswith("equal to the bit")
        assert any("the record says no more" in line for line in lines)

    def test_tensors_that_are_not_blended_may_differ(self, home: Path) -> None:
        arrays = load_file("runs/b/model.safetensors") | {"head": np.ones(9)}
        save_file(arrays, "runs/b/model.safetensors", {"tied": "body"})
        assert verify(made(only=("body",)), tensors=True)[-1] == "blend: 3 tensors, equal to the bit"

    def test_nothing_is_written(self, home: Path) -> None:
        made()
        before = {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*"))}
        verify("soup", ingredients=True, tensors=True)
        assert {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*"))} == before

    def test_it_needs_no_ingredients_unless_asked(self, home: Path) -> None:
        made()
        shutil.rmtree("runs")
        assert len(verify("soup")) == 4
        assert len(problems(ingredients=True)) == 2
        assert problems(tensors=True) == problems(ingredients=True)


class TestDamage:
    def test_a_flipped_byte_with_digests(self, home: Path) -> None:
        flip(made() / "model.safetensors")
        (problem,) = problems()
        assert problem.startswith("model.safetensors: its bytes are others (SHA-256 ")

    def test_a_flipped_byte_without_digests_takes_the_blend(self, home: Path) -> None:
        """The last element of the first tensor in the file: each is named with the place of its first difference."""
        file = made(digests=False) / "model.safetensors"
        header = int.from_bytes(file.read_bytes()[:8], "little")
        names = json.loads(file.read_bytes()[8 : 8 + header])
        flip(file, 8 + header + names["body"]["data_offsets"][1] - 1)
        flip(file, 8 + header + names["body"]["data_offsets"][1] - 5)
        flip(file, 8 + header + names["steps"]["data_offsets"][0] + 9)
        assert problems() == problems(tensors=True)
        assert sorted(problems()) == [
            "blend: body is not the blend of the ingredients, first at flat index 18",
            "blend: steps is not the blend of the ingredients, first at flat index 1",
        ]

    def test_everything_at_once(self, home: Path) -> None:
        folder = made(max_shard_size=90)
        shards = sorted(folder.glob("*.safetensors"))
        shards[0].unlink()
        shards[1].write_bytes(shards[1].read_bytes()[:-1])
        (folder / "config.json").unlink()
        flip(Path("runs/b/model.safetensors"))
        found = problems(ingredients=True)
        said = [problem.split(":")[0] for problem in found]
        assert said == [shards[0].name, shards[1].name, "config.json", *["tensors"] * (len(said) - 4), said[-1]]
        assert said[-1].startswith("b (")
        assert any("truncated" in problem for problem in found)

    def test_an_index_that_names_other_shards(self, home: Path) -> None:
        folder = made(digests=False, max_shard_size=90)
        index = folder / "model.safetensors.index.json"
        index.write_text(index.read_text().replace("00002-of", "00001-of"))
        assert any("the index" in problem for problem in problems())

    def test_other_tensors_of_the_same_size(self, home: Path) -> None:
        file = made(digests=False) / "model.safetensors"
        file.write_bytes(file.read_bytes().replace(b'"head"', b'"tail"'))
        assert problems() == ("tensors: their names, dtypes, shapes or ties are not the recorded ones",)
        assert sorted(problems(tensors=True))[:2] == [
            "blend: head is missing there, but [6] F64 in the blend",
            "blend: tail is [6] F64 there, but missing in the blend",
        ]

    def test_ties_that_were_cut(self, home: Path) -> None:
        file = made(digests=False) / "model.safetensors"
        file.write_bytes(file.read_bytes().replace(b'"tied":"body"', b'"dyed":"none"'))
        assert "blend: tied is missing there, but body in the blend" in problems(tensors=True)

    def test_weights_that_nobody_recorded(self, home: Path) -> None:
        shutil.copy("runs/a/model.safetensors", made() / "other.safetensors")
        assert problems() == ("tensors: other.safetensors is there, but not recorded",)

    def test_side_files(self, home: Path) -> None:
        folder = made(digests=False)
        (folder / "config.json").write_text("[]")
        assert problems()[0].startswith("config.json: its bytes are others")
        (folder / "config.json").unlink()
        (folder / "config.json").mkdir()
        assert problems() == ("config.json: is missing",)

    def test_other_coefficients_are_noticed_by_the_blend(self, home: Path) -> None:
        made(digests=False)
        edit(lambda content: content["coefficients"].update(rows=[[0.25, 0.75]]))
        assert {problem.split()[1] for problem in problems()} == {"body", "head"}

    def test_an_ingredient_that_diverged_is_one_problem_of_many(self, home: Path) -> None:
        made(digests=False)
        arrays = load_file("runs/a/model.safetensors")
        arrays["head"][2] = np.nan
        save_file(arrays, "runs/a/model.safetensors", {"tied": "body"})
        problem, changed = problems(tensors=True)
        assert problem.startswith("blend: NaN or infinity in an ingredient; head in 'a'")
        assert changed.endswith("its values may be others")

    def test_a_changed_ingredient_is_not_taken_for_a_changed_soup(self, home: Path) -> None:
        made()
        flip(Path("runs/b/model.safetensors"))
        (problem,) = problems(tensors=True)
        assert problem.startswith(f"b ({home}/runs/b): its bytes are others")

    def test_a_copied_ingredient_is_told_from_a_changed_one_by_the_blend(self, home: Path) -> None:
        made(digests=False)
        os.utime("runs/b/model.safetensors", ns=(1, 1))
        assert verify("soup", ingredients=True)[-1] == "blend: 3 tensors, equal to the bit"

    def test_without_digests_and_ingredients_nothing_is_known(self, home: Path) -> None:
        made(digests=False)
        shutil.rmtree("runs/b")
        with pytest.raises(CheckpointError, match="nothing tells whether the values in soup are as written"):
            verify("soup")

    def test_other_files_are_told_and_other_weights_refused(self, home: Path) -> None:
        (made() / "notes.txt").write_text("mine")
        assert verify("soup")[-1] == "other files: not recorded: notes.txt"
        Path("soup/pytorch_model.bin").write_bytes(b"")
        assert problems() == ("other files: pytorch_model.bin holds weights that the record does not know",)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (
                lambda c: c["coefficients"].update(rows=[[1, 0], [0, 1]], groups=[["body"], ["tail", "head"]]),
                "tensors: coefficients.groups[1] of soup.json names 'tail', which is not there",
            ),
            (lambda c: c["output"]["files"].update({"more.safetensors": {"bytes": 3}}), "more.safetensors: is missing"),
        ],
        ids=["groups", "files"],
    )
    def test_a_record_of_tensors_or_files_that_are_not_there(self, home: Path, change, says: str) -> None:
        made()
        edit(change)
        (problem,) = problems()
        assert problem.startswith(says)

    @pytest.mark.parametrize("name", ["../runs/a/model.safetensors", "/etc/hostname"])
    def test_no_file_outside_is_looked_at(self, home: Path, name: str) -> None:
        made()
        edit(lambda content: content["output"]["side_files"].update({name: {}}))
        with pytest.raises(RecordError, match="no path inside"):
            verify("soup")


def test_records_without_weights(home: Path) -> None:
    write_soup(ensemble(ingredients("runs/*")), "both", output={})
    with pytest.raises(BlendError, match="2 models and has no weights"):
        verify("both")
    write_soup(uniform(ingredients("runs/*")), "plan", output={})
    with pytest.raises(RecordError, match="says nothing of weight files"):
        verify("plan")
    with pytest.raises(RecordError, match="cannot be read"):
        verify("runs/a")


def test_memory_does_not_grow_with_the_checkpoints(home: Path) -> None:
    """Two checkpoints of 48 MB; what is held is chunks."""
    for number, name in enumerate("ab"):
        save_file({"w": np.full(6_000_000, number, np.float64)}, f"{name}.safetensors")
    write(uniform(ingredients("a.safetensors", "b.safetensors")), "soup")
    tracemalloc.start()
    verify("soup", tensors=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6, f"{peak:,} bytes"
