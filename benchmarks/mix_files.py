"""Checkpoints of realistic shapes and random weights for `mix.py`, and a check of a blend against exact arithmetic."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["bert", "language_model", "n_wrong", "of_size", "write_set", "write_shards"]

Shapes = dict[str, tuple[int, ...]]
Array = np.ndarray[Any, Any]
_BLOCK = 2**20
_ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2}


def bert(vocabulary: int = 30_522, width: int = 768, n_layers: int = 12) -> Shapes:
    """BERT-base by default: 438 MB in float32."""
    shapes: Shapes = {"embeddings.word.weight": (vocabulary, width), "embeddings.position.weight": (512, width)}
    for i in range(n_layers):
        for name in ("query", "key", "value", "output"):
            shapes |= _linear(f"layer.{i}.{name}", width, width)
        shapes |= _linear(f"layer.{i}.up", 4 * width, width) | _linear(f"layer.{i}.down", width, 4 * width)
        for name in ("norm1", "norm2"):
            shapes |= {f"layer.{i}.{name}.weight": (width,), f"layer.{i}.{name}.bias": (width,)}
    return shapes | _linear("pooler", width, width) | _linear("classifier", 2, width)


def language_model(n_layers: int = 24) -> Shapes:
    """A 0.5-billion-parameter language model by default: 988 MB in 16 bits."""
    width, inner, shared = 896, 4_864, 128
    shapes: Shapes = {"embed.weight": (151_936, width), "norm.weight": (width,)}
    for i in range(n_layers):
        shapes |= _linear(f"layers.{i}.q", width, width) | _linear(f"layers.{i}.k", shared, width)
        shapes |= _linear(f"layers.{i}.v", shared, width)
        shapes |= {f"layers.{i}.o.weight": (width, width), f"layers.{i}.down.weight": (width, inner)}
        shapes |= {f"layers.{i}.{name}.weight": (inner, width) for name in ("gate", "up")}
        shapes |= {f"layers.{i}.norm{j}.weight": (width,) for j in (1, 2)}
    return shapes


def of_size(n_bytes: int) -> Shapes:
    """As many float32 layers of BERT-base's width as come nearest to a size."""
    a_layer = 4 * sum(math.prod(shape) for name, shape in bert(n_layers=1).items() if name.startswith("layer."))
    n_layers = max(1, round(n_bytes / a_layer)) if n_bytes > a_layer else 1
    width = 768 if n_bytes > a_layer else 448
    return {name: shape for name, shape in bert(1, width, n_layers).items() if name.startswith("layer.")}


def _linear(name: str, n_out: int, n_in: int) -> Shapes:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def write_set(folder: Path, shapes: Shapes, dtype: str, k: int) -> list[Path]:
    """k safetensors files of normal numbers around 0 with deviation 0.02; all differ everywhere."""
    folder.mkdir(parents=True)
    pool = _codes(np.random.default_rng(0).normal(0, 0.02, 2**24 + k), dtype)
    paths = [folder / f"{i:02}.safetensors" for i in range(k)]
    for seed, path in enumerate(paths):
        _write(path, shapes, dtype, pool[seed : seed + 2**24])
    return paths


def write_shards(folder: Path, shapes: Shapes, dtype: str, k: int, n_shards: int) -> list[Path]:
    """k folders of one checkpoint each, in shards of about equally many tensors with an index."""
    pool = _codes(np.random.default_rng(0).normal(0, 0.02, 2**24 + k), dtype)
    part_of = {name: position * n_shards // len(shapes) for position, name in enumerate(shapes)}
    folders = []
    for seed in range(k):
        target = folder / f"{seed:02}"
        target.mkdir(parents=True)
        names = [f"model-{part + 1:05}-of-{n_shards:05}.safetensors" for part in range(n_shards)]
        for part, file_name in enumerate(names):
            mine = {name: shape for name, shape in shapes.items() if part_of[name] == part}
            _write(target / file_name, mine, dtype, pool[seed : seed + 2**24])
        index = {"metadata": {}, "weight_map": {name: names[part] for name, part in part_of.items()}}
        (target / "model.safetensors.index.json").write_text(json.dumps(index))
        folders.append(target)
    return folders


def _codes(values: Array, dtype: str) -> Array:
    if dtype == "F32":
        return values.astype("<f4")
    if dtype == "F16":
        return values.astype("<f2")
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2")


def _write(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, pool: Array) -> None:
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + _ITEM_BYTES[dtype] * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, end, pool.nbytes):
            file.write(pool.data.cast("B")[: min(pool.nbytes, end - start)])


def n_wrong(files: Sequence[Path], output: Path, *, n_tensors: int = 6, n_values: int = 20_000) -> tuple[int, int]:
    """How many of some values are not the stored number nearest to the exact mean, and how many were looked at.

    The sum of up to 32 such numbers is exact in 80 bits; the neighbours of each stored value must not be nearer.
    """
    random = np.random.default_rng(1)
    headers = [_header(path) for path in files]
    found, _ = _header(output)
    names = random.choice(sorted(found), min(n_tensors, len(found)), replace=False)
    wrong = seen = 0
    for name in names:
        n = math.prod(found[name]["shape"])
        at = np.sort(random.integers(0, n, min(n_values, n)))
        dtype = found[name]["dtype"]
        mean = sum(_values(path, header, name, at) for path, header in zip(files, headers, strict=True))
        mean = mean / np.longdouble(len(files))
        codes = _stored(output, _header(output), name, at)
        distance = np.abs(_decoded(codes, dtype) - mean)
        for neighbour in (codes + 1, codes - 1):
            wrong += int((np.abs(_decoded(neighbour.astype(codes.dtype), dtype) - mean) < distance).sum())
        seen += len(at)
    return wrong, seen


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries, 8 + length


def _stored(path: Path, header: tuple[dict[str, Any], int], name: str, at: Array) -> Array:
    entry, start = header[0][name], header[1]
    unsigned = np.dtype(f"<u{_ITEM_BYTES[entry['dtype']]}")
    begin, end = entry["data_offsets"]
    mapped = np.memmap(path, np.uint8, "r", start + begin, (end - begin,))
    return np.asarray(mapped.view(unsigned)[at]).copy()


def _values(path: Path, header: tuple[dict[str, Any], int], name: str, at: Array) -> Array:
    return _decoded(_stored(path, header, name, at), header[0][name]["dtype"])


def _decoded(codes: Array, dtype: str) -> Array:
    if dtype == "BF16":
        return (codes.astype("<u4") << 16).view("<f4").astype(np.longdouble)
    return codes.view({"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.longdouble)
