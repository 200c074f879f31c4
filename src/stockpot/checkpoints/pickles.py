"""PyTorch's own files, through `torch.load(weights_only=True)` and never otherwise. torch is imported inside functions.

A pickle is a program. `weights_only` runs a small interpreter that knows tensors, containers and numbers; everything
else is refused, so a hostile file gets an error and not a shell.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stockpot.checkpoints.descriptors import DescriptorPool, OpenRange
from stockpot.checkpoints.header import FileIdentity
from stockpot.checkpoints.mapped import FileRange, file_ranges
from stockpot.errors import CheckpointError, MissingExtraError
from stockpot.types import TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = ["TorchReader", "is_tensor", "load_pickle", "spec_of", "split_ties", "unsupported"]

_ZIP_START = b"PK\x03\x04"
_DTYPE_BY_TORCH_NAME = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16",
    "torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2",
    "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8",
    "torch.uint64": "U64", "torch.uint32": "U32", "torch.uint16": "U16", "torch.uint8": "U8", "torch.bool": "BOOL",
}  # fmt: skip
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)|type (?:<class ')?([\w.]+)")
_NOT_DATA = re.compile(r"Unsupported|Trying to (instantiate|call|load)|not (an )?allowed", re.IGNORECASE)
_CONVERT = (
    "if you trust where it comes from, load it there with the code that wrote it and save only "
    "model.state_dict() with safetensors.torch.save_file"
)


class LoadedPickle(NamedTuple):
    """What a file held, and the places of its tensors by their address (empty where unknown)."""

    value: Any
    ranges: Mapping[int, FileRange]


def load_pickle(path: Path) -> LoadedPickle:
    """Loads what a PyTorch file holds: tensors map the file lazily (zip format) or are read whole (older formats).

    Args:
        path: a `.pt`, `.pth`, `.bin` or `.ckpt` file.

    Returns:
        Containers, numbers, texts and tensors, nothing else passes; and where in the file the tensors lie.

    Raises:
        CheckpointError: unreadable, damaged, TorchScript, or it contains code other than tensors.
        MissingExtraError: torch is not installed.
    """
    torch = _import_torch(path)
    try:
        identity = FileIdentity.of(path.stat())
        is_mapped = is_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside torch's own reader of its older formats
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
        return LoadedPickle(value, file_ranges(path, identity, value) if is_mapped else {})
    except Exception as exc:  # the bytes drive an interpreter: they can make it raise anything
        raise _translated(path, exc) from exc


def is_zip(path: Path) -> bool:
    """Whether the file has the format of torch >= 1.6, which can be mapped."""
    with path.open("rb") as file:
        return file.read(len(_ZIP_START)) == _ZIP_START


def is_tensor(value: Any) -> bool:
    """Whether a loaded value is a tensor (parameters included)."""
    import torch

    return isinstance(value, torch.Tensor)


def unsupported(tensor: torch.Tensor) -> str | None:
    """Why a tensor has no plain bytes, or None if it has.

    Example:
        >>> import torch
        >>> unsupported(torch.zeros(2, dtype=torch.complex64))
        'dtype complex64 is not supported'
        >>> unsupported(torch.zeros(2)) is None
        True
    """
    import torch

    if tensor.is_quantized:
        return "is quantised; dequantise it first"
    if tensor.layout != torch.strided:
        return f"has the layout {str(tensor.layout).removeprefix('torch.')}; make it dense first"
    if tensor.is_meta:
        return "has no data (meta device)"
    if str(tensor.dtype) not in _DTYPE_BY_TORCH_NAME:
        return f"dtype {str(tensor.dtype).removeprefix('torch.')} is not supported"
    return None


def spec_of(tensor: torch.Tensor) -> TensorSpec:
    """The spec of a supported tensor."""
    return TensorSpec(_DTYPE_BY_TORCH_NAME[str(tensor.dtype)], tuple(tensor.shape))


def split_ties(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Stored tensors, and names that show exactly the same memory as an earlier one (alias -> stored).

    Tensors that overlap only in part, or see the same memory differently, are stored separately: each is its own
    value once it is blended. Zero-size tensors share nothing, whatever their address.

    Example:
        >>> import torch
        >>> weight = torch.zeros(2)
        >>> list(split_ties({"embedding": weight, "head": weight})[0]), split_ties({"a": weight, "b": weight})[1]
        (['embedding'], {'b': 'a'})
    """
    stored: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    first_by_memory: dict[Any, str] = {}
    for name, tensor in tensors.items():
        memory = (tensor.data_ptr(), str(tensor.dtype), tuple(tensor.shape), tensor.stride())
        first = first_by_memory.setdefault(memory, name) if tensor.numel() else name
        if first == name:
            stored[name] = tensor
        else:
            tied[name] = first
    return stored, tied


