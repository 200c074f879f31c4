"""A rebuilt soup has the bytes of the first one, or is refused by what has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stockpot import ingredients, uniform, write
from stockpot.assembly import OutputOptions, rebuild, with_digests
from stockpot.assembly import rebuilt as rebuilt_module
from stockpot.errors import BlendError, CheckpointError, OutputError, RecordError, StockpotError
from stockpot.recipes import ensemble
from stockpot.records import write_soup
from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

V1 = Path(__file__).parents[1] / "records" / "v1"
Tensors = dict[str, torch.Tensor]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name not in names}


def tensors(number: int, dtype: torch.dtype = torch.float32) -> Tensors:
    generator = torch.Generator().manual_seed(number)
    return {
        "body.weight": torch.randn(5, 7, generator=generator).to(dtype),
        "head.weight": torch.randn(3, 5, generator=generator).to(dtype),
        "steps": torch.tensor([number]),
    }


def save(folder: Path, number: int, dtype: torch.dtype = torch.float32, **metadata: str) -> None:
    folder.mkdir(parents=True)
    save_file(tensors(number, dtype), folder / "model.safetensors", metadata={"format": "pt", **metadata})
    (folder / "config.json").write_text(json.dumps({"dropout": number}))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, each a folder with a configuration."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(Path("runs", name), number)
    return tmp_path


def runs(*, digests: bool = True) -> tuple[Ingredient, ...]:
    found = ingredients("runs/*")
    return with_digests(found) if digests else found


def soup_of(*row: float, digests: bool = True) -> Soup:
    return Soup(runs(digests=digests), Coefficients.of(row), "weighted")


def flip(path: Path, position: int = -1) -> None:
    """Changes one byte, the size stays."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refused(kind: type[StockpotError], record: str | Path = "soup", **options: object) -> StockpotError:
    """The error of a rebuild that must leave everything as it was."""
    before = contents(Path())
    with pytest.raises(kind) as caught:
        rebuild(record, "again", **options)
    assert contents(Path()) == before
    assert not Path("again").exists()
    return caught.value


def stored(dtype: torch.dtype) -> Soup:
    shutil.rmtree("runs")
    for number, name in enumerate("abc"):
        save(Path("runs", name), number, dtype)
    return uniform(runs())


def other_heads() -> Soup:
    """Tensors that are not blended may have any shape."""
    state = tensors(1) | {"head.weight": torch.ones(9, 5)}
    save_file(state, "runs/b/model.safetensors", metadata={"format": "pt"})
    return uniform(runs())


def tied() -> Soup:
    for number, name in enumerate("abc"):
        shutil.rmtree(f"runs/{name}")
        save(Path("runs", name), number, torch.float32, **{"tied.weight": "body.weight"})
    return soup_of(0.5, 0.25, 0.25)


def by_group() -> Soup:
    groups = (("body.weight",), ("head.weight",))
    return replace(soup_of(1, 0, 0), coefficients=Coefficients(((0.1, 0.2, 0.7), (0.5, 0.5, 0.0)), groups))


def wrapped() -> Soup:
    for number in (0, 1):
        states = {"model": tensors(number), "ema": tensors(number + 2), "step": 7}
        torch.save(states, f"{number}.pt")
    return uniform(with_digests(ingredients("0.pt", "1.pt", key="ema")))


def sharded_ingredients() -> Soup:
    for name in ("a", "b"):
        write(uniform(ingredients(f"runs/{name}")), f"parts/{name}", OutputOptions(max_shard_size=60))
    return uniform(with_digests(ingredients("parts/*")))


def soup_of_soups() -> Soup:
    write(uniform(ingredients("runs/a", "runs/b")), "first")
    return uniform(with_digests(ingredients("first", "runs/c")))


def searched() -> Soup:
    a, b, c = runs()
    steps = (Step(b, Score(0.8), True), Step(a, Score(0.81), True), Step(c, Score(0.7), False))
    return Soup((b, a), Coefficients.equal(2), "greedy", steps=steps, logit_scale=1.25)


