"""Hand-made safetensors bytes, right and wrong, and checkpoints read back whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stockpot.types import Checkpoint


def safetensors_bytes(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def tensors_header(
    tensors: Mapping[str, int], metadata: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], bytes]:
    """A right header and data for one-dimensional U8 tensors of the given sizes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [begin, begin + size]}
        begin += size
    return header, bytes(position % 251 for position in range(begin))


@pytest.fixture
def make_bytes() -> Callable[..., bytes]:
    return safetensors_bytes


@pytest.fixture
def write_u8() -> Callable[..., Path]:
    """Writes a right safetensors file of U8 tensors."""

    def write(path: Path, tensors: Mapping[str, int], metadata: Mapping[str, str] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(safetensors_bytes(*tensors_header(tensors, metadata)))
        return path

    return write


@pytest.fixture
def write_sharded(write_u8: Callable[..., Path]) -> Callable[..., Path]:
    """Writes shards of U8 tensors and their index; returns the folder."""

    def write(folder: Path, shards: list[dict[str, int]], weight_map: Mapping[str, Any] | None = None) -> Path:
        names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
        for name, tensors in zip(names, shards, strict=True):
            write_u8(folder / name, tensors)
        right = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
        index = {"metadata": {"total_size": -1}, "weight_map": right if weight_map is None else weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder

    return write


@pytest.fixture
def read_whole() -> Callable[[Checkpoint], dict[str, bytes]]:
    def read(checkpoint: Checkpoint) -> dict[str, bytes]:
        contents = {}
        for name, spec in checkpoint.specs.items():
            buffer = bytearray(spec.nbytes)
            checkpoint.read_into(name, memoryview(buffer), 0)
            contents[name] = bytes(buffer)
        return contents

    return read
