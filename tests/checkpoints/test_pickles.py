"""PyTorch files in: dtypes, strides, shared memory, wrappers, shards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from stockpot.checkpoints import open_checkpoint
from stockpot.errors import CheckpointError, MissingExtraError
from stockpot.types import ITEM_BYTES, Checkpoint

torch = pytest.importorskip("torch")

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


YOUNGER_THAN_ZIP = {"F8_E4M3", "F8_E5M2", "U64", "U32", "U16"}


def plain_bytes(tensor) -> bytes:
    return bytes(tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).tolist())


def saved(tmp_path, value, name="model.pt", **options):
    torch.save(value, tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("is_zip", [True, False])
def test_every_dtype_reads_back_bit_by_bit(is_zip, tmp_path, read_whole):
    assert set(DTYPES.values()) == set(ITEM_BYTES)
    raw = torch.arange(48, dtype=torch.uint8)
    tensors = {name: raw.clone().view(dtype) for dtype, name in DTYPES.items() if name != "BOOL"}
    tensors["BOOL"] = torch.tensor([True, False, True])
    if not is_zip:  # the old format has no name for the younger dtypes
        tensors = {name: tensor for name, tensor in tensors.items() if name not in YOUNGER_THAN_ZIP}
    path = saved(tmp_path, tensors, _use_new_zipfile_serialization=is_zip)
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint, Checkpoint)
        assert {name: spec.dtype for name, spec in checkpoint.specs.items()} == {name: name for name in tensors}
        assert read_whole(checkpoint) == {name: plain_bytes(tensor) for name, tensor in tensors.items()}
        assert any("old format" in note for note in checkpoint.notes) != is_zip


def strided_tensors():
    base = torch.arange(60, dtype=torch.int32)
    return {
        "transposed": base.view(5, 12).t(),
        "steps": base[::7],
        "permuted": base.view(3, 4, 5).permute(2, 0, 1),
        "expanded": base[:4].view(4, 1).expand(4, 6),
        "expanded rows": base[:4].expand(6, 4),
        "offset": base[13:29].view(4, 4),
        "0-d": torch.tensor(7),
        "view of one": base[3],
        "empty": torch.zeros(0, 3),
        "empty rows": torch.zeros(3, 0),
    }


def test_any_strides_read_row_by_row_at_any_offset(tmp_path):
    tensors = strided_tensors()
    with open_checkpoint(saved(tmp_path, tensors)) as checkpoint:
        assert list(checkpoint.specs) == list(tensors)
        for name, tensor in tensors.items():
            expected = plain_bytes(tensor)
            for start in range(0, len(expected), 3):
                for size in {1, 5, 17, len(expected) - start}:
                    if start + size <= len(expected):
                        buffer = bytearray(size)
                        checkpoint.read_into(name, memoryview(buffer), start)
                        assert buffer == expected[start : start + size], (name, start, size)


def test_exact_aliases_are_tied_and_partial_ones_are_not(tmp_path, read_whole):
    base = torch.arange(12.0)
    tensors = {
        "stored": base, "alias": base, "same view": base[:], "half": base[:6], "other shape": base.view(3, 4),
        "copy": base.clone(), "empty": base[:0], "empty too": base[:0], "parameter": torch.nn.Parameter(base),
    }  # fmt: skip
    with open_checkpoint(saved(tmp_path, tensors)) as checkpoint:
        assert checkpoint.tied == {"alias": "stored", "same view": "stored", "parameter": "stored"}
        contents = read_whole(checkpoint)
        assert contents == {name: plain_bytes(tensors[name]) for name in checkpoint.specs}
        buffer = bytearray(8)
        checkpoint.read_into("alias", memoryview(buffer), 4)
        assert buffer == contents["stored"][4:12]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: torch.zeros(2, dtype=torch.complex64), "'bad' dtype complex64 is not supported"),
        (lambda: torch.eye(2).to_sparse(), "'bad' has the layout sparse_coo"),
        (lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8), "'bad' is quantised"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_bytes_are_named(make, expected, tmp_path):
    with pytest.raises(CheckpointError, match=expected):
        open_checkpoint(saved(tmp_path, {"good": torch.zeros(2), "bad": make()}))


def test_a_training_checkpoint_is_unwrapped_and_said(tmp_path, read_whole):
    model = torch.nn.DataParallel(torch.nn.Linear(3, 2))
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    value = {"epoch": 3, "model": model.state_dict(), "optimizer": optimiser.state_dict()}
    with open_checkpoint(saved(tmp_path, value)) as checkpoint:
        assert list(checkpoint.specs) == ["weight", "bias"]
        assert checkpoint.notes == ("took the state dict 'model'", "removed the prefix 'module.' from every name")
        assert read_whole(checkpoint)["bias"] == plain_bytes(model.module.bias)


def test_several_state_dicts_need_a_key(tmp_path, read_whole):
    path = saved(tmp_path, {"model": {"w": torch.zeros(1)}, "ema": {"w": torch.ones(1)}})
    with pytest.raises(CheckpointError, match="--key model or --key ema"):
        open_checkpoint(path)
    with open_checkpoint(path, key="ema") as checkpoint:
        assert read_whole(checkpoint)["w"] == plain_bytes(torch.ones(1))


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        open_checkpoint(tmp_path / "model.pt")


def test_a_whole_pickled_module_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"contains code other than tensors \(torch\.nn\.modules"):
        open_checkpoint(saved(tmp_path, torch.nn.Linear(2, 2)))


def test_a_closed_checkpoint_cannot_be_read(tmp_path):
    checkpoint = open_checkpoint(saved(tmp_path, {"w": torch.zeros(2)}))
    checkpoint.close()
    with pytest.raises(CheckpointError, match="is closed"):
        checkpoint.read_into("w", memoryview(bytearray(8)), 0)


def write_shards(folder, shards, weight_map=None):
    names = [f"pytorch_model-{number:05d}-of-{len(shards):05d}.bin" for number in range(1, len(shards) + 1)]
    for name, tensors in zip(names, shards, strict=True):
        torch.save(tensors, folder / name)
    right = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
    index = json.dumps({"metadata": {}, "weight_map": weight_map or right})
    (folder / "pytorch_model.bin.index.json").write_text(index)
    return names


def test_shards_read_as_one(tmp_path, read_whole):
    shared = torch.arange(3)
    write_shards(tmp_path, [{"a": shared, "tied": shared}, {"b": torch.ones(2)}])
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.specs) == ["a", "b"]
        assert checkpoint.tied == {"tied": "a"}
        assert len(checkpoint.weight_files) == 2
        assert read_whole(checkpoint)["b"] == plain_bytes(torch.ones(2))


def test_shards_are_checked_both_ways(tmp_path):
    first, second = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
    write_shards(tmp_path, [{"a": torch.ones(1), "b": torch.ones(1)}, {"c": torch.ones(1)}], {"a": first, "c": first})
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.problems == (
        f"{second} is in the folder but not named by the index",
        f"'c' is not in {first}, where the index puts it",
        f"'b' is in {first}, but the index does not name it",
    )


def test_torch_missing_names_the_extra(tmp_path, monkeypatch):
    path = saved(tmp_path, {"w": torch.zeros(2)})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stockpot\[torch\]'"):
        open_checkpoint(path)


def test_safetensors_are_read_without_torch(tmp_path, write_u8):
    path = write_u8(tmp_path / "model.safetensors", {"w": 3})
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from stockpot.checkpoints import *\n"
        f"with open_checkpoint({str(path)!r}) as checkpoint: checkpoint.read_into('w', memoryview(bytearray(3)), 0)\n"
        f"digest_of({str(path)!r}); ingredients({str(path)!r})"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
