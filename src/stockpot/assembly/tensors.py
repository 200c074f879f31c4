"""A soup as tensors in memory, and the bridge from bytes with a spec to torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockpot.assembly.opening import opened
from stockpot.errors import BlendError, MissingExtraError
from stockpot.kernel import Chunk, blend, blended_specs, parse_dtype
from stockpot.types import Soup

if TYPE_CHECKING:
    from types import ModuleType

    import torch

__all__ = ["materialize", "tensor_of", "torch_dtype"]

# Names of the safetensors format -> attributes of torch.
_TORCH_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def materialize(soup: Soup, *, dtype: str | None = None) -> dict[str, torch.Tensor]:
    """The soup's tensors by name, blended in memory.

    theta = sum_i alpha_i theta_i, accumulated in float64 and rounded once to the output dtype. Tied names share memory.

    Args:
        soup: combine must be "weights".
        dtype: output dtype of floating tensors ("fp32", "bf16", ...); None keeps the stored one.

    Returns:
        Name -> CPU tensor, in file order: what `module.load_state_dict` takes.

    Raises:
        BlendError: an ensemble has no weights; NaN, infinity or overflow.
        CheckpointError: an ingredient cannot be opened, or does not fit the others.
        MissingExtraError: torch is not installed.

    Source: Wortsman et al. 2022, section 2.

    Example:
        >>> import tempfile, pathlib, numpy, safetensors.numpy
        >>> from stockpot import ingredients, materialize, uniform
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, value in (("a", 1.0), ("b", 2.0)):
        ...     safetensors.numpy.save_file({"w": numpy.full(2, value)}, folder / f"{name}.safetensors")
        >>> materialize(uniform(ingredients(folder / "*.safetensors")))["w"]
        tensor([1.5000, 1.5000], dtype=torch.float64)
    """
    torch = import_torch("materialize")
    require_weights(soup)
    output_dtype = parse_dtype(dtype) if dtype is not None else None
    with opened(soup.ingredients) as checkpoints:
        labels = [ingredient.name for ingredient in soup.ingredients]
        specs = blended_specs(checkpoints, dtype=output_dtype)
        tensors = {name: torch.empty(spec.shape, dtype=torch_dtype(spec.dtype)) for name, spec in specs.items()}
        for chunk in blend(checkpoints, soup.coefficients, dtype=output_dtype, labels=labels):
            fill(tensors[chunk.name], chunk)
        tensors.update({alias: tensors[name] for alias, name in checkpoints[0].tied.items()})
    return tensors


def fill(target: torch.Tensor, chunk: Chunk) -> None:
    """Copies a chunk into its place of a contiguous tensor, converting dtype and device where they differ."""
    source = tensor_of(chunk)
    if source is None:
        return
    item_bytes = chunk.spec.nbytes // chunk.spec.n_elements
    start = chunk.start // item_bytes
    target.view(-1)[start : start + source.numel()].copy_(source)


def tensor_of(chunk: Chunk) -> torch.Tensor | None:
    """A flat tensor over a chunk's memory (valid until the next chunk); None for a zero-size tensor's chunk."""
    import torch

    if len(chunk.data) == 0:
        return None
    # uint8 first: torch.frombuffer knows no float8 on some versions, and a view costs nothing.
    return torch.frombuffer(chunk.data, dtype=torch.uint8).view(torch_dtype(chunk.spec.dtype))


def torch_dtype(name: str) -> Any:
    """The torch dtype of a safetensors dtype name."""
    import torch

    return getattr(torch, _TORCH_NAMES[name])


def require_weights(soup: Soup) -> None:
    """Refuses an ensemble where weights are wanted."""
    if soup.combine != "weights":
        raise BlendError(
            f"{soup.recipe!r} combines logits: it is {len(soup.ingredients)} models and has no weights of its own",
            fix="write a soup (uniform, greedy, ...), or serve the ensemble's ingredients side by side",
        )


def import_torch(needed_for: str) -> ModuleType:
    """torch, or the error that names its extra."""
    try:
        import torch
    except ModuleNotFoundError as exc:
        if exc.name != "torch":
            raise
        raise MissingExtraError("torch", extra="torch", needed_for=needed_for) from exc
    return torch
