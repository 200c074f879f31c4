"""What timm's config.json says, in the forms that its versions have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["TimmConfig", "is_timm", "timm_config"]

#: Of the oldest form, which has no `pretrained_cfg`: everything else at the top belongs into it.
_OUTSIDE = frozenset({"architecture", "num_features", "global_pool", "model_args", "label_names", "labels"})


class TimmConfig(NamedTuple):
    """A timm network and its data.

    Args:
        architecture: the name that timm makes it by.
        arguments: of its construction.
        pretrained_cfg: size, mean, cropping ... of the images; shapes the network where `arguments` do not.
        n_classes: outputs; None where nothing tells.
        label_names: of the outputs in order; None where nobody has named them.
    """

    architecture: str
    arguments: dict[str, Any]
    pretrained_cfg: dict[str, Any]
    n_classes: int | None
    label_names: tuple[str, ...] | None


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is one that timm has written."""
    return "architecture" in config


def timm_config(config: Mapping[str, Any]) -> TimmConfig:
    """What a config.json of timm says.

    Example:
        >>> oldest = {"architecture": "resnet18", "num_classes": 2, "mean": [0.5, 0.5, 0.5], "labels": ["no", "yes"]}
        >>> found = timm_config(oldest)
        >>> found.n_classes, found.label_names, found.pretrained_cfg["mean"]
        (2, ('no', 'yes'), [0.5, 0.5, 0.5])
    """
    given = config.get("pretrained_cfg")
    own = dict(given) if isinstance(given, Mapping) else {k: v for k, v in config.items() if k not in _OUTSIDE}
    arguments = dict(config.get("model_args") or {})
    n_classes = config.get("num_classes", own.get("num_classes"))
    named = config.get("label_names") or own.get("label_names") or config.get("labels")
    channels, *size = own.get("input_size") or (3, 224, 224)
    # Files of some versions keep the size of the weights that a network was made from beside that of its own.
    if isinstance(side := arguments.get("img_size"), int):
        size = [side, side] if own.get("fixed_input_size") else size
    elif side is not None and own.get("fixed_input_size"):
        size = list(side)
    own["input_size"] = (arguments.get("in_chans", channels), *size)
    return TimmConfig(str(config["architecture"]), arguments, own, n_classes, _names(named, n_classes))


def _names(named: Any, n_classes: int | None) -> tuple[str, ...] | None:
    """Names in the order of the outputs; timm also writes them by number, with gaps where outputs have none."""
    if isinstance(named, list | tuple) and named:
        return tuple(map(str, named))
    if not isinstance(named, Mapping) or not named or not all(str(key).isdecimal() for key in named):
        return None
    name_of = {int(key): str(name) for key, name in named.items()}
    n = max(n_classes or 0, max(name_of) + 1)
    return tuple(name_of.get(number, f"LABEL_{number}") for number in range(n))