KINDS: dict[str, tuple[Callable[[], Soup], OutputOptions]] = {
    "fp32": (lambda: uniform(runs()), OutputOptions()),
    "fp16": (lambda: stored(torch.float16), OutputOptions()),
    "bf16": (lambda: stored(torch.bfloat16), OutputOptions()),
    "fp64 to bf16": (lambda: stored(torch.float64), OutputOptions(dtype="bf16")),
    "wider": (lambda: soup_of(0.5, 0.3, 0.2), OutputOptions(dtype="fp64")),
    "without digests": (lambda: uniform(runs(digests=False)), OutputOptions()),
    "unequal": (lambda: soup_of(0.1, -0.2, 1.1), OutputOptions()),
    "negative zero": (lambda: soup_of(-0.0, 1.0, 0.0), OutputOptions()),
    "sharded": (lambda: uniform(runs()), OutputOptions(max_shard_size="64B")),
    "sharded without digests": (lambda: uniform(runs(digests=False)), OutputOptions(max_shard_size=64)),
    "only": (lambda: uniform(runs()), OutputOptions(only=("head.*",), dtype="fp16")),
    "only, the rest differs": (other_heads, OutputOptions(only=("body.*",))),
    "tied": (tied, OutputOptions()),
    "by group": (by_group, OutputOptions()),
    "key of a .pt file": (wrapped, OutputOptions()),
    "sharded ingredients": (sharded_ingredients, OutputOptions()),
    "soup of soups": (soup_of_soups, OutputOptions()),
    "the same twice": (lambda: uniform([*runs(), runs()[0]]), OutputOptions()),
    "acceptance log": (searched, OutputOptions()),
}


