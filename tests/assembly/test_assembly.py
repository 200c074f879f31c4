"""Written, materialised and resident soups are the same bits, and those of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import reference
from stockpot import ingredients, materialize, uniform, write
from stockpot.assembly import OutputOptions, ResidentSoup, opened, with_digests
from stockpot.errors import BlendError, IncompatibleError, OutputError
from stockpot.recipes import ensemble, single
from stockpot.records import read_soup_record
from stockpot.types import Coefficients, Incumbent, Score, Soup
from tiny_models import tiny_classifier, tiny_fine_tunes

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 4)
    return folder


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def read(folder: Path) -> dict[str, torch.Tensor]:
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            tensors |= {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
    return tensors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["single", "sharded", "pt"])
def test_written_equals_the_reference_under_any_order(tmp_path, dtype, form) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (7, 5), "b": (), "c": (0, 3), "d": (301,)}
    states = [
        {name: torch.randn(shape, generator=generator).to(DTYPES[dtype]) for name, shape in shapes.items()}
        for _ in range(5)
    ]
    for number, state in enumerate(states):
        if form == "pt":
            torch.save({"state_dict": state, "epoch": 3}, tmp_path / f"{number}.pt")
        else:
            save_file(state, tmp_path / f"{number}.safetensors")
    members = ingredients(tmp_path / "*.*")
    options = OutputOptions(max_shard_size=64 if form == "sharded" else "5GB")
    write(uniform(members), tmp_path / "soup", options)
    write(uniform(members[::-1]), tmp_path / "reversed", options)
    got, turned = read(tmp_path / "soup"), read(tmp_path / "reversed")
    assert set(got) == set(shapes)
    assert len(list((tmp_path / "soup").glob("*.safetensors"))) > 1 or form != "sharded"
    for name in shapes:
        expected = reference.reference_blend([raw(state[name]) for state in states], dtype, [1 / 5] * 5)
        assert raw(got[name]) == expected == raw(turned[name])
        assert got[name].dtype == DTYPES[dtype]


def test_written_materialised_and_resident_agree_and_load(models, tmp_path) -> None:
    from transformers import AutoModelForSequenceClassification

    members = with_digests(ingredients(models / "run-*"))
    soup = Soup(members, Coefficients.of([0.4, 0.3, 0.2, 0.1]), "weighted")
    written = write(soup, tmp_path / "soup")
    assert written.notes == ()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "soup")
    module = AutoModelForSequenceClassification.from_pretrained(models / "base")
    ResidentSoup(module).load(soup)
    tensors = materialize(soup)
    for name, tensor in loaded.state_dict().items():
        assert raw(tensor) == raw(tensors[name]) == raw(module.state_dict()[name])
    record = read_soup_record(tmp_path / "soup")
    assert record.output["donor"] == "run-0"
    assert all(len(file["digest"]) == 64 for file in record.output["files"].values())
    assert [i.digest for i in record.soup.ingredients] == [i.digest for i in members]


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=8))
def test_a_resident_soup_is_a_blend_from_scratch(models, steps) -> None:
    """Whatever is accepted, rejected or skipped because the journal knows it."""
    from transformers import AutoModelForSequenceClassification

    members = ingredients(models / "run-*")
    module = AutoModelForSequenceClassification.from_pretrained(models / "base")
    resident = ResidentSoup(module)
    incumbent = Incumbent(uniform(members[:1]), Score(0.0))
    for number, accepted, known in steps:
        soup = uniform([*incumbent.soup.ingredients, members[number]])
        if not known:
            resident.load(soup, against=incumbent)
            expected = materialize(soup)
            assert all(raw(t) == raw(expected[name]) for name, t in module.state_dict().items())
        if accepted:
            incumbent = Incumbent(soup, Score(0.0))
    resident.close()


def test_a_greedy_step_reads_one_checkpoint(models) -> None:
    from transformers import AutoModelForSequenceClassification

    members = ingredients(models / "run-*")
    resident = ResidentSoup(AutoModelForSequenceClassification.from_pretrained(models / "base"))
    incumbent = Incumbent(uniform(members[:1]), Score(0.0))
    reads = []
    for member in members[1:]:
        soup = uniform([*incumbent.soup.ingredients, member])
        resident.load(soup, against=incumbent)
        reads.append(resident.n_checkpoints_read)
        incumbent = Incumbent(soup, Score(0.0))
    assert np.diff(reads).tolist() == [1, 1]
    resident.load(soup)  # already there
    assert resident.n_checkpoints_read == reads[-1]


def test_every_misfit_with_the_model_is_listed(models, tmp_path) -> None:
    from transformers import AutoModelForSequenceClassification

    module = AutoModelForSequenceClassification.from_pretrained(models / "base")
    state = dict(module.state_dict())
    state["surplus"] = torch.zeros(2)
    state["classifier.bias"] = torch.zeros(5)
    del state["classifier.weight"]
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(IncompatibleError) as caught:
        ResidentSoup(module).load(single(ingredients(tmp_path / "x.safetensors")[0]))
    assert len(caught.value.problems) == 3


def test_tied_tensors_stay_tied(tmp_path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    for number in range(2):
        torch.manual_seed(number)
        torch.save(GPT2LMHeadModel(config).state_dict(), tmp_path / f"{number}.bin")
    soup = uniform(ingredients(tmp_path / "*.bin"))
    write(soup, tmp_path / "soup")
    assert "lm_head.weight" not in read(tmp_path / "soup")
    with opened(ingredients(tmp_path / "soup")) as (checkpoint,):
        assert checkpoint.tied == {"lm_head.weight": "transformer.wte.weight"}
    tensors = materialize(soup)
    assert tensors["lm_head.weight"].data_ptr() == tensors["transformer.wte.weight"].data_ptr()
    model = GPT2LMHeadModel(config)
    ResidentSoup(model).load(soup)
    assert raw(model.lm_head.weight.detach()) == raw(tensors["transformer.wte.weight"])


def test_failures_leave_nothing(models, tmp_path) -> None:
    members = ingredients(models / "run-*")
    with pytest.raises(BlendError, match="logits"):
        write(ensemble(members), tmp_path / "soup")
    save_file({"w": torch.tensor([float("nan")])}, tmp_path / "nan.safetensors")
    with pytest.raises(BlendError, match="nan"):
        write(uniform(ingredients(tmp_path / "nan.safetensors")), tmp_path / "soup")
    assert [path.name for path in tmp_path.iterdir()] == ["nan.safetensors"]
    folder = tmp_path / "mine"
    write(uniform(members), folder)
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(OutputError):
        write(uniform(members), folder)
    with pytest.raises(OutputError):
        write(uniform(ingredients(folder, *members)), folder, OutputOptions(force=True))
    assert (folder / "model.safetensors").read_bytes() == before
