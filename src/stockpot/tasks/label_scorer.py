"""An encoder-decoder network as a classifier: logits over labels from the likelihoods of their words. Needs torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import transformers

from stockpot.errors import ConfigError
from stockpot.tasks.label_words import LabelTokens

__all__ = ["LabelScorer", "new_network"]

#: What fills targets after their end; the networks' own functions know it as "no target".
_NO_TARGET = -100
#: Vocabulary logits of one pass of the decoder (128 MiB of float32); more labels take several passes.
_MOST_LOGITS = 2**25


def new_network(folder: Path) -> Any:
    """An encoder-decoder network of the architecture in config.json, weights as they come.

    Raises:
        ConfigError: transformers cannot make one.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return transformers.AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ConfigError(
            f"{folder / 'config.json'}: no text-to-text model can be made from it: {reason}",
            fix="name the folder of a model that AutoModelForSeq2SeqLM knows (T5, BART) as `model:` in the task file",
        ) from exc


class LabelScorer(torch.nn.Module):
    """A network whose forward pass gives logits over labels.

    With ``y_1 .. y_m`` the tokens of a label's words, its end among them, and l_t = log p(y_t | prompt, y_<t), the
    label's logit is ``sum_t l_t`` or ``(1/m) sum_t l_t``. The prompt is encoded once; all labels are decoded as one
    batch from the repeated state. With `is_generation` the logit is 1 for the label whose words greedy decoding gives
    (each of their tokens is the likeliest after those before it), else 0, and a last column is 1 where it gives any
    other text.

    Its state dict is the network's, so files and names are those of the network alone.

    Args:
        network: an encoder-decoder model of transformers.
        tokens: of the labels.
        is_mean: whether likelihoods are divided by the number of tokens.
        is_generation: whether the greedy answer counts instead.

    Raises:
        ConfigError: the network has not these tokens, or does not say what its answers begin with.
    """

    targets: torch.Tensor
    decoder_inputs: torch.Tensor

    def __init__(
        self, network: Any, tokens: LabelTokens, *, is_mean: bool = False, is_generation: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self._n_given, self._is_mean, self._is_generation = tokens.n_given, is_mean, is_generation
        self._check_vocabulary(tokens)
        longest = max(map(len, tokens.ids))
        padded = torch.tensor([[*ids, *[_NO_TARGET] * (longest - len(ids))] for ids in tokens.ids])
        try:
            shifted = network.prepare_decoder_input_ids_from_labels(labels=padded.clone())
        except (AttributeError, ValueError, TypeError) as exc:
            raise ConfigError(
                f"{type(network).__name__} does not say what its answers begin with: {exc}",
                fix="give `decoder_start_token_id` and `pad_token_id` in the model's config.json",
            ) from exc
        self.register_buffer("targets", padded, persistent=False)
        self.register_buffer("decoder_inputs", shifted, persistent=False)

    @property
    def config(self) -> Any:
        """The network's."""
        return self.network.config

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The network's, by the names of its files."""
        return self.network.state_dict(*args, **kwargs)

    def untie(self, names: Collection[str]) -> None:
        """Gives tensors that a checkpoint holds apart a memory of their own.

        transformers ties the output layer of every T5, and unties it where files hold it apart (T5 1.1, FLAN).

        Args:
            names: of the tensors that are stored, aliases aside.
        """
        owner: dict[int, str] = {}
        for name, tensor in self.network.state_dict().items():
            if name in names and tensor.numel() and owner.setdefault(tensor.data_ptr(), name) != name:
                path, _, leaf = name.rpartition(".")
                setattr(self.network.get_submodule(path), leaf, torch.nn.Parameter(tensor.detach().clone()))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits [rows, labels] float32 of prompts [rows, length]; one column more for generation."""
        encode = self.network.get_encoder()
        states = encode(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        per_label = len(input_ids) * self.targets.shape[1] * self._vocabulary_size
        at_once = max(1, _MOST_LOGITS // per_label)
        parts = torch.split(torch.arange(len(self.targets), device=self.targets.device), at_once)
        logits = torch.cat([self._logits(states, attention_mask, labels) for labels in parts], dim=1)
        if not self._is_generation:
            return logits
        return torch.cat([logits, 1 - logits.sum(dim=1, keepdim=True)], dim=1)

    def _logits(self, states: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[rows, some labels]."""
        n_rows, n_labels = len(states), len(labels)
        output = self.network(
            encoder_outputs=transformers.modeling_outputs.BaseModelOutput(
                last_hidden_state=states.repeat_interleave(n_labels, dim=0)
            ),
            attention_mask=mask.repeat_interleave(n_labels, dim=0),
            decoder_input_ids=self.decoder_inputs[labels].repeat(n_rows, 1),
            use_cache=False,
        )
        logits: torch.Tensor = output.logits[:, self._n_given :].float().unflatten(0, (n_rows, n_labels))
        targets = self.targets[labels, self._n_given :]
        is_target = targets != _NO_TARGET
        if self._is_generation:
            is_answer = ((logits.argmax(dim=-1) == targets) | ~is_target).all(dim=-1).float()
            return is_answer.masked_fill(~logits.amax(dim=-1).isfinite().all(dim=-1), float("nan"))
        chosen = targets.clamp(min=0).expand(n_rows, -1, -1).unsqueeze(-1)
        likelihoods = logits.gather(-1, chosen).squeeze(-1) - logits.logsumexp(dim=-1)
        summed = likelihoods.where(is_target, 0.0).sum(dim=-1)
        return summed / is_target.sum(dim=-1) if self._is_mean else summed

    @property
    def _vocabulary_size(self) -> int:
        return int(self.network.get_output_embeddings().weight.shape[0])

    def _check_vocabulary(self, tokens: LabelTokens) -> None:
        largest = max(token for ids in tokens.ids for token in ids)
        if largest >= self._vocabulary_size:
            raise ConfigError(
                f"a label word has the token {largest}, and the model's vocabulary has {self._vocabulary_size}",
                fix="name the model whose tokenizer this is as `model:` in the task file",
            )
