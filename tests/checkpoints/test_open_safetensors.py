"""Safetensors in: files, folders, shards, ties."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from stockpot.checkpoints import open_checkpoint
from stockpot.errors import CheckpointError
from stockpot.types import Checkpoint, TensorSpec


def test_it_satisfies_the_protocol_and_keeps_file_order(tmp_path, write_u8):
    path = write_u8(tmp_path / "model.safetensors", {"z": 2, "a": 3, "empty": 0, "m": 1}, {"note": "hello"})
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint, Checkpoint)
        assert [name for name in checkpoint.specs if name != "empty"] == ["z", "a", "m"]
        assert checkpoint.specs["a"] == TensorSpec("U8", (3,))
        assert checkpoint.metadata == {"note": "hello"}
        assert checkpoint.weight_files == (path,)
        assert checkpoint.folder is None
        assert checkpoint.source == str(path)
        assert checkpoint.tied == {}


def test_a_folder_is_where_side_files_lie(tmp_path, write_u8):
    write_u8(tmp_path / "model.safetensors", {"w": 2})
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.folder == tmp_path
        assert checkpoint.notes == ()


def test_reading_any_range_gives_the_files_bytes(tmp_path):
    values = np.arange(37, dtype=np.float32)
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"v": values[:5].copy(), "w": values}, path)
    with open_checkpoint(path) as checkpoint:
        for start in (0, 1, 3, 7, 146, 148):
            for size in (0, 1, 2, 3, 5, 148 - start):
                if start + size <= 148:
                    buffer = bytearray(size)
                    checkpoint.read_into("w", memoryview(buffer), start)
                    assert buffer == values.tobytes()[start : start + size]


def test_buffers_of_any_item_type_are_filled(tmp_path):
    values = np.arange(6, dtype=np.float32)
    safetensors.numpy.save_file({"w": values}, tmp_path / "model.safetensors")
    buffer = np.zeros((2, 2), np.float32)
    with open_checkpoint(tmp_path) as checkpoint:
        checkpoint.read_into("w", memoryview(buffer), 8)
    assert buffer.ravel().tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(("start", "size"), [(-1, 2), (0, 4), (3, 1), (2, 2)])
def test_a_range_outside_the_tensor_is_a_defect_of_the_caller(start, size, tmp_path, write_u8):
    with (
        open_checkpoint(write_u8(tmp_path / "m.safetensors", {"v": 3, "w": 9})) as checkpoint,
        pytest.raises(ValueError, match="'v', which has 3"),
    ):
        checkpoint.read_into("v", memoryview(bytearray(size)), start)


def test_short_reads_are_continued(tmp_path, write_u8, read_whole, monkeypatch):
    path = write_u8(tmp_path / "model.safetensors", {"w": 100})
    with open_checkpoint(path) as checkpoint:
        expected = read_whole(checkpoint)
    whole_read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: whole_read(fd, [buffers[0][:7]], offset))
    with open_checkpoint(path) as checkpoint:
        assert read_whole(checkpoint) == expected


def test_hosts_without_preadv_read_the_same(tmp_path, write_u8, read_whole, monkeypatch):
    path = write_u8(tmp_path / "model.safetensors", {"w": 100})
    with open_checkpoint(path) as checkpoint:
        expected = read_whole(checkpoint)
    monkeypatch.delattr(os, "preadv")
    with open_checkpoint(path) as checkpoint:
        assert read_whole(checkpoint) == expected


def test_a_closed_checkpoint_cannot_be_read(tmp_path, write_u8):
    checkpoint = open_checkpoint(write_u8(tmp_path / "m.safetensors", {"w": 3}))
    checkpoint.close()
    checkpoint.close()
    with pytest.raises(CheckpointError, match="is closed"):
        checkpoint.read_into("w", memoryview(bytearray(3)), 0)


def test_a_file_replaced_after_opening_is_noticed(tmp_path, write_u8):
    path = write_u8(tmp_path / "m.safetensors", {"w": 3})
    with open_checkpoint(path) as checkpoint:
        path.unlink()
        write_u8(path, {"v": 1, "w": 3})
        with pytest.raises(CheckpointError, match="replaced or written to"):
            checkpoint.read_into("w", memoryview(bytearray(3)), 0)


def test_a_file_truncated_while_open_is_noticed(tmp_path, write_u8):
    path = write_u8(tmp_path / "m.safetensors", {"v": 3, "w": 3})
    with open_checkpoint(path) as checkpoint:
        checkpoint.read_into("v", memoryview(bytearray(3)), 0)
        os.truncate(path, path.stat().st_size - 2)
        with pytest.raises(CheckpointError, match="ended at byte"):
            checkpoint.read_into("w", memoryview(bytearray(3)), 0)


def test_a_tensor_named_like_an_unknown_one_is_a_key_error(tmp_path, write_u8):
    with open_checkpoint(write_u8(tmp_path / "m.safetensors", {"w": 3})) as checkpoint, pytest.raises(KeyError):
        checkpoint.read_into("v", memoryview(bytearray(1)), 0)


def test_declared_ties_are_read(tmp_path, write_u8):
    metadata = {"format": "w", "head": "w", "w": "v", "title": "no tensor"}
    with open_checkpoint(write_u8(tmp_path / "m.safetensors", {"v": 1, "w": 2}, metadata)) as checkpoint:
        assert checkpoint.tied == {"head": "w"}
        buffer = bytearray(2)
        checkpoint.read_into("head", memoryview(buffer), 0)
        assert buffer == b"\x01\x02"


def test_ties_written_by_safetensors_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    model = torch.nn.ModuleDict({"embedding": torch.nn.Linear(2, 3, bias=False), "head": torch.nn.Linear(2, 3)})
    model["head"].weight = model["embedding"].weight
    safetensors.torch.save_model(model, str(tmp_path / "model.safetensors"))
    with open_checkpoint(tmp_path) as checkpoint:
        assert {*checkpoint.specs, *checkpoint.tied} == {"embedding.weight", "head.weight", "head.bias"}
        assert len(checkpoint.tied) == 1


def test_a_key_makes_no_sense_for_safetensors(tmp_path, write_u8):
    with pytest.raises(CheckpointError, match="one state dict only"):
        open_checkpoint(write_u8(tmp_path / "m.safetensors", {"w": 3}), key="ema")


def test_shards_read_as_one(tmp_path, write_sharded, read_whole):
    folder = write_sharded(tmp_path / "model", [{"a": 2, "b": 3}, {"c": 4}])
    with open_checkpoint(folder) as checkpoint:
        assert {name: len(data) for name, data in read_whole(checkpoint).items()} == {"a": 2, "b": 3, "c": 4}
        assert [path.name[:11] for path in checkpoint.weight_files] == ["model-00001", "model-00002"]
    with open_checkpoint(folder / "model.safetensors.index.json") as checkpoint:
        assert list(checkpoint.specs) == ["a", "b", "c"]


def test_everything_wrong_between_index_and_shards_is_listed_at_once(tmp_path, write_sharded, write_u8):
    shard = "model-0000{}-of-00004.safetensors".format
    weight_map = {"a": shard(1), "gone": shard(1), "c": shard(1), "m": shard(3)}
    folder = write_sharded(tmp_path / "model", [{"a": 1, "surplus": 1}, {"c": 1}, {"m": 1}, {"x": 1}], weight_map)
    (folder / shard(3)).unlink()
    with pytest.raises(CheckpointError, match="index and shards disagree") as caught:
        open_checkpoint(folder)
    assert caught.value.problems == (
        f"{shard(3)} is named by the index but not in the folder",
        f"{shard(2)} is in the folder but not named by the index",
        f"{shard(4)} is in the folder but not named by the index",
        f"'gone' is not in {shard(1)}, where the index puts it",
        f"'c' is not in {shard(1)}, where the index puts it",
        f"'surplus' is in {shard(1)}, but the index does not name it",
    )


def test_a_tensor_in_two_shards_is_refused(tmp_path, write_sharded):
    shard = "model-0000{}-of-00002.safetensors".format
    folder = write_sharded(tmp_path / "model", [{"a": 1}, {"a": 1, "b": 1}], {"a": shard(1), "b": shard(2)})
    with pytest.raises(CheckpointError, match=f"'a' is in {shard(2)}, but the index puts it in {shard(1)}"):
        open_checkpoint(folder)


def test_a_damaged_shard_is_listed_with_the_rest(tmp_path, write_sharded):
    folder = write_sharded(tmp_path / "model", [{"a": 1}, {"b": 1}])
    for shard in folder.glob("*.safetensors"):
        shard.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert len(caught.value.problems) == 2


def test_shards_of_an_earlier_save_do_not_disturb(tmp_path, write_sharded, write_u8):
    folder = write_sharded(tmp_path / "model", [{"a": 1}, {"b": 1}])
    write_u8(folder / "model-00001-of-00003.safetensors", {"a": 1})
    with open_checkpoint(folder) as checkpoint:
        assert list(checkpoint.specs) == ["a", "b"]


def n_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_hundreds_of_checkpoints_need_few_descriptors(tmp_path, write_sharded, read_whole):
    folder = write_sharded(tmp_path / "model", [{f"t{number}": 3} for number in range(20)])
    before = n_open_files()
    opened = [open_checkpoint(folder) for _ in range(100)]
    assert n_open_files() == before
    for checkpoint in opened:
        read_whole(checkpoint)
    assert n_open_files() <= before + 100
    for checkpoint in opened:
        checkpoint.close()
    assert n_open_files() == before


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"w":{"dtype":"U8","shape":[4000000000],"data_offsets":[0,4000000000]}}'
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 4_000_000_000)  # sparse
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_checkpoint(path) as checkpoint:
        buffer = bytearray(b"x" * 10)
        checkpoint.read_into("w", memoryview(buffer), 3_999_999_990)
    assert buffer == bytes(10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
