"""Mapped PyTorch files are read from the file wherever the places are certain, and from the map otherwise."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

from stockpot.checkpoints import open_checkpoint
from stockpot.checkpoints.mapped import _base
from stockpot.checkpoints.pickles import load_pickle
from stockpot.errors import CheckpointError

torch = pytest.importorskip("torch")
PAGE = mmap.PAGESIZE


@pytest.mark.parametrize(
    ("storages", "records", "expected"),
    [
        ({7 * PAGE + 64: 8, 7 * PAGE + 128: 4}, {0: 3, 64: 8, 128: 4}, 7 * PAGE),
        ({7 * PAGE + 64: 8}, {64: 8, 64 + PAGE: 8}, None),
        ({7 * PAGE + 64: 8, 8 * PAGE + 64: 8}, {64: 8, 64 + PAGE: 8}, 7 * PAGE),
        ({7 * PAGE + 65: 8}, {64: 8}, None),
        ({7 * PAGE + 64: 8}, {64: 9}, None),
        ({7 * PAGE + 64: 8, 7 * PAGE + 128: 4}, {64: 8}, None),
        ({7 * PAGE + 64: 8}, {}, None),
        ({}, {64: 8}, None),
    ],
)
def test_only_a_certain_base_is_taken(storages, records, expected):
    assert _base(storages, records) == expected


def models(n_copies):
    generator = torch.Generator().manual_seed(0)
    return {f"copy{n}": {f"t{i}": torch.rand(PAGE, generator=generator) for i in range(3)} for n in range(n_copies)}


@pytest.mark.parametrize("n_copies", [1, 2, 5])
def test_every_tensor_is_found_even_among_equal_ones(n_copies, tmp_path):
    value = models(n_copies)
    torch.save(value, tmp_path / "model.pt")
    loaded = load_pickle(tmp_path / "model.pt")
    assert len(loaded.ranges) == 3 * n_copies
    content = (tmp_path / "model.pt").read_bytes()
    for copy, tensors in loaded.value.items():
        for name, tensor in tensors.items():
            place = loaded.ranges[tensor.data_ptr()]
            expected = value[copy][name].numpy().tobytes()
            assert content[place.offset : place.offset + len(expected)] == expected


def test_views_into_one_storage_have_their_own_places(tmp_path, read_whole):
    base = torch.arange(100.0)
    torch.save({"all": base, "tail": base[30:], "steps": base[::2]}, tmp_path / "model.pt")
    with open_checkpoint(tmp_path / "model.pt") as checkpoint:
        contents = read_whole(checkpoint)
    assert contents["tail"] == base[30:].numpy().tobytes()
    assert contents["steps"] == base[::2].numpy().tobytes()


def test_without_certain_places_the_map_is_read(tmp_path, read_whole, monkeypatch):
    monkeypatch.setattr("stockpot.checkpoints.mapped._record_sizes", lambda path: {})
    value = models(1)["copy0"]
    torch.save(value, tmp_path / "model.pt")
    assert load_pickle(tmp_path / "model.pt").ranges == {}
    with open_checkpoint(tmp_path / "model.pt") as checkpoint:
        assert read_whole(checkpoint) == {name: tensor.numpy().tobytes() for name, tensor in value.items()}


def test_a_file_replaced_after_opening_is_noticed(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(100)}, path)
    with open_checkpoint(path) as checkpoint:
        path.unlink()
        torch.save({"w": torch.ones(100)}, path)
        with pytest.raises(CheckpointError, match="replaced or written to"):
            checkpoint.read_into("w", memoryview(bytearray(4)), 0)


SCRIPT = """
import resource, sys
from stockpot.checkpoints import open_checkpoint
import torch
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
buffer = memoryview(bytearray(2**20))
torch.load(sys.argv[1], mmap=True, weights_only=True)
before = peak()
with open_checkpoint(sys.argv[1]) as checkpoint:
    for name, spec in checkpoint.specs.items():
        for start in range(0, spec.nbytes, len(buffer)):
            checkpoint.read_into(name, buffer, start)
assert peak() - before < 20_000, (before, peak())
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    torch.save({f"t{n}": torch.zeros(2**21) for n in range(8)}, tmp_path / "model.pt")  # 64 MiB
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "model.pt")], check=True)
