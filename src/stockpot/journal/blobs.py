"""Arrays in one safetensors file each: whole, or as good as absent. A blob carries its checksum and needs no index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from stockpot.outputs.partial import remove, sibling

__all__ = ["Array", "read_blob", "write_blob"]

Array: TypeAlias = np.ndarray[Any, Any]

_CHECKSUM = "sha256"


def write_blob(path: Path, arrays: Mapping[str, Array], about: Mapping[str, Any], *, scratch: Path) -> None:
    """Writes `arrays` under a temporary name in `scratch` (same file system), then renames.

    Raises:
        OSError: the disk is full, no permission.
    """
    import safetensors.numpy

    # safetensors writes the memory of an array, not its elements: views and other byte orders are copied first.
    stored = {name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    metadata = {_CHECKSUM: _checksum(stored), "about": json.dumps(about, sort_keys=True)}
    path.parent.mkdir(exist_ok=True)
    partial = sibling(scratch / path.name, "partial")
    try:
        partial.write_bytes(safetensors.numpy.save(stored, metadata=metadata))
        partial.replace(path)
    finally:
        remove(partial)


def read_blob(path: Path) -> dict[str, Array] | None:
    """The arrays as they were kept; None when there is no such blob.

    Raises:
        ValueError: the blob is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as blob:
            arrays = {name: blob.get_tensor(name) for name in blob.keys()}  # noqa: SIM118 - no mapping, no iteration
            checksum = (blob.metadata() or {}).get(_CHECKSUM)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as exc:
        raise ValueError(f"{path.name} cannot be read: {exc}") from exc
    if checksum != _checksum(arrays):
        raise ValueError(f"{path.name} does not match its checksum")
    return arrays


def _checksum(arrays: Mapping[str, Array]) -> str:
    whole = hashlib.sha256()
    for name in sorted(arrays):
        whole.update(repr((name, arrays[name].dtype.str, arrays[name].shape)).encode())
        whole.update(arrays[name].tobytes())
    return whole.hexdigest()
