"""Checkpoints out: what is written reads back, by our reader and by safetensors' own, whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.checkpoints import open_checkpoint, parse_size, write_checkpoint, writer
from stockpot.errors import ConfigError, OutputError
from stockpot.types import ITEM_BYTES, TensorSpec


@dataclass
class Piece:
    name: str
    spec: TensorSpec
    start: int
    data: memoryview


def pieces(specs, chunk_bytes=10**6):
    """Chunks of deterministic contents, as the kernel would give them."""
    for name, spec in specs.items():
        data = memoryview(contents(name, spec))
        for start in range(0, max(spec.nbytes, 1), chunk_bytes):
            yield Piece(name, spec, start, data[start : start + chunk_bytes])


def contents(name, spec) -> bytes:
    bits = np.random.default_rng(len(name) + spec.nbytes).integers(0, 2, spec.nbytes, dtype=np.uint8)
    return bits.tobytes()  # zeros and ones are valid in every dtype, bool included


def u8(*sizes):
    return {f"t{number}": TensorSpec("U8", (size,)) for number, size in enumerate(sizes)}


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__")
SPECS = st.builds(TensorSpec, st.sampled_from(sorted(ITEM_BYTES)), st.lists(st.integers(0, 4), max_size=3).map(tuple))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    specs=st.dictionaries(NAMES, SPECS, min_size=1, max_size=8),
    max_shard_bytes=st.integers(1, 300),
    chunk_bytes=st.integers(1, 64),
)
def test_what_is_written_reads_back(specs, max_shard_bytes, chunk_bytes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    names = write_checkpoint(pieces(specs, chunk_bytes), folder, specs=specs, max_shard_bytes=max_shard_bytes)
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    with open_checkpoint(folder) as checkpoint:
        assert dict(checkpoint.specs) == specs
        for name, spec in specs.items():
            buffer = bytearray(spec.nbytes)
            checkpoint.read_into(name, memoryview(buffer), 0)
            assert buffer == contents(name, spec)
    assert read_by_safetensors(folder, names) == {
        name: (spec.dtype, list(spec.shape), contents(name, spec)) for name, spec in specs.items()
    }
    shutil.rmtree(folder)


def read_by_safetensors(folder, names):
    """Through the reference implementation, which checks each file in its own way."""
    return {
        name: (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
        for file_name in names
        if file_name.endswith(".safetensors")
        for name, tensor in safetensors.deserialize((folder / file_name).read_bytes())
    }


def test_safe_open_reads_it(tmp_path):
    specs = {"w": TensorSpec("F32", (2, 3)), "odd": TensorSpec("U8", (3,)), "after odd": TensorSpec("F64", (2,))}
    write_checkpoint(pieces(specs), tmp_path, specs=specs)
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
        for name, spec in specs.items():
            assert file.get_tensor(name).tobytes() == contents(name, spec)


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ((4, 4), 8, [[0, 1]]),
        ((4, 4), 7, [[0], [1]]),
        ((4, 4, 1), 8, [[0, 1], [2]]),
        ((4, 0, 4, 0), 4, [[0, 1], [2, 3]]),
        ((9, 1, 1), 2, [[0], [1, 2]]),
        ((1, 9, 1), 2, [[0], [1], [2]]),
        ((0, 0), 1, [[0, 1]]),
    ],
)
def test_shards_are_cut_where_the_next_tensor_would_not_fit(sizes, limit, expected, tmp_path):
    specs = u8(*sizes)
    names = write_checkpoint(pieces(specs), tmp_path, specs=specs, max_shard_bytes=limit)
    if len(expected) == 1:
        assert names == ("model.safetensors",)
        return
    shards = [f"model-{number:05d}-of-{len(expected):05d}.safetensors" for number in range(1, len(expected) + 1)]
    assert names == (*shards, "model.safetensors.index.json")
    index = json.loads((tmp_path / names[-1]).read_text())
    assert index["metadata"] == {"total_size": sum(sizes)}
    assert index["weight_map"] == {
        f"t{number}": shard for shard, group in zip(shards, expected, strict=True) for number in group
    }


def test_headers_are_padded_with_spaces_to_multiples_of_8(tmp_path):
    specs = {"w": TensorSpec("U8", (3,))}
    for extra in range(8):
        write_checkpoint(pieces(specs), tmp_path, specs=specs, metadata={"note": "x" * extra})
        content = (tmp_path / "model.safetensors").read_bytes()
        length = int.from_bytes(content[:8], "little")
        assert length % 8 == 0
        assert content[8 : 8 + length].rstrip(b" ").endswith(b"}")


def test_ties_are_declared_where_the_stored_tensor_is(tmp_path):
    specs = u8(4, 4)
    write_checkpoint(pieces(specs), tmp_path, specs=specs, tied={"head": "t1"}, max_shard_bytes=4)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tied == {"head": "t1"}
    with safetensors.safe_open(tmp_path / "model-00002-of-00002.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt", "head": "t1"}


@pytest.mark.parametrize("alias", ["format", "t0"])
def test_a_tied_name_that_is_taken_is_refused(alias, tmp_path):
    specs = u8(4, 4)
    with pytest.raises(OutputError, match="taken already"):
        write_checkpoint(pieces(specs), tmp_path, specs=specs, tied={alias: "t1"})
    assert not [*tmp_path.iterdir()]


def wrong_streams():
    specs = u8(4, 2)
    right = list(pieces(specs, 2))
    return specs, {
        "nothing": [],
        "incomplete tensor": right[:1],
        "missing tensor": right[:2],
        "out of order": [right[2], *right[:2]],
        "repeated": [right[0], right[0], *right[1:]],
        "gap": [right[1], right[2]],
        "one too many": [*right, right[2]],
        "other spec": [Piece("t0", TensorSpec("I8", (4,)), 0, memoryview(b"abcd"))],
        "too long": [Piece("t0", specs["t0"], 0, memoryview(b"abcde")), right[2]],
    }


@pytest.mark.parametrize("case", wrong_streams()[1])
def test_a_wrong_stream_is_a_defect_and_leaves_no_partial_file(case, tmp_path):
    specs, streams = wrong_streams()
    with pytest.raises(AssertionError):
        write_checkpoint(streams[case], tmp_path, specs=specs)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_a_stream_that_fails_midway_leaves_no_file(tmp_path):
    def failing():
        yield next(pieces(u8(4)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(failing(), tmp_path, specs=u8(4, 4))
    assert not [*tmp_path.iterdir()]


def test_a_disk_too_small_is_refused_before_the_first_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_space", lambda folder: (100, 10))
    with pytest.raises(OutputError, match=r"needs [\d,]+ bytes, 10 are free"):
        write_checkpoint(iter(()), tmp_path, specs=u8(4))
    assert not [*tmp_path.iterdir()]


def test_the_space_of_a_disk_is_what_shutil_says(tmp_path, monkeypatch):
    total, free = writer._space(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    assert total == usage.total
    assert abs(free - usage.free) < 0.2 * total  # other processes write, too
    monkeypatch.delattr(writer.os, "statvfs", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    assert writer._space(tmp_path) == (100, 10)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, "are free"), (errno.EDQUOT, "are free"), (errno.EIO, "cannot be written")],
)
def test_a_disk_that_refuses_is_explained(number, expected, tmp_path):
    def refusing():
        yield next(pieces(u8(4)))
        raise OSError(number, "refused")

    with pytest.raises(OutputError, match=expected):
        write_checkpoint(refusing(), tmp_path, specs=u8(4, 4))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("limit", [0, -1])
def test_shards_need_a_size(limit, tmp_path):
    with pytest.raises(ConfigError):
        write_checkpoint(pieces(u8(4)), tmp_path, specs=u8(4), max_shard_bytes=limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5GB", 5 * 10**9), ("5 gb", 5 * 10**9), ("500MB", 5 * 10**8), ("1KiB", 1024), ("2GiB", 2**31), ("1.5kB", 1500),
     ("7", 7), (7, 7), ("7B", 7), ("1TB", 10**12), (str(2**63 + 1), 2**63 + 1)],
)  # fmt: skip
def test_sizes(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "5G", "-5GB", "5 apples", "0", "0GB", "0.1B", "1e9", "nan", -1, "5iB"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)
