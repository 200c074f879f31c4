"""The living threat model of files that lie: an error that names the file, never a crash or a wrong tensor."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from stockpot.checkpoints import open_checkpoint
from stockpot.errors import CheckpointError


def entry(dtype="U8", shape=(2,), offsets=(0, 2), **extra):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **extra}


HOSTILE_HEADERS = {
    "no JSON": (b"{nonsense", b"", "not JSON"),
    "no object": (b"[1, 2]", b"", "not JSON"),
    "leading space": (b" {}", b"", "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "not valid Unicode"),
    "half a character": (b'{"\\ud800": 1}', b"", "not valid Unicode"),
    "duplicate tensor": (b'{"w": %b, "w": %b}' % ((json.dumps(entry()).encode(),) * 2), b"ab", "'w' occurs twice"),
    "duplicate key in an entry": (b'{"w": {"dtype": "U8", "dtype": "I8"}}', b"", "'dtype' occurs twice"),
    "NaN": (b'{"w": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 0]}}', b"", "NaN"),
    "deep nesting": (b'{"w": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", "nested too deeply"),
    "endless integer": (b'{"w": ' + b"9" * 5_000 + b"}", b"", "not JSON"),
    "trailing bytes": (b"{} {}", b"", "not JSON"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
    "metadata list": ({"__metadata__": ["a"]}, b"", "__metadata__"),
    "entry a list": ({"w": [1]}, b"", "'w': needs exactly"),
    "entry without offsets": ({"w": {"dtype": "U8", "shape": [2]}}, b"ab", "needs exactly"),
    "entry with surplus key": ({"w": entry(file="/etc/passwd")}, b"ab", "needs exactly"),
    "unknown dtype": ({"w": entry("F7")}, b"ab", "unknown dtype 'F7'; known are F64"),
    "complex dtype": ({"w": entry("C64", (1,), (0, 8))}, b"a" * 8, "unknown dtype"),
    "dtype a list": ({"w": entry(["U8"])}, b"ab", "unknown dtype"),
    "negative dimension": ({"w": entry(shape=(-2,))}, b"ab", "shape must be"),
    "two negative dimensions": ({"w": entry(shape=(-1, -2))}, b"ab", "shape must be"),
    "fractional dimension": ({"w": entry(shape=(2.0,))}, b"ab", "shape must be"),
    "true as a dimension": ({"w": entry(shape=(True, 2))}, b"ab", "shape must be"),
    "dimension beyond 2^63": ({"w": entry(shape=(2**64, 0), offsets=(0, 0))}, b"", "shape must be"),
    "product beyond 2^64": ({"w": entry(shape=(2**32, 2**32), offsets=(0, 0))}, b"", "needs 18446744073709551616"),
    "negative offset": ({"w": entry(offsets=(-2, 0))}, b"ab", "data_offsets must be"),
    "end before begin": ({"w": entry(offsets=(2, 0))}, b"ab", "data_offsets must be"),
    "three offsets": ({"w": entry(offsets=(0, 1, 2))}, b"ab", "data_offsets must be"),
    "span of another size": ({"w": entry(offsets=(0, 3))}, b"abc", "needs 2 bytes, but data_offsets [0, 3] span 3"),
    "span too small for dtype": ({"w": entry("F32")}, b"ab", "needs 8 bytes"),
    "overlap": ({"v": entry(), "w": entry(offsets=(1, 3))}, b"abc", "'w' overlaps 'v'"),
    "same bytes twice": ({"v": entry(), "w": entry()}, b"ab", "overlaps"),
    "hole at the start": ({"w": entry(offsets=(1, 3))}, b"abc", "'w' leaves a hole after the header"),
    "hole between": ({"v": entry(), "w": entry(offsets=(3, 5))}, b"abcde", "'w' leaves a hole after 'v'"),
    "data too short": ({"w": entry()}, b"a", "truncated: the header describes 2 bytes of tensors, 1 are there"),
    "data too long": ({"w": entry()}, b"abc", "bytes after its last tensor"),
    "zero-size tensor beyond the end": ({"w": entry(shape=(0,), offsets=(9, 9))}, b"", "hole"),
    "no tensors": ({}, b"", "holds no tensors"),
}  # fmt: skip


@pytest.mark.parametrize(("header", "data", "expected"), HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS.keys())
def test_a_lying_header_is_refused(header, data, expected, tmp_path, make_bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(make_bytes(header, data))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("length", [3, 100_000_001, 2**32, 2**63, 2**64 - 1])
def test_a_lying_length_allocates_nothing(length, tmp_path, make_bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(make_bytes(b"{}", length=length))
    with pytest.raises(CheckpointError, match=f"a header of {length:,} bytes"):
        open_checkpoint(path)


def test_a_header_beyond_the_limit_is_refused_even_where_the_file_is_large_enough(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)  # sparse: takes no room
    with pytest.raises(CheckpointError, match="at most 100,000,000 are possible"):
        open_checkpoint(path)


def test_all_wrong_entries_are_listed_at_once(tmp_path, make_bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(make_bytes({"a": entry("F7"), "b": entry(), "c": entry(shape=(-1,))}, b"ab"))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("content", [b"", b"\x01", b"1234567"])
def test_tiny_files_are_refused(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is empty|holds \d bytes"):
        open_checkpoint(path)


def test_every_truncation_is_refused(tmp_path, write_u8):
    whole = write_u8(tmp_path / "whole.safetensors", {"v": 3, "w": 4}).read_bytes()
    path = tmp_path / "model.safetensors"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            open_checkpoint(path)


def test_random_bytes_never_crash_the_parser(tmp_path, make_bytes):
    generator = random.Random(0)
    path = tmp_path / "model.safetensors"
    for _ in range(300):
        noise = generator.randbytes(generator.randrange(64))
        path.write_bytes(noise if generator.random() < 0.3 else make_bytes(b"{" + noise))
        with pytest.raises(CheckpointError):
            open_checkpoint(path)


def test_flipped_header_bytes_never_crash_the_parser(tmp_path, write_u8, read_whole):
    generator = random.Random(1)
    whole = bytearray(write_u8(tmp_path / "whole.safetensors", {"v": 3, "w": 4}).read_bytes())
    path = tmp_path / "model.safetensors"
    for _ in range(500):
        changed = whole.copy()
        changed[generator.randrange(len(changed))] = generator.randrange(256)
        path.write_bytes(changed)
        try:
            with open_checkpoint(path) as checkpoint:
                read_whole(checkpoint)
        except CheckpointError:
            pass  # either whole or refused


@pytest.mark.parametrize(
    "shard",
    ["../w.safetensors", "/etc/w.safetensors", "a/../../w.safetensors", "..\\w.safetensors", "C:\\w.safetensors"],
)
def test_an_index_cannot_point_outside_its_folder(shard, tmp_path, write_sharded, write_u8):
    write_u8(tmp_path / "w.safetensors", {"w": 2})
    folder = write_sharded(tmp_path / "model", [{"v": 2}], {"v": "model-00001-of-00001.safetensors", "w": shard})
    with pytest.raises(CheckpointError, match="points outside the folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": {}}',
     '{"weight_map": [1]}', '{"weight_map": {"w": 1}}', '{"weight_map": {"w": ""}}',
     '{"weight_map": {"w": "a", "w": "b"}}', '{"weight_map": {"w": "a\\u0000b"}}'],
)  # fmt: skip
def test_a_damaged_index_is_refused(text, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json: "):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("special", ["fifo", "directory loop"])
def test_what_is_no_file_is_not_opened(special, tmp_path):
    path = tmp_path / "model.safetensors"
    if special == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
    with pytest.raises(CheckpointError, match="no weights"):
        open_checkpoint(tmp_path)


class Bomb:
    """Leaves a trace if a pickle runs it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "pytorch_model.bin", "model.ckpt"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_malicious_pickle_is_refused_and_does_not_run(name, is_zip, tmp_path):
    torch = pytest.importorskip("torch")
    trace = tmp_path / "executed"
    path = tmp_path / name
    torch.save({"w": torch.zeros(2), "x": Bomb(trace)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match=r"contains code other than tensors \(\w+\.mkdir\)") as caught:
        open_checkpoint(path)
    assert not trace.exists()
    assert "safetensors" in caught.value.fix


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path):
    pytest.importorskip("torch")
    import pickle

    trace = tmp_path / "executed"
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
    assert not trace.exists()


def test_a_malicious_shard_is_refused_and_does_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    trace = tmp_path / "executed"
    torch.save({"w": Bomb(trace)}, tmp_path / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"w": "pytorch_model-00001-of-00001.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="contains code"):
        open_checkpoint(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(500), bytes(100), b"hello, world"])
def test_damaged_pytorch_files_are_refused(content, tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        open_checkpoint(path)


def test_truncated_pytorch_files_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.arange(100)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    path = tmp_path / "model.pt"
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
