"""The names that transformers gives tensors in files, where those in memory are others."""

from __future__ import annotations

from typing import Any

__all__ = ["name_as_saved"]


def name_as_saved(module: Any, model: Any = None) -> None:
    """Gives the module's state dict the names that its files have.

    transformers 5 keeps ViT's and Swin's files as they always were, but calls the tensors otherwise in memory. Where it
    also joins or splits tensors, the names stay, and what does not fit is said when weights are loaded.

    Args:
        module: whose state dict is renamed.
        model: the transformers model that knows the names, where `module` only holds its parts.
    """
    from transformers.core_model_loading import revert_weight_conversion

    state = dict((model or module).state_dict())
    name_of = {id(tensor): name for name, tensor in state.items()}
    converted = revert_weight_conversion(model or module, state)
    saved = {name_of.get(id(tensor)): name for name, tensor in converted.items()}
    if set(saved) != set(state):
        return

    def rename(_module: Any, found: dict[str, Any], prefix: str, _metadata: Any) -> None:
        if prefix:  # of a part of the module
            return
        values = list(found.items())
        found.clear()
        found.update((saved[name] or name, value) for name, value in values)

    module.register_state_dict_post_hook(rename)
