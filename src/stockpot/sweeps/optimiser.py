"""Learning rates that fall from the head to the first block, and averages of weights along a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stockpot.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["is_in_block", "layer_depths", "layered_groups", "weight_average"]

# Stages with layers or blocks in them (Swin, ConvNeXt), numbered blocks (T5's have layers in them, which are no blocks
# of their own; EfficientNet's of timm are stages with numbers in them), and stages that are numbered in their name
# (ResNets of timm and open_clip).
_BLOCK = re.compile(
    r"^(?:.*?\.)?(?:(?:layers|stages)\.\d+\.(?:(?:layers|blocks)\.\d+\.)?|(?:layer|resblocks?|h)\.\d+\.|"
    r"blocks?\.\d+\.(?:\d+\.)?|layer\d+\.\d+\.)"
)
# Some networks name embeddings after the blocks that read them (DeBERTa's positions, those of BART's decoder); those of
# a pooling by attention (open_clip's ResNets) are read behind the last block, and are as deep as it is.
_EMBEDDING = re.compile(r"^(?!.*attnpool).*embed")
# open_clip registers the projection of what comes out before the blocks.
_PROJECTION = re.compile(r"(?:^|\.)proj$")


def is_in_block(name: str) -> bool:
    """Whether a tensor belongs to a numbered block, by its name.

    Example:
        >>> is_in_block("vit.encoder.layer.3.output.dense.weight"), is_in_block("classifier.weight")
        (True, False)
    """
    return _BLOCK.match(name) is not None


def layer_depths(names: Sequence[str]) -> dict[str, int]:
    """Depth of each parameter: embeddings 0, then block by block, and one more behind the last.

    What stands between blocks (the norm of T5's encoder) is as deep as the block before it.

    Args:
        names: in the network's order.

    Example:
        >>> layer_depths(["embed.weight", "layer.0.w", "layer.0.b", "layer.1.w", "head.weight"])
        {'embed.weight': 0, 'layer.0.w': 1, 'layer.0.b': 1, 'layer.1.w': 2, 'head.weight': 3}
    """
    block_of = {name: found.group(0) for name in names if (found := _BLOCK.match(name))}
    number_of = {block: number for number, block in enumerate(dict.fromkeys(block_of.values()), start=1)}
    last = max((at for at, name in enumerate(names) if name in block_of), default=len(names))
    depths: dict[str, int] = {}
    before = 0
    for at, name in enumerate(names):
        if name in block_of:
            before = number_of[block_of[name]]
            depths[name] = before
        elif number_of and _EMBEDDING.match(name):
            depths[name] = 0
        elif _PROJECTION.search(name):
            depths[name] = len(number_of) + bool(number_of)
        else:
            depths[name] = before if at < last else len(number_of) + bool(number_of)
    return depths


def layered_groups(
    model: torch.nn.Module, *, learning_rate: float, weight_decay: float, decay: float, decayed: Sequence[str]
) -> list[dict[str, Any]]:
    """Parameter groups of AdamW: ``lr_d = lr * decay^(D - d)`` for depth d of D.

    Vectors (biases, norms, scales) have no weight decay, whatever their names.

    Args:
        model: parameters that need gradients.
        learning_rate: of the head.
        weight_decay: of the names in `decayed`.
        decay: factor from each block to the one before, (0, 1].
        decayed: names of parameters with weight decay, where they are no vectors.

    Raises:
        ConfigError: no block is found among the names.

    Source: Clark et al. 2020 (ELECTRA), section 3.
    """
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    depths = layer_depths([name for name, _ in model.named_parameters()])
    last, with_decay = max(depths.values()), set(decayed)
    if last < 2 and decay < 1:
        raise ConfigError(
            f"`layer_decay` finds no numbered blocks in this network: its parameters are {next(iter(depths))}, ...",
            fix="leave `layer_decay` out, or at 1",
        )
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        rate = learning_rate * decay ** (last - depths[name])
        own_decay = weight_decay if name in with_decay and parameter.ndim > 1 else 0.0
        group = groups.setdefault((rate, own_decay), {"params": [], "lr": rate, "weight_decay": own_decay})
        group["params"].append(parameter)
    return list(groups.values())


def weight_average(decay: float) -> Any:
    """A callback of the Trainer that keeps an exponential moving average of the weights; `.averaged` has it.

    ``ema <- decay * ema + (1 - decay) * theta`` after each step; buffers are those of the last step.

    Args:
        decay: (0, 1).
    """
    import torch
    from torch.optim import swa_utils
    from transformers import TrainerCallback

    average: Any = getattr(swa_utils, "get_ema_multi_avg_fn")(decay)  # noqa: B009 - untyped in torch

    class Averaging(TrainerCallback):  # type: ignore[misc]
        averaged: torch.nn.Module | None = None

        def on_train_begin(self, _arguments: Any, _state: Any, _control: Any, *, model: Any, **_: Any) -> None:
            self._running = swa_utils.AveragedModel(model, multi_avg_fn=average)
            self._running.update_parameters(model)  # the start

        def on_step_end(self, _arguments: Any, _state: Any, _control: Any, *, model: Any, **_: Any) -> None:
            self._running.update_parameters(model)

        def on_train_end(self, _arguments: Any, _state: Any, _control: Any, *, model: Any, **_: Any) -> None:
            with torch.no_grad():
                for ours, theirs in zip(self._running.module.buffers(), model.buffers(), strict=True):
                    ours.copy_(theirs)
            self.averaged = self._running.module

    return Averaging()