class TorchReader:
    """Reads contiguous tensors from their place in the file and copies all others out of memory or map.

    Args:
        tensors: by name, any strides; mapped from the file where its format allows.
        ranges: places in files by address, as far as known.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], ranges: Mapping[int, FileRange]) -> None:
        self._tensors = dict(tensors)
        self._ranges = ranges
        self._files = DescriptorPool()

    def read_into(self, name: str, buffer: memoryview, start: int) -> None:
        """Fills `buffer` with the bytes of tensor `name`, row-major, from byte `start` on."""
        tensor = self._tensors[name].detach()
        place = self._ranges.get(tensor.data_ptr())
        if place and tensor.is_contiguous():
            self._files.read_into(place.path, place.identity, buffer, place.offset + start)
        else:
            _copy_rows(tensor, buffer, start)

    def file_range(self, name: str) -> OpenRange | None:
        """Where tensor `name` lies in the file; None where it is compressed, strided or only in memory."""
        tensor = self._tensors[name]
        place = self._ranges.get(tensor.data_ptr())
        if place is None or not tensor.is_contiguous():
            return None
        return self._files.open_range(place.path, place.identity, place.offset)

    def close(self) -> None:
        """Lets go of the tensors and with them of the maps."""
        self._tensors.clear()
        self._files.close()


def _copy_rows(tensor: torch.Tensor, buffer: memoryview, start: int) -> None:
    import torch

    tensor = tensor.reshape(1) if tensor.dim() == 0 else tensor
    row_bytes = tensor.nbytes // tensor.shape[0]
    first_row, last_row = start // row_bytes, -(-(start + buffer.nbytes) // row_bytes)
    # Only the rows that the range touches are made contiguous: a transposed tensor is never copied whole.
    rows = tensor[first_row:last_row].contiguous()
    # as_strided, because a dimension of size 1 keeps any stride and still counts as contiguous.
    flat = rows.as_strided((rows.numel(),), (1,)).view(torch.uint8)
    begin = start - first_row * row_bytes
    buffer[:] = flat[begin : begin + buffer.nbytes].numpy().data


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as exc:
        if exc.name != "torch":  # torch is there but broken: its own message helps more
            raise
        raise MissingExtraError("torch", extra="torch", needed_for=f"reading {path}") from exc
    return torch


def _translated(path: Path, exc: Exception) -> CheckpointError:
    import pickle

    text = str(exc)
    if isinstance(exc, OSError) and exc.errno == errno.EINVAL:  # the map ends before the file says it does
        return CheckpointError(f"{path}: is truncated", fix="fetch or save the file again")
    if isinstance(exc, OSError) and exc.strerror:
        return CheckpointError(f"{path}: cannot be read: {exc.strerror}", fix="check its permissions")
    if "TorchScript" in text:
        return CheckpointError(f"{path}: is a TorchScript program, not a state dict", fix=_CONVERT)
    if isinstance(exc, pickle.UnpicklingError) and _NOT_DATA.search(text):
        found = _GLOBAL.search(text)
        what = next((group for group in found.groups() if group), "") if found else ""
        return CheckpointError(
            f"{path}: contains code other than tensors{f' ({what})' if what else ''} and is refused", fix=_CONVERT
        )
    if path.stat().st_size == 0:
        return CheckpointError(f"{path}: is empty (0 bytes)", fix="fetch or save the file again")
    first_line = next(iter(text.splitlines()), "") or type(exc).__name__
    return CheckpointError(
        f"{path}: not a readable PyTorch file: {first_line}",
        fix="fetch or save the file again; if a training run is still writing it, wait for its end",
    )