class TestTheSameBytes:
    @pytest.mark.parametrize("kind", KINDS)
    def test_of_every_kind_of_soup(self, home: Path, kind: str) -> None:
        make, options = KINDS[kind]
        written = write(make(), "soup", options)
        rebuilt = rebuild("soup", "again")
        assert contents(Path("again")) == contents(Path("soup"))
        assert rebuilt.files == written.files
        assert rebuild(home / "soup" / "soup.json", home / "third").folder == home / "third"
        assert contents(Path("third")) == contents(Path("soup"))

    def test_elsewhere_only_the_sources_of_the_record_differ(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        rebuild("soup", "deep/er/again")
        there, again = contents(Path("soup")), contents(Path("deep/er/again"))
        assert without(there, "soup.json") == without(again, "soup.json")
        assert again["soup.json"].replace(b"../../../runs", b"../runs") == there["soup.json"]

    def test_a_candidate_that_is_gone_stays_in_the_log(self, home: Path) -> None:
        write(searched(), "soup")
        shutil.rmtree("runs/c")
        rebuild("soup", "again")
        assert contents(Path("again")) == contents(Path("soup"))

    def test_side_files_are_the_recorded_ones(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        Path("runs/a/later.json").write_text("{}")
        rebuild("soup", "again")
        assert contents(Path("again")) == contents(Path("soup"))

    def test_the_version_that_made_it_stays(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        file = Path("soup/soup.json")
        file.write_text(file.read_text().replace('"stockpot": "', '"stockpot": "0.0.'))
        rebuild("soup", "again")
        assert Path("again/soup.json").read_bytes() == file.read_bytes()

    @pytest.mark.parametrize("name", ["mixed", "digests", "groups", "keyed", "greedy"])
    def test_of_records_of_schema_1(self, home: Path, name: str) -> None:
        shutil.copytree(V1, "old")
        rebuild(f"old/{name}", "again")
        there, again = contents(Path("old", name)), contents(Path("again"))
        assert without(there, "soup.json", "README.md") == without(again, "soup.json")
        assert again.keys() == there.keys() - {"README.md"}
        rebuild("again", "third")
        assert contents(Path("third")) == again


class TestRemarks:
    def test_what_could_not_be_compared(self, home: Path) -> None:
        write(uniform(runs(digests=False)), "soup")
        notes = rebuild("soup", "again").notes
        assert "no digest is recorded to compare with: model.safetensors" in notes
        assert "known by size, header and time only, not by a digest: a, b, c" in notes

    def test_the_card_is_left_out(self, home: Path) -> None:
        write(uniform(runs()), "soup", card=lambda soup: "# scores\n")
        (note,) = [note for note in rebuild("soup", "again").notes if "README.md" in note]
        assert "left out" in note
        assert not Path("again/README.md").exists()

    def test_nothing_else_is_said_where_digests_are(self, home: Path) -> None:
        write(uniform(runs()[:1]), "soup")
        assert rebuild("soup", "again").notes == ()


class TestChangedIngredients:
    def test_one_flipped_byte_is_refused_by_name(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        flip(Path("runs/b/model.safetensors"))
        error = refused(CheckpointError)
        (problem,) = error.problems
        assert problem.startswith(f"b ({home}/runs/b): its bytes are others (SHA-256 ")
        assert "--sources" in (error.fix or "")

    def test_no_memory_of_digests_is_trusted(self, home: Path) -> None:
        """Same size, same time of modification: what `with_digests` would take from its memory."""
        write(uniform(runs()), "soup")
        file = Path("runs/b/model.safetensors")
        times = file.stat()
        flip(file)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert "runs/b" in refused(CheckpointError).problems[0]

    def test_without_digests_a_changed_header_is_refused(self, home: Path) -> None:
        write(uniform(runs(digests=False)), "soup")
        file = Path("runs/c/model.safetensors")
        file.write_bytes(file.read_bytes().replace(b"head.weight", b"mead.weight"))
        (problem,) = refused(CheckpointError).problems
        assert problem.startswith(f"c ({home}/runs/c): names, dtypes, shapes or ties of its tensors are others")

    def test_without_digests_a_changed_value_is_known_by_its_time(self, home: Path) -> None:
        write(uniform(runs(digests=False)), "soup")
        flip(Path("runs/b/model.safetensors"), position=-20)
        error = refused(CheckpointError)
        assert [problem.split(" ")[0] for problem in error.problems] == ["b"]
        assert "--unchecked" in (error.fix or "")

    def test_a_copy_without_a_digest_is_taken_where_asked(self, home: Path) -> None:
        write(uniform(runs(digests=False)), "soup")
        os.utime("runs/b/model.safetensors", ns=(1, 1))
        rebuild("soup", "again", by_time=False)
        assert contents(Path("again")) == contents(Path("soup"))

    def test_times_do_not_matter_to_digests(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        os.utime("runs/b/model.safetensors", ns=(1, 1))
        rebuild("soup", "again")
        assert contents(Path("again")) == contents(Path("soup"))

    def test_digests_of_the_output_alone_notice_it(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        edit(Path("soup/soup.json"), lambda content: [entry.update(digest=None) for entry in content["ingredients"]])
        flip(Path("runs/b/model.safetensors"), position=-20)
        error = refused(RecordError)
        (problem,) = error.problems
        assert problem.startswith("model.safetensors: its bytes are others (SHA-256 ")
        assert "so it was removed" in error.message

    @pytest.mark.parametrize("digests", [True, False])
    def test_everything_wrong_is_told_at_once(self, home: Path, digests: bool) -> None:
        write(uniform(runs(digests=digests)), "soup")
        whole = Path("runs/a/model.safetensors").read_bytes()
        Path("runs/a/model.safetensors").write_bytes(whole[:-4])
        shutil.rmtree("runs/b")
        shutil.rmtree("runs/c")
        save(Path("runs/c"), 2, torch.float64)
        Path("runs/a/config.json").write_text("{}")
        error = refused(CheckpointError)
        assert error.message == "soup/soup.json: 4 of 4 inputs are not what was recorded"
        truncated, missing, size, header, config = error.problems
        assert "truncated" in truncated
        assert missing == f"b ({home}/runs/b): no such file or folder"
        assert size.startswith(f"c ({home}/runs/c): size {Path('runs/c/model.safetensors').stat().st_size:,} bytes, ")
        assert header.startswith(f"c ({home}/runs/c): names, dtypes, shapes or ties")
        assert config == f"a ({home}/runs/a/config.json): size 2 bytes, recorded 14"

    def test_a_side_file_of_the_same_size(self, home: Path) -> None:
        write(uniform(runs(digests=False)), "soup")
        flip(Path("runs/a/config.json"), position=3)
        (problem,) = refused(CheckpointError).problems
        assert problem.startswith(f"a ({home}/runs/a/config.json): its bytes are others")

    def test_another_key_is_another_ingredient(self, home: Path) -> None:
        write(wrapped(), "soup")
        edit(Path("soup/soup.json"), lambda content: content["ingredients"][1].update(key="model"))
        assert "1.pt): its bytes are others" in refused(CheckpointError).problems[0]

    def test_an_ingredient_of_which_nothing_is_recorded(self, home: Path) -> None:
        write(uniform(runs(digests=False)), "soup")
        edit(Path("soup/soup.json"), lambda content: content["ingredients"][0].update(bytes=None, header_digest=None))
        assert refused(CheckpointError).problems[0].endswith("neither size nor digest to know it by")


class TestMovedIngredients:
    def test_they_are_found_by_the_last_parts_of_their_paths(self, home: Path) -> None:
        write(searched(), "soup")
        Path("runs").rename("archive")
        assert len(refused(CheckpointError).problems) == 3  # two ingredients and the donor's side file
        rebuild("soup", "again", sources="archive")
        before, after = contents(Path("soup")), contents(Path("again"))
        assert before.pop("soup.json").replace(b"../runs/", b"../archive/") == after.pop("soup.json")
        assert before == after

    @pytest.mark.parametrize("place", ["store", "store/runs"])
    def test_the_longest_ending_counts(self, home: Path, place: str) -> None:
        """Files of one name in several folders: model.safetensors says nothing, runs/b/model.safetensors does."""
        sources = [f"runs/{name}/model.safetensors" for name in "abc"]
        write(uniform(ingredients(*sources)), "soup")
        Path("store").mkdir()
        Path("runs").rename("store/runs")
        shutil.copy("store/runs/a/model.safetensors", "store/model.safetensors")
        rebuild("soup", "again", sources=place)
        assert contents(Path("again")).keys() == contents(Path("soup")).keys()
        weights = [Path(name, "model.safetensors").read_bytes() for name in ("soup", "again")]
        assert weights[0] == weights[1]

    def test_one_file_never_stands_for_two_without_a_digest(self, home: Path) -> None:
        write(uniform(ingredients(*(f"runs/{name}/model.safetensors" for name in "abc"))), "soup")
        Path("flat").mkdir()
        Path("runs/a/model.safetensors").rename("flat/model.safetensors")
        shutil.rmtree("runs")
        error = refused(CheckpointError, sources="flat")
        assert error.problems == ("flat/model.safetensors: found for a/model and b/model and c/model",)

    def test_with_digests_the_wrong_file_is_refused_by_its_bytes(self, home: Path) -> None:
        write(uniform(with_digests(ingredients(*(f"runs/{name}/model.safetensors" for name in "abc")))), "soup")
        Path("flat").mkdir()
        Path("runs/a/model.safetensors").rename("flat/model.safetensors")
        shutil.rmtree("runs")
        assert ["b/" in p or "c/" in p for p in refused(CheckpointError, sources="flat").problems] == [True, True]

    def test_what_is_not_there_is_looked_for_where_it_was(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        Path("moved").mkdir()
        Path("runs/b").rename("moved/b")
        rebuild("soup", "again", sources="moved")
        sources = [entry["source"] for entry in json.loads(Path("again/soup.json").read_text())["ingredients"]]
        assert sources == ["../runs/a", "../moved/b", "../runs/c"]

    def test_no_such_folder(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        assert "nowhere: no such folder" in refused(CheckpointError, sources="nowhere").message


class TestOutput:
    def test_what_is_there_is_kept_unless_forced(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        Path("taken").mkdir()
        Path("taken/mine.txt").write_text("mine")
        with pytest.raises(OutputError, match="not empty"):
            rebuild("soup", "taken")
        assert contents(Path("taken")) == {"mine.txt": b"mine"}
        with pytest.raises(OutputError, match="holds no soup"):
            rebuild("soup", "taken", force=True)
        write(uniform(runs()[:1]), "earlier")
        rebuild("soup", "earlier", force=True)
        assert contents(Path("earlier")) == contents(Path("soup"))

    def test_a_taken_folder_is_refused_before_anything_is_read(self, home: Path, monkeypatch) -> None:
        write(uniform(runs()), "soup")
        monkeypatch.setattr(rebuilt_module, "check_ingredients", lambda _: pytest.fail("read the ingredients"))
        with pytest.raises(OutputError, match="not empty"):
            rebuild("soup", "runs")

    @pytest.mark.parametrize("out", ["soup", ".", "runs", "runs/a"])
    def test_force_deletes_neither_the_record_nor_an_ingredient(self, home: Path, out: str) -> None:
        write(uniform(runs()), "soup", card=lambda soup: "# card\n")
        before = contents(home)
        with pytest.raises(OutputError):
            rebuild("soup", out, force=True)
        assert contents(home) == before

    def test_an_interruption_leaves_nothing(self, home: Path, monkeypatch) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        write(uniform(runs()), "soup")
        monkeypatch.setattr(rebuilt_module, "write_soup", interrupted)  # the last step
        before = contents(home)
        with pytest.raises(KeyboardInterrupt):
            rebuild("soup", "again")
        assert contents(home) == before

    def test_a_killed_process_leaves_no_output_and_the_next_clears_up(self, home: Path) -> None:
        write(uniform(runs()), "soup")
        code = (
            "import os, signal\nfrom stockpot.assembly import rebuilt\n"
            "rebuilt.write_soup = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
            "rebuilt.rebuild('soup', 'again')"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
        assert done.returncode == -9, done.stderr
        assert not Path("again").exists()
        assert [path.name for path in home.iterdir() if "partial" in path.name]
        rebuild("soup", "again")
        assert contents(Path("again")) == contents(Path("soup"))
        assert not [path.name for path in home.iterdir() if "partial" in path.name]


class TestTamperedRecords:
    @pytest.fixture
    def record(self, home: Path) -> Path:
        write(by_group(), "soup")
        return Path("soup/soup.json")

    @pytest.mark.parametrize(
        ("change", "kind", "says"),
        [
            (lambda c: c.update(schema=3), RecordError, "schema 3"),
            (lambda c: c.update(recipe=5), RecordError, "recipe"),
            (lambda c: c["coefficients"].update(rows=[["0.5", 1, 1], [1, 1, 1]]), RecordError, "rows[0][0]"),
            (lambda c: c["coefficients"].update(rows=[[0.5, 0.5], [1, 1]]), RecordError, "2 coefficients for 3"),
            (lambda c: c["coefficients"].update(rows=[[1, 1, 1]]), RecordError, "groups"),
            (lambda c: c["coefficients"]["groups"][0].append("tail.weight"), BlendError, "tail.weight"),
            (lambda c: c["coefficients"]["groups"].__setitem__(0, []), BlendError, "body.weight: in no group"),
            (lambda c: c["ingredients"].pop(), RecordError, "3 coefficients for 2"),
            (lambda c: c["ingredients"].reverse(), CheckpointError, "config.json"),
            (lambda c: c["ingredients"][0].update(source="../runs/b"), CheckpointError, "runs/b"),
            (lambda c: c["ingredients"][0].update(source="~no-such-user/a"), CheckpointError, "~no-such-user/a"),
            (lambda c: c["ingredients"][0].update(source=""), CheckpointError, "a ()"),
            (lambda c: c["output"]["files"].update({"../x": {}}), RecordError, "'../x'"),
            (lambda c: c["output"]["side_files"].update({"/etc/passwd": {}}), RecordError, "'/etc/passwd'"),
            (lambda c: c["output"]["side_files"].update({"new.json": {}}), CheckpointError, "new.json): is missing"),
            (lambda c: c["output"]["files"].clear(), RecordError, "model.safetensors: written now, but not recorded"),
            (lambda c: c["output"].pop("files"), RecordError, "says nothing of weight files"),
            (lambda c: c["output"].update(dtype="BF17"), BlendError, "BF17"),
            (lambda c: c["output"].update(dtype="F16"), RecordError, "model.safetensors: size"),
            (lambda c: c["output"].update(only=["head*"]), RecordError, "its bytes are others"),
            (lambda c: c["output"].update(max_shard_size=70), RecordError, "recorded, but not written now"),
            (lambda c: c["output"].update(max_shard_size="much"), StockpotError, "much"),
            (lambda c: c["output"].update(header_digest="0" * 64), RecordError, "shapes or ties"),
        ],
        ids=[
            "schema", "type", "text for a number", "narrow rows", "rows and groups", "unknown tensor",
            "tensor left out", "ingredient left out", "other order", "other source", "no such user", "no source",
            "files outside", "side files outside", "unknown side file", "no files", "no output", "unknown dtype",
            "other dtype", "other tensors", "other shards", "no size", "header",
        ],
    )  # fmt: skip
    def test_are_refused(self, record: Path, change, kind: type[StockpotError], says: str) -> None:
        edit(record, change)
        assert says in str(refused(kind))

    def test_coefficients_changed_within_their_kind_are_noticed_by_the_outputs_digest(self, record: Path) -> None:
        edit(record, lambda content: content["coefficients"]["rows"][0].reverse())
        assert refused(RecordError).problems[0].startswith("model.safetensors: its bytes are others")

    def test_a_link_out_of_the_donor_is_not_followed(self, record: Path, home: Path) -> None:
        (home / "private.json").write_bytes(Path("runs/a/config.json").read_bytes())
        Path("runs/a/config.json").unlink()
        Path("runs/a/config.json").symlink_to(home / "private.json")
        assert "lead out of the folder" in refused(CheckpointError).message


def test_records_without_weights(home: Path) -> None:
    write_soup(ensemble(runs()), "both", output={})
    assert "3 models" in refused(BlendError, "both").message
    write_soup(uniform(runs()), "plan", output={})
    assert "plan/soup.json says nothing of weight files" in refused(RecordError, "plan").message
    assert "cannot be read" in refused(RecordError, "runs").message


def test_what_is_rebuilt_loads(home: Path) -> None:
    write(uniform(runs()), "soup")
    rebuild("soup", "again")
    expected = (tensors(0)["body.weight"].double() + tensors(1)["body.weight"] + tensors(2)["body.weight"]) / 3
    assert torch.equal(load_file("again/model.safetensors")["body.weight"], expected.float())
