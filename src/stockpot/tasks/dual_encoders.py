"""Networks that embed images and texts in one space: CLIP and ALIGN of transformers, any of open_clip; from one folder.

A folder holds either a whole dual encoder, or its image tower with a classifier head on the normalised embedding.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import ConfigError, MissingExtraError
from stockpot.tasks.classifier import load_tokenizer
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.saved_names import name_as_saved
from stockpot.tasks.timm_config import is_timm

if TYPE_CHECKING:
    import torch

__all__ = [
    "LABELS_KEY",
    "OPEN_CLIP_CONFIG",
    "DualEncoder",
    "dual_encoder",
    "embedding",
    "empty_tower",
    "import_open_clip",
    "is_open_clip",
    "read_config",
    "tower_config",
    "without_warnings",
]

OPEN_CLIP_CONFIG = "open_clip_config.json"
#: The key of an image tower's own configuration file that says which classes its head has.
LABELS_KEY = "label_names"
#: model_type of the dual encoder -> that of its image tower alone.
_TOWER_TYPES: Mapping[str, str] = {"clip": "clip_vision_model", "align": "align_vision_model"}
_FIX = "name the folder of a CLIP or ALIGN model (transformers) or of an open_clip model as `model:` in the task file"


@dataclass(frozen=True, slots=True, eq=False)
class DualEncoder:
    """A whole dual encoder.

    Args:
        module: its state dict has the names of its files.
        images: pixels [n, 3, height, width] -> embeddings [n, width], not normalised.
        texts: token tensors of n texts -> embeddings [n, width], not normalised.
        tokens: texts -> token tensors.
        scale: the factor of cosine similarities in logits (``exp(logit_scale)``, ALIGN: ``1 / temperature``).
        bias: added to them; 0 but for models trained with a sigmoid loss.
        tower: the image tower alone, with copies of the weights.
    """

    module: torch.nn.Module
    images: Callable[[torch.Tensor], torch.Tensor]
    texts: Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
    tokens: Callable[[Sequence[str]], Mapping[str, torch.Tensor]]
    scale: Callable[[], torch.Tensor]
    bias: Callable[[], float]
    tower: Callable[[], torch.nn.Module]


def is_open_clip(folder: Path) -> bool:
    """Whether open_clip makes the network: with both configurations, transformers does where config.json is its own.

    timm's repositories hold a config.json for the image tower alone beside open_clip's.
    """
    if not (folder / OPEN_CLIP_CONFIG).exists():
        return False
    try:
        return is_timm(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False  # `read_config` tells what is wrong with it


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's configuration: open_clip's, or config.json.

    Raises:
        ConfigError: it cannot be read, or is none of a dual encoder or its image tower.
    """
    is_open = is_open_clip(folder)
    path = folder / (OPEN_CLIP_CONFIG if is_open else "config.json")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}", fix=_FIX) from exc
    if is_open and not isinstance(config.get("model_cfg"), dict):
        raise ConfigError(f"{path}: has no model_cfg", fix=_FIX)
    if not is_open and config.get("model_type") not in (*_TOWER_TYPES, *_TOWER_TYPES.values()):
        known = ", ".join(_TOWER_TYPES)
        raise ConfigError(
            f"{path}: model_type {config.get('model_type')!r} is no dual encoder known here; known: {known}", fix=_FIX
        )
    return config


def tower_config(folder: Path) -> dict[str, Any] | None:
    """The configuration of a folder that holds an image tower with a head; None for a whole dual encoder.

    Raises:
        ConfigError: as `read_config`.
    """
    config = read_config(folder)
    is_tower = LABELS_KEY in config if is_open_clip(folder) else config["model_type"] in _TOWER_TYPES.values()
    return config if is_tower else None


def dual_encoder(folder: Path, *, with_weights: bool) -> DualEncoder:
    """The whole dual encoder of a folder, fp32.

    Args:
        folder: configuration, tokenizer and, if they are wanted, weights.
        with_weights: else they come as they come.

    Raises:
        ConfigError: no such network can be made from the folder.
        MissingExtraError: open_clip is not installed.
    """
    make = _open_clip_encoder if is_open_clip(folder) else _transformers_encoder
    return make(folder, with_weights=with_weights)


def empty_tower(folder: Path, changes: Mapping[str, Any] | None = None) -> torch.nn.Module:
    """The image tower that a folder's tower configuration describes, weights as they come.

    Args:
        folder: holds the configuration.
        changes: of keys of a configuration of transformers.

    Raises:
        ConfigError, MissingExtraError: as `dual_encoder`.
    """
    if is_open_clip(folder):
        return _open_clip_tower(_open_clip_module(folder, with_weights=False))
    torch, transformers = import_hf()
    given = {"local_files_only": True, **(changes or {})}
    config = _said(folder, lambda: transformers.AutoConfig.from_pretrained(folder, **given))
    return _transformers_tower(config, torch.float32)


