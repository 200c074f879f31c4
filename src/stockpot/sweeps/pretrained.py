"""A pre-trained network of transformers with a head for other labels, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import ConfigError
from stockpot.sweeps.optimiser import is_in_block
from stockpot.tasks.hardware import import_hf

if TYPE_CHECKING:
    import torch

__all__ = ["check_blocks", "check_own_head_is_there", "pretrained_classifier"]

_SHOWN = 4


def pretrained_classifier(auto: Any, folder: Path, *, fix: str, **changes: Any) -> torch.nn.Module:
    """A network with its weights in fp32; only its head, and small parts of the rest, may be new.

    transformers draws at random what a checkpoint lacks, or has in another shape where that is allowed for the sake of
    the head, and says so in a log alone: a start of such weights is no pre-trained one.

    Args:
        auto: class of transformers whose `from_pretrained` loads it.
        folder: holds config.json and the weights.
        fix: what to do where they are of another kind.
        changes: as `from_pretrained` takes them; with `ignore_mismatched_sizes=False` the checkpoint's own head is
            wanted.

    Raises:
        ConfigError: no such network can be loaded; weights of another shape, or of another network; no head where its
            own is wanted.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    torch_module, _ = import_hf()
    try:
        model, report = auto.from_pretrained(
            folder, dtype=torch_module.float32, output_loading_info=True, local_files_only=True, **changes
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, StrictDataclassError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ConfigError(f"{folder}: transformers loads no {auto.__name__} from it: {reason}", fix=fix) from exc
    start = f"{model.base_model_prefix}."
    body = {name for name in model.state_dict() if name.startswith(start)}
    if odd := body & _names(report["mismatched_keys"]):
        shown = ", ".join(sorted(odd)[:_SHOWN])
        raise ConfigError(f"{folder}: config.json asks for another shape of {shown} than the weights have", fix=fix)
    lacking = body & _names(report["missing_keys"])
    if 2 * len(lacking) > len(body):
        shown = ", ".join(sorted(lacking)[:_SHOWN])
        raise ConfigError(
            f"{folder}: the weights lack {len(lacking)} of {len(body)} tensors of the network in config.json: "
            f"{shown}, ...",
            fix=fix,
        )
    check_blocks(folder, _names(report["unexpected_keys"]), fix=fix)
    if changes.get("ignore_mismatched_sizes") is False:
        check_own_head_is_there(folder, _names(report["missing_keys"]) - body)
    made: torch.nn.Module = model
    return made


def check_blocks(folder: Path, unused: Iterable[str], *, fix: str) -> None:
    """Refuses weights with blocks that the network lacks: what is left of a deeper one is no pre-trained network.

    Raises:
        ConfigError: names them.
    """
    if deeper := sorted(name for name in unused if is_in_block(name)):
        raise ConfigError(
            f"{folder}: the weights have {len(deeper)} tensors of blocks that the network in config.json lacks: "
            f"{', '.join(deeper[:_SHOWN])}",
            fix=fix,
        )


def check_own_head_is_there(folder: Path, missing: Iterable[str]) -> None:
    """Refuses a checkpoint without the head that is to be taken from it.

    Raises:
        ConfigError: names what is missing.
    """
    if lacking := sorted(missing):
        raise ConfigError(
            f"head: own: {folder} has no head of its own: it lacks {', '.join(lacking[:_SHOWN])}",
            fix="use `head: linear-probe`",
        )


def _names(keys: Iterable[Any]) -> set[str]:
    """Of mismatches, some versions give the shapes with each name."""
    return {key if isinstance(key, str) else str(key[0]) for key in keys}
