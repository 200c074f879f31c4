"""An image tower with a linear head, and a dual encoder that classifies by its own text tower. Needs torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import normalize

from stockpot.tasks.dual_encoders import DualEncoder, embedding

__all__ = ["TowerWithHead", "VisualTower", "ZeroShot", "class_weights"]

#: Prompts that go through the text tower at once.
_PROMPTS_AT_ONCE = 256


def class_weights(encoder: DualEncoder, tokens: Mapping[str, torch.Tensor], n_templates: int) -> torch.Tensor:
    """One weight vector per class from the text tower: the zero-shot head.

    With t_cj the embedding of template j filled with class c: ``w_c = s * m_c / |m_c|``,
    ``m_c = mean_j t_cj / |t_cj|``, s the encoder's scale.

    Args:
        encoder: gives embeddings and scale.
        tokens: of all prompts, the templates of the first class first.
        n_templates: of each class.

    Returns:
        [classes, width] float32.

    Source: Radford et al. 2021, section 3.1; the scale in the weights as in Wortsman et al. 2022.
    """
    n = len(next(iter(tokens.values())))
    step = max(1, _PROMPTS_AT_ONCE // n_templates) * n_templates
    parts = []
    for start in range(0, n, step):
        found = encoder.texts({name: values[start : start + step] for name, values in tokens.items()})
        means = normalize(found.float(), dim=-1).reshape(-1, n_templates, found.shape[-1]).mean(dim=1)
        parts.append(normalize(means, dim=-1))
    return encoder.scale().float() * torch.cat(parts)


def _in_float32(found: torch.Tensor) -> torch.autocast:
    """The head is not rounded to bf16: cosines times 100 would keep steps of a quarter."""
    return torch.autocast(found.device.type, enabled=False)


class TowerWithHead(torch.nn.Module):
    """An image tower and a linear head on its normalised embedding: ``logits = W e / |e| + b``.

    Its state dict is the tower's, by the names of its files, and `head.weight`, `head.bias`.

    Args:
        tower: pixels -> embedding, or an output of transformers that has one.
        n_labels: classes.
        width: of the embedding.
        probe_scale: what a linear probe multiplies the embeddings by before it is fitted: their length is 1, and
            the penalty of the weights would keep the logits flat. The dual encoder's own scale.
    """

    def __init__(self, tower: torch.nn.Module, n_labels: int, width: int, *, probe_scale: float = 1.0) -> None:
        super().__init__()
        self.tower = tower
        self.head = torch.nn.Linear(width, n_labels)
        self.probe_scale = probe_scale

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits [rows, classes] of pixels [rows, 3, height, width]."""
        found = embedding(self.tower(pixel_values))
        with _in_float32(found):
            logits: torch.Tensor = self.head(normalize(found.float(), dim=-1))
        return logits

    def state_dict(self, *args: Any, keep_vars: bool = False, **kwargs: Any) -> Any:
        """The tower's, by the names of its files, and the head's."""
        if args or kwargs:
            return super().state_dict(*args, keep_vars=keep_vars, **kwargs)
        found = self.tower.state_dict(keep_vars=keep_vars)
        found.update(self.head.state_dict(prefix="head.", keep_vars=keep_vars))
        return found


class VisualTower(torch.nn.Module):
    """open_clip's image tower, under the name that it has in files."""

    def __init__(self, visual: torch.nn.Module) -> None:
        super().__init__()
        self.visual = copy.deepcopy(visual)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings [rows, width], not normalised."""
        found = self.visual(pixels)
        pooled: torch.Tensor = found[0] if isinstance(found, tuple) else found  # CoCa's gives its tokens too
        return pooled


class ZeroShot(torch.nn.Module):
    """A dual encoder as a classifier: its text tower makes the head, anew for every soup.

    Its state dict is the dual encoder's own.

    Args:
        encoder: the dual encoder.
        tokens: of all prompts, the templates of the first class first.
        n_templates: of each class.
    """

    weights: torch.Tensor

    def __init__(self, encoder: DualEncoder, tokens: Mapping[str, torch.Tensor], n_templates: int) -> None:
        super().__init__()
        self.network = encoder.module
        self._encoder, self._n_templates = encoder, n_templates
        self._names = tuple(tokens)
        for name, values in tokens.items():
            self.register_buffer(f"prompt_{name}", values, persistent=False)

    def refresh(self) -> None:
        """Makes the class weights of the weights that are there now."""
        tokens = {name: getattr(self, f"prompt_{name}") for name in self._names}
        with torch.inference_mode():
            self.weights = class_weights(self._encoder, tokens, self._n_templates)
            self._bias = self._encoder.bias()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits [rows, classes] of pixels [rows, 3, height, width]; `refresh` comes first."""
        found = self._encoder.images(pixel_values)
        with _in_float32(found):
            logits: torch.Tensor = normalize(found.float(), dim=-1) @ self.weights.T
        return logits + self._bias

    def state_dict(self, *args: Any, keep_vars: bool = False, **kwargs: Any) -> Any:
        """The dual encoder's, by the names of its files."""
        if args or kwargs:
            return super().state_dict(*args, keep_vars=keep_vars, **kwargs)
        return self.network.state_dict(keep_vars=keep_vars)
