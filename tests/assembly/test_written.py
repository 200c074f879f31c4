"""The written folder: what is in it, what it says about itself, and what is left when writing fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file

import reference
from stockpot import ingredients, materialize, uniform, write
from stockpot.assembly import OutputOptions, ResidentSoup, opened, with_digests
from stockpot.assembly import written as written_module
from stockpot.checkpoints import digest_of, header_digest
from stockpot.errors import BlendError, CheckpointError, IncompatibleError, OutputError
from stockpot.recipes import ensemble, single
from stockpot.records import output_of, read_soup_record
from stockpot.types import Coefficients, Ingredient, Soup
from tiny_models import tiny_classifier, tiny_fine_tunes

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 3)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Ingredient, ...]:
    """Two files of two tensors."""
    for name, value in (("a", 1.0), ("b", 2.0)):
        arrays = {"x": np.full(3, value, np.float32), "y": np.full(2, -value, np.float32)}
        save_arrays(arrays, tmp_path / f"{name}.safetensors")
    return ingredients(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@settings(deadline=None, derandomize=True, max_examples=12)
@given(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.sampled_from(sorted(TORCH)),
    st.sampled_from([None, *sorted(TORCH)]),
)
def test_any_coefficients_and_dtypes_equal_the_reference(tmp_path_factory, row, stored, output) -> None:
    folder = tmp_path_factory.mktemp("soup")
    generator = torch.Generator().manual_seed(1)
    states = [{"w": torch.randn(37, generator=generator).to(TORCH[stored])} for _ in row]
    for number, state in enumerate(states):
        save_file(state, folder / f"{number}.safetensors")
    soup = Soup(ingredients(folder / "*.safetensors"), Coefficients.of(row), "weighted")
    write(soup, folder / "soup", OutputOptions(dtype=output))
    got = load_tensors(folder / "soup" / "model.safetensors")["w"]
    expected = reference.reference_blend([raw(state["w"]) for state in states], stored, row, output)
    assert raw(got) == expected == raw(materialize(soup, dtype=output)["w"])


def test_sharded_ingredients_and_sharded_soups_are_the_same_soup(models, tmp_path) -> None:
    from transformers import AutoModelForSequenceClassification

    for name in ("run-0", "run-1"):
        model = AutoModelForSequenceClassification.from_pretrained(models / name)
        model.save_pretrained(tmp_path / name, max_shard_size="4KB")
        assert len(list((tmp_path / name).glob("*.safetensors"))) > 1
    write(uniform(ingredients(models / "run-0", models / "run-1")), tmp_path / "whole")
    write(uniform(ingredients(tmp_path / "run-*")), tmp_path / "parts", OutputOptions(max_shard_size=3000))
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    index = json.loads((tmp_path / "parts" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(whole)
    shards = {name: load_file(tmp_path / "parts" / name) for name in set(index.values())}
    assert len(shards) > 2
    assert all(np.array_equal(shards[index[name]][name], whole[name]) for name in whole)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "parts").state_dict()
    assert all(np.array_equal(loaded[name].numpy(), whole[name]) for name in whole)


def test_a_loaded_soup_has_the_residents_logits(models, tmp_path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    soup = uniform(ingredients(models / "run-*"))
    write(soup, tmp_path / "soup")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "soup").eval()
    resident = AutoModelForSequenceClassification.from_pretrained(models / "base").eval()
    ResidentSoup(resident).load(soup)
    inputs = AutoTokenizer.from_pretrained(tmp_path / "soup")(["red fast a", "blue mail b"], return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(loaded(**inputs).logits, resident(**inputs).logits)


def test_side_files_come_from_the_first_and_differences_are_said(models, tmp_path) -> None:
    other = Path(shutil.copytree(models / "run-1", tmp_path / "other"))
    content = json.loads((other / "config.json").read_text()) | {"classifier_dropout": 0.3}
    (other / "config.json").write_text(json.dumps(content))
    written = write(uniform(ingredients(models / "run-0", other)), tmp_path / "soup")
    names = {path.name for path in (tmp_path / "soup").iterdir()}
    assert names == {"config.json", "model.safetensors", "soup.json", "tokenizer.json", "tokenizer_config.json"}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "soup" / name).read_bytes() == (models / "run-0" / name).read_bytes()
    assert any("classifier_dropout" in note for note in written.notes)


def test_soup_json_is_last_and_its_sources_relative(pair, tmp_path, monkeypatch) -> None:
    """When the record is written everything else is there; afterwards the folder is renamed."""
    seen: list[set[str]] = []

    def watched(soup, folder, **options):
        seen.append({path.name for path in folder.iterdir()})
        return write_soup(soup, folder, **options)

    write_soup = written_module.write_soup
    monkeypatch.setattr(written_module, "write_soup", watched)
    write(uniform(pair), tmp_path / "deep" / "soup", card=lambda soup: f"# {soup.recipe}\n")
    assert seen == [{"model.safetensors", "README.md"}]
    text = (tmp_path / "deep" / "soup" / "soup.json").read_text()
    assert str(tmp_path) not in text
    assert "../../a.safetensors" in text


def test_the_same_soup_elsewhere_is_the_same_bytes(pair, tmp_path) -> None:
    write(uniform(pair), tmp_path / "soup")
    moved = Path(shutil.copytree(tmp_path, tmp_path.with_name(tmp_path.name + "-moved")))
    write(uniform(ingredients(moved / "?.safetensors")), moved / "again")
    assert contents(tmp_path / "soup") == contents(moved / "again")


def test_digests_only_where_those_of_the_ingredients_were_taken(pair, tmp_path) -> None:
    import hashlib

    write(uniform(pair), tmp_path / "without")
    write(uniform(with_digests(pair)), tmp_path / "with")
    without, taken = (read_soup_record(tmp_path / name) for name in ("without", "with"))
    assert without.output["files"]["model.safetensors"]["digest"] is None
    assert [member.digest for member in without.soup.ingredients] == [None, None]
    assert all(len(member.digest or "") == 64 for member in taken.soup.ingredients)
    weights = (tmp_path / "with" / "model.safetensors").read_bytes()
    assert taken.output["files"]["model.safetensors"]["digest"] == hashlib.sha256(weights).hexdigest()


def test_all_that_a_rebuild_needs_is_recorded(models, tmp_path) -> None:
    options = OutputOptions(dtype="bfloat16", only=("*.weight",), max_shard_size="4KB")
    written = write(uniform(ingredients(models / "run-*")), tmp_path / "soup", options)
    output = output_of(read_soup_record(tmp_path / "soup").output, tmp_path)
    assert (output.dtype, output.only, output.max_shard_size, output.donor) == ("BF16", ("*.weight",), 4000, "run-0")
    assert tuple(output.files) == tuple(sorted(written.files))
    assert "model.safetensors.index.json" in output.files
    sizes = {name: (tmp_path / "soup" / name).stat().st_size for name in [*output.files, *output.side_files]}
    assert {name: file.bytes for name, file in {**output.files, **output.side_files}.items()} == sizes
    assert {file.digest for file in output.files.values()} == {None}
    assert list(output.side_files) == ["config.json", "tokenizer.json", "tokenizer_config.json"]
    assert output.side_files["config.json"].digest == digest_of([models / "run-0" / "config.json"])
    assert output.header_digest == header_digest(tmp_path / "soup")


def test_digests_are_of_the_content_remembered_or_not(pair, tmp_path) -> None:
    memory: dict[str, str] = {}
    first = with_digests(pair, memory=memory)
    assert memory
    assert first == with_digests(pair, memory=memory) == with_digests(pair)
    assert with_digests(first) == first
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "copy.safetensors")
    (copy,) = with_digests(ingredients(tmp_path / "copy.safetensors"))
    assert copy.digest == first[0].digest != first[1].digest


def test_only_some_tensors(pair, tmp_path) -> None:
    write(uniform(pair), tmp_path / "soup", OutputOptions(only=("x",), dtype="bf16"))
    tensors = load_tensors(tmp_path / "soup" / "model.safetensors")
    assert tensors["x"].tolist() == [1.5] * 3
    assert tensors["x"].dtype == torch.bfloat16
    assert tensors["y"].tolist() == [-1.0] * 2
    assert tensors["y"].dtype == torch.float32
    with pytest.raises(BlendError, match="z"):
        write(uniform(pair), tmp_path / "other", OutputOptions(only=("z*",)))
    assert not (tmp_path / "other").exists()


def test_a_soup_is_an_ingredient(models, tmp_path) -> None:
    """Coefficient 1 on it is the identity, side files included; a soup of soups has its mean."""
    write(uniform(ingredients(models / "run-*")), tmp_path / "one")
    write(single(ingredients(tmp_path / "one")[0]), tmp_path / "two")
    skipped = {"soup.json"}
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {n: c for n, c in one.items() if n not in skipped} == {n: c for n, c in two.items() if n not in skipped}
    both = materialize(uniform(ingredients(tmp_path / "one", tmp_path / "two")))
    alone = load_tensors(tmp_path / "one" / "model.safetensors")
    assert all(torch.equal(both[name], tensor) for name, tensor in alone.items())


def test_the_same_source_twice_is_read_as_two_ingredients(pair, tmp_path) -> None:
    soup = Soup((pair[0], pair[1], pair[0]), Coefficients.equal(3), "uniform")
    np.testing.assert_array_equal(materialize(soup)["x"].numpy(), np.full(3, np.float32(4 / 3)))
    write(soup, tmp_path / "soup")
    assert len(read_soup_record(tmp_path / "soup").soup.ingredients) == 3


def test_force_replaces_the_whole_folder(pair, tmp_path) -> None:
    folder = tmp_path / "soup"
    write(uniform(pair), folder)
    (folder / "stray.txt").write_text("old")
    with pytest.raises(OutputError, match="soup"):
        write(single(pair[0]), folder)
    assert (folder / "stray.txt").exists()
    write(single(pair[0]), folder, OutputOptions(force=True))
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "soup.json"]
    assert load_file(folder / "model.safetensors")["x"].tolist() == [1.0] * 3


@pytest.mark.parametrize("inside", [".", "sub", "sub/deeper"])
def test_force_never_deletes_an_ingredient(pair, tmp_path, inside) -> None:
    target = tmp_path / "out"
    (target / inside).mkdir(parents=True)
    mine = Path(shutil.copy(tmp_path / "a.safetensors", target / inside / "mine.safetensors"))
    before = contents(tmp_path)
    with pytest.raises(OutputError):
        write(uniform([*ingredients(mine), pair[1]]), target, OutputOptions(force=True))
    link = tmp_path / "link.safetensors"
    link.symlink_to(mine)
    with pytest.raises(OutputError):
        write(uniform([*ingredients(link), pair[1]]), target, OutputOptions(force=True))
    link.unlink()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_failure_changes_nothing(tmp_path, pair, value, force) -> None:
    """NaN, infinity and (in fp16) overflow, found when half of the tensors are written."""
    folder = tmp_path / "soup"
    if force:
        write(uniform(pair), folder)
    sick = {"x": np.ones(3, np.float32), "y": np.full(2, value, np.float32)}
    save_arrays(sick, tmp_path / "sick.safetensors")
    before = contents(tmp_path)
    soup = uniform([*pair, *ingredients(tmp_path / "sick.safetensors")])
    with pytest.raises(BlendError, match="y") as caught:
        write(soup, folder, OutputOptions(dtype="fp16", force=force))
    assert "sick" in str(caught.value) or "F16" in str(caught.value)
    assert contents(tmp_path) == before
    assert folder.exists() is force


def test_a_card_that_fails_leaves_nothing(pair, tmp_path) -> None:
    def card(soup: Soup) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(uniform(pair), tmp_path / "soup", card=card)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize("function", [materialize, lambda soup: write(soup, Path("never-made"))])
def test_ensembles_are_refused(pair, function, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlendError, match="2 models"):
        function(ensemble(pair))
    assert not Path("never-made").exists()


def test_everything_that_cannot_be_opened_is_named(pair, tmp_path) -> None:
    missing = tuple(Ingredient(name, str(tmp_path / f"{name}.safetensors")) for name in ("gone", "lost"))
    with pytest.raises(CheckpointError) as caught, opened([*pair, *missing]):
        pass
    assert len(caught.value.problems) == 2
    assert all(name in str(caught.value) for name in ("gone", "lost"))


def test_mismatches_of_all_ingredients_are_listed(pair, tmp_path) -> None:
    save_arrays({"x": np.ones(4, np.float32), "y": np.ones(2, np.float32)}, tmp_path / "c.safetensors")
    save_arrays({"x": np.ones(3, np.float16)}, tmp_path / "d.safetensors")
    with pytest.raises(IncompatibleError) as caught:
        write(uniform([*pair, *ingredients(tmp_path / "c.safetensors", tmp_path / "d.safetensors")]), tmp_path / "soup")
    assert len(caught.value.problems) == 3
    assert not (tmp_path / "soup").exists()


def test_integers_come_from_the_first_and_are_said_to_differ(tmp_path) -> None:
    for name, steps in (("a", 5), ("b", 7)):
        arrays = {"w": np.ones(2, np.float32), "steps": np.array([steps]), "same": np.array([3])}
        save_arrays(arrays, tmp_path / f"{name}.safetensors")
    written = write(uniform(ingredients(tmp_path / "*.safetensors")), tmp_path / "soup")
    assert load_file(tmp_path / "soup" / "model.safetensors")["steps"].tolist() == [5]
    assert read_soup_record(tmp_path / "soup").output["integer_differences"] == {"steps": ["b"]}
    assert [note.split(":")[0] for note in written.notes] == ["steps"]