def embedding(output: Any) -> torch.Tensor:
    """The image embedding in what a tower returns."""
    for name in ("image_embeds", "pooler_output"):
        if getattr(output, name, None) is not None:
            found: torch.Tensor = getattr(output, name)
            return found
    tensor: torch.Tensor = output
    return tensor


def _said(folder: Path, make: Callable[[], Any]) -> Any:
    """What `make` makes; its errors with the folder's name."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        return make()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, StrictDataclassError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ConfigError(f"{folder}: no dual encoder can be made from it: {reason}", fix=_FIX) from exc


# ---------------------------------------------------------------------------------------------------- transformers


def _transformers_encoder(folder: Path, *, with_weights: bool) -> DualEncoder:
    torch, transformers = import_hf()
    fp32, local = torch.float32, {"local_files_only": True, "trust_remote_code": False}
    if with_weights:
        module = _said(folder, lambda: transformers.AutoModel.from_pretrained(folder, dtype=fp32, **local))
    else:
        config = _said(folder, lambda: transformers.AutoConfig.from_pretrained(folder, **local))
        module = _said(folder, lambda: transformers.AutoModel.from_config(config, dtype=fp32))
    module.eval()
    name_as_saved(module)

    def tower() -> Any:
        config, state = module.config.vision_config, module.state_dict()
        if module.config.model_type == "clip":
            config.projection_dim = module.config.projection_dim  # the part's own is a default that files leave out
            own = {name: state[name] for name in state if name.startswith(("vision_model.", "visual_projection."))}
        else:
            start = "vision_model."
            own = {name.removeprefix(start): state[name] for name in state if name.startswith(start)}
        made = _transformers_tower(config, fp32)
        made.load_state_dict(own)
        return made

    return DualEncoder(
        module=module,
        images=lambda pixels: embedding(module.get_image_features(pixel_values=pixels)),
        texts=lambda tokens: embedding(module.get_text_features(**tokens)),
        tokens=partial(_transformers_tokens, folder, module.config.text_config),
        scale=lambda: module.logit_scale.exp() if hasattr(module, "logit_scale") else 1 / module.temperature,
        bias=lambda: 0.0,
        tower=tower,
    )


def _transformers_tower(config: Any, dtype: Any) -> torch.nn.Module:
    _, transformers = import_hf()
    kinds = {
        "clip_vision_model": transformers.CLIPVisionModelWithProjection,
        "align_vision_model": transformers.AlignVisionModel,
    }
    tower: torch.nn.Module = kinds[config.model_type](config).to(dtype)
    return tower


def _transformers_tokens(folder: Path, config: Any, texts: Sequence[str]) -> Mapping[str, torch.Tensor]:
    tokenizer = load_tokenizer(folder)
    most = min(int(tokenizer.model_max_length), int(config.max_position_embeddings))
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")
    return {name: tokens[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in tokens}


# ------------------------------------------------------------------------------------------------------- open_clip


def import_open_clip() -> Any:
    """open_clip, or the error that names the extra.

    Raises:
        MissingExtraError: open_clip is not installed, or something that it needs.
        ConfigError: torchvision is one for another torch.
    """
    try:
        import open_clip
    except ModuleNotFoundError as exc:
        raise MissingExtraError(exc.name or "open_clip", extra="vision", needed_for="a task with open_clip") from exc
    except RuntimeError as exc:
        raise ConfigError(
            f"open_clip cannot be imported: {exc}", fix="install the torchvision that was built for this torch"
        ) from exc
    return open_clip


def _open_clip_module(folder: Path, *, with_weights: bool) -> torch.nn.Module:
    open_clip = import_open_clip()
    config = json.loads((folder / OPEN_CLIP_CONFIG).read_text(encoding="utf-8"))
    if with_weights and LABELS_KEY in config:
        raise ConfigError(f"{folder}: holds an image tower with a head, no text tower", fix="name the whole model")

    def make() -> Any:
        return open_clip.create_model(f"local-dir:{folder}", load_weights=with_weights, precision="fp32")

    with without_warnings():  # that no weights are loaded is what was asked for
        module: torch.nn.Module = _said(folder, make)
    return module.eval()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Logged warnings are dropped."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _open_clip_encoder(folder: Path, *, with_weights: bool) -> DualEncoder:
    module: Any = _open_clip_module(folder, with_weights=with_weights)
    tokenizer = _said(folder, lambda: import_open_clip().get_tokenizer(f"local-dir:{folder}"))

    def bias() -> float:
        value = getattr(module, "logit_bias", None)
        return 0.0 if value is None else float(value.detach())

    return DualEncoder(
        module=module,
        images=module.encode_image,
        texts=lambda tokens: module.encode_text(tokens["text"]),
        tokens=lambda texts: {"text": tokenizer(list(texts))},
        scale=lambda: module.logit_scale.exp(),
        bias=bias,
        tower=lambda: _open_clip_tower(module),
    )


def _open_clip_tower(module: Any) -> torch.nn.Module:
    from stockpot.tasks.clip_networks import VisualTower

    return VisualTower(module.visual)
