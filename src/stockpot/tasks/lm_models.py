"""A causal language model whose output is a log-likelihood per choice: the network of a language model's task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import ConfigError
from stockpot.tasks.hardware import import_hf
from stockpot.tasks.saved_names import name_as_saved

if TYPE_CHECKING:
    import torch

__all__ = ["ABSENT", "new_causal_lm", "new_scorer"]

#: The logit of a choice that a row does not have: finite, and of probability 0 beside any other.
ABSENT = -1e9


def new_causal_lm(folder: Path) -> Any:
    """A causal language model of the architecture in config.json, weights as they come.

    Raises:
        ConfigError: transformers cannot make one.
    """
    from huggingface_hub.errors import StrictDataclassError

    torch_module, transformers = import_hf()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch_module.float32, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ConfigError(
            f"{folder / 'config.json'}: no causal language model can be made from it: {reason}",
            fix="name the folder of a model that AutoModelForCausalLM knows as `model:` in the task file",
        ) from exc


def new_scorer(folder: Path) -> torch.nn.Module:
    """The network of a language model's task, of the architecture in a folder's config.json.

    It takes `input_ids` [rows, choices, tokens], padded on the right, where no causal model looks; `scored` of that
    shape: which tokens count; and `divisors` [rows, choices]. It returns [rows, choices]: the sum of the
    log-likelihoods of the tokens that count, each given all before it, by its divisor; `ABSENT` where none do. Its
    state dict has the language model's names, and tensors that are tied there are one tensor here.

    Raises:
        ConfigError: transformers cannot make the model.
    """
    import torch

    class Scorer(torch.nn.Module):
        _model: Any

        def __init__(self, model: Any) -> None:
            super().__init__()
            for name, part in model.named_children():
                self.add_module(name, part)
            object.__setattr__(self, "_model", model.eval())  # its parts are registered, under their own names
            name_as_saved(self, model)

        @property
        def config(self) -> Any:
            return self._model.config

        def forward(self, input_ids: torch.Tensor, scored: torch.Tensor, divisors: torch.Tensor) -> torch.Tensor:
            # One choice at a time: logits over the whole vocabulary are what fills the memory.
            columns = range(input_ids.shape[1])
            sums = torch.stack([self._of_choice(input_ids[:, c], scored[:, c]) for c in columns], dim=1)
            return torch.where(scored[:, :, 1:].any(dim=2), sums / divisors, ABSENT)

        def _of_choice(self, tokens: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
            logits = self._model(input_ids=tokens, use_cache=False).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
            return -torch.where(scored[:, 1:], losses, 0.0).sum(dim=1)

    return Scorer(new_causal_lm(folder))
