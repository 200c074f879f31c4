"""Digests: the file's own SHA-256, stable under renamed folders, remembered only when asked to."""

from __future__ import annotations

import hashlib
import os

import pytest

from stockpot.checkpoints import digest_of, header_digest, open_checkpoint, size_of
from stockpot.errors import CheckpointError


def test_one_file_has_its_sha256(tmp_path, write_u8):
    path = write_u8(tmp_path / "model.safetensors", {"w": 1000})
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest_of(path) == digest_of(tmp_path) == digest_of(str(path)) == digest_of([path]) == expected
    assert size_of(path) == size_of(tmp_path) == path.stat().st_size


def test_shards_have_the_digest_of_their_list(tmp_path, write_sharded):
    folder = write_sharded(tmp_path / "model", [{"a": 2}, {"b": 3}])
    shards = sorted(folder.glob("*.safetensors"))
    lines = "".join(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in shards)
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert digest_of(folder) == digest_of(shards) == digest_of(shards[::-1]) == expected
    assert size_of(folder) == sum(path.stat().st_size for path in shards)
    folder.rename(tmp_path / "renamed")
    assert digest_of(tmp_path / "renamed") == expected


def test_memory_is_used_when_given_and_never_otherwise(tmp_path, write_u8):
    path = write_u8(tmp_path / "model.safetensors", {"w": 1000})
    memory: dict[str, str] = {}
    right = digest_of(path, memory=memory)
    ((key, remembered),) = memory.items()
    stat = path.stat()
    assert key == f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    assert remembered == right
    memory[key] = "remembered"
    assert digest_of(path, memory=memory) == "remembered"
    assert digest_of(path) == right
    os.utime(path, ns=(0, 0))
    assert digest_of(path, memory=memory) == right


def test_a_header_digest_tells_specs_apart_not_values(tmp_path, write_u8):
    first = write_u8(tmp_path / "a.safetensors", {"v": 1, "w": 2})
    same = tmp_path / "b.safetensors"
    same.write_bytes(first.read_bytes()[:-1] + b"\xff")
    others = [
        write_u8(tmp_path / "c.safetensors", {"v": 2, "w": 1}),
        write_u8(tmp_path / "d.safetensors", {"w": 2, "v": 1}),
        write_u8(tmp_path / "e.safetensors", {"v": 1, "w": 2}, {"tied": "w"}),
    ]
    assert header_digest(first) == header_digest(same)
    assert len({header_digest(first), *map(header_digest, others)}) == 4
    with open_checkpoint(first) as checkpoint:
        assert header_digest(checkpoint) == header_digest(first)
        checkpoint.read_into("v", memoryview(bytearray(1)), 0)


@pytest.mark.parametrize("measure", [digest_of, size_of])
def test_a_missing_file_is_named(measure, tmp_path, write_sharded):
    with pytest.raises(CheckpointError, match="gone"):
        measure([tmp_path / "gone"])
    folder = write_sharded(tmp_path / "model", [{"a": 2}, {"b": 3}])
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="named by the index but not in the folder"):
        measure(folder)
