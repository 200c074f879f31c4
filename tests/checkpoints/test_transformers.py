"""Real models: what transformers saves we read, what we write transformers loads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stockpot.checkpoints import copy_side_files, open_checkpoint, write_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37, "vocab_size": 99}


def make_bert():
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)).eval()


def make_gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=99, n_positions=16)
    return transformers.GPT2LMHeadModel(config).eval()


def make_t5():
    torch.manual_seed(0)
    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=2, vocab_size=99)
    return transformers.T5ForConditionalGeneration(config).eval()


def tensor_bytes(tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def as_chunks(checkpoint):
    for name, spec in checkpoint.specs.items():
        buffer = memoryview(bytearray(spec.nbytes))
        checkpoint.read_into(name, buffer, 0)
        yield SimpleNamespace(name=name, spec=spec, start=0, data=buffer)


def assert_holds(checkpoint, state_dict, read_whole):
    contents = read_whole(checkpoint)
    for name in checkpoint.specs:
        assert contents[name] == tensor_bytes(state_dict[name]), name
    for alias, stored in checkpoint.tied.items():
        assert contents[stored] == tensor_bytes(state_dict[alias]), alias


@pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
def test_saved_models_read_and_load_again(max_shard_size, tmp_path, read_whole):
    model = make_bert()
    model.save_pretrained(tmp_path / "saved", max_shard_size=max_shard_size)
    (tmp_path / "written").mkdir()
    with open_checkpoint(tmp_path / "saved") as checkpoint:
        assert (len(checkpoint.weight_files) > 1) == (max_shard_size == "20KB")
        assert set(checkpoint.specs) == set(model.state_dict())
        assert_holds(checkpoint, model.state_dict(), read_whole)
        chunks = as_chunks(checkpoint)
        write_checkpoint(chunks, tmp_path / "written", specs=checkpoint.specs, max_shard_bytes=30_000)
    copy_side_files(tmp_path / "saved", tmp_path / "written")
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "written").eval()
    tokens = torch.arange(12).view(2, 6)
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("make", [make_bert, make_gpt2, make_t5])
def test_state_dicts_saved_by_torch_read_with_their_ties(make, tmp_path, read_whole):
    model = make()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with open_checkpoint(tmp_path) as checkpoint:
        assert {*checkpoint.specs, *checkpoint.tied} == set(model.state_dict())
        assert_holds(checkpoint, model.state_dict(), read_whole)


def test_tied_names_are_those_of_the_models(tmp_path):
    torch.save(make_gpt2().state_dict(), tmp_path / "gpt2.pt")
    with open_checkpoint(tmp_path / "gpt2.pt") as checkpoint:
        assert checkpoint.tied == {"lm_head.weight": "transformer.wte.weight"}
    torch.save({"state_dict": make_t5().state_dict()}, tmp_path / "t5.pt")
    with open_checkpoint(tmp_path / "t5.pt") as checkpoint:
        assert set(checkpoint.tied.values()) == {"shared.weight"}
        assert "encoder.embed_tokens.weight" in checkpoint.tied


def test_a_tied_model_written_loads_tied(tmp_path):
    model = make_gpt2()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "source.pt")
    with open_checkpoint(tmp_path / "source.pt") as checkpoint:
        write_checkpoint(as_chunks(checkpoint), tmp_path, specs=checkpoint.specs, tied=checkpoint.tied)
    loaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    tokens = torch.arange(12).view(2, 6)
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
