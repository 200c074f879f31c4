"""Learning rates that fall from the head to the first block, and averages of weights along a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stockpot.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["layer_depths", "layered_groups", "weight_average"]

# Stages with layers or blocks in them (Swin, ConvNeXt), numbered blocks (T5's have layers in them, which are no blocks
# of their own), and stages that are numbered in their name (ResNets of timm and open_clip).
_BLOCK = re.compile(
    r"^(?:.*?\.)?(?:(?:layers|stages)\.\d+\.(?:(?:layers|blocks)\.\d+\.)?|(?:layer|(?:res)?blocks?|h)\.\d+\.|layer\d+\.\d+\.)"
)


def layer_depths(names: Sequence[str]) -> dict[str, int]:
    """Depth of each parameter: 0 before the first numbered block, then block by block, and one more behind the last.

    Args:
        names: in the network's order.

    Example:
        >>> layer_depths(["embed.weight", "layer.0.w", "layer.0.b", "layer.1.w", "head.weight"])
        {'embed.weight': 0, 'layer.0.w': 1, 'layer.0.b': 1, 'layer.1.w': 2, 'head.weight': 3}
    """
    blocks: dict[str, int] = {}
    depths: dict[str, int] = {}
    for name in names:
        if found := _BLOCK.match(name):
            depths[name] = blocks.setdefault(found.group(0), len(blocks) + 1)
        else:
            depths[name] = -1 if blocks else 0
    return {name: len(blocks) + 1 if depth < 0 else depth for name, depth in depths.items()}


def layered_groups(
    model: torch.nn.Module, *, learning_rate: float, weight_decay: float, decay: float, decayed: Sequence[str]
) -> list[dict[str, Any]]:
    """Parameter groups of AdamW: ``lr_d = lr * decay^(D - d)`` for depth d of D.

    Args:
        model: parameters that need gradients.
        learning_rate: of the head.
        weight_decay: of the names in `decayed`.
        decay: factor from each block to the one before, (0, 1].
        decayed: names of parameters with weight decay.

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
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        key = (depths[name], name in with_decay)
        group = groups.setdefault(
            key,
            {
                "params": [],
                "lr": learning_rate * decay ** (last - depths[name]),
                "weight_decay": weight_decay if key[1] else 0.0,
            },
        )
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
