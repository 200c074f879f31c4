"""One resident network: inputs made once, fixed batches, weights swapped in place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot.assembly import ResidentSoup
from stockpot.errors import ConfigError, DivergedError, EvaluationError
from stockpot.tasks.batches import Batch, Encodings, fixed_batches
from stockpot.tasks.hardware import Hardware, import_hf
from stockpot.tasks.recalibration import recalibrate
from stockpot.types import Incumbent, Soup

if TYPE_CHECKING:
    import torch

__all__ = ["ResidentClassifier", "encoded", "padding_token", "tokenised"]


class ResidentClassifier:
    """A sequence classifier that lives as long as the task; soups come and go in its memory.

    Batches run on `n_threads` Python threads with one torch thread each: a batch's logits are those of one thread, bit
    for bit, whatever the number of threads.

    Args:
        folder: holds config.json.
        n_labels: size of the classifier.
        hardware: device and precision.
        n_threads: batches in flight (CPU); 1 on an accelerator.
        new_module: makes the network instead, from (folder, n_labels).

    Raises:
        ConfigError: config.json describes no sequence classifier that transformers knows.
    """

    def __init__(
        self,
        folder: Path,
        *,
        n_labels: int,
        hardware: Hardware,
        n_threads: int,
        new_module: Callable[[Path, int], torch.nn.Module] | None = None,
    ) -> None:
        self._torch, _ = import_hf()
        self.module: torch.nn.Module = (new_module or _new_module)(folder, n_labels).to(hardware.device).eval()
        self._hardware = hardware
        self._n_threads = n_threads if hardware.device == "cpu" else 1
        self._resident = ResidentSoup(self.module)

    def load(self, soup: Soup, *, against: Incumbent | None = None) -> bool:
        """Makes the module's weights those of `soup`; tells whether they were not before."""
        is_changed = self._resident.load(soup, against=against)
        # What a network derives from its weights (a zero-shot head) is made once for each soup.
        if is_changed and (refresh := getattr(self.module, "refresh", None)) is not None:
            refresh()
        return is_changed

    def recalibrate(self, batches: Iterable[Batch]) -> int:
        """Makes running statistics anew over some batches, dummies left out, on one thread."""
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(1)
        try:
            return recalibrate(
                self.module,
                (
                    {name: self._torch.from_numpy(values[: len(batch.rows)]) for name, values in batch.inputs.items()}
                    for batch in batches
                ),
            )
        finally:
            self._torch.set_num_threads(before)

    def statistics(self) -> dict[str, np.ndarray[Any, Any]]:
        """Running means, variances and counters of the weights loaded, by the names of their tensors."""
        wanted = ("running_mean", "running_var", "num_batches_tracked")
        return {
            name: tensor.detach().cpu().numpy().copy()
            for name, tensor in self.module.state_dict().items()
            if name.rpartition(".")[2] in wanted
        }

    def logits(self, batches: Sequence[Batch], n_examples: int) -> np.ndarray[Any, Any]:
        """Logits [n_examples, classes] float32 of the weights loaded, in the examples' own order.

        Raises:
            DivergedError: a logit is not finite.
            EvaluationError: the model cannot take a batch.
        """
        parts = self.logits_by_batch(batches)
        result = np.empty((n_examples, parts[0].shape[1]), dtype=np.float32)
        for batch, part in zip(batches, parts, strict=True):
            result[batch.rows] = part
        return result

    def logits_by_batch(self, batches: Sequence[Batch]) -> list[np.ndarray[Any, Any]]:
        """Logits [rows, classes] float32 of each batch, dummies left out.

        Raises:
            DivergedError: a logit is not finite.
            EvaluationError: the model cannot take a batch.
        """
        before = self._torch.get_num_threads()
        try:
            with ThreadPoolExecutor(self._n_threads, initializer=self._single_thread) as pool:
                parts = [part[: len(b.rows)] for b, part in zip(batches, pool.map(self._forward, batches), strict=True)]
        finally:
            self._torch.set_num_threads(before)
        if n_bad := sum(int((~np.isfinite(part).all(axis=1)).sum()) for part in parts):
            n_examples = sum(len(part) for part in parts)
            raise DivergedError(f"the model's logits are not finite for {n_bad} of {n_examples} examples")
        return parts

    def head_tensors(self, batch: Batch) -> tuple[str, ...]:
        """Names of the weight and bias that the logits are linear in, found by trying: doubled, they double the logits.

        Args:
            batch: what to try on.

        Raises:
            EvaluationError: no layer of this model does that.
        """
        whole = np.arange(len(next(iter(batch.inputs.values()))))
        tried = Batch(batch.inputs, whole)
        before = self.logits([tried], len(whole))
        self._resident.forget()
        for name, layer in reversed(list(self.module.named_modules())):
            own = dict(layer.named_parameters(recurse=False))
            if not isinstance(layer, self._torch.nn.Linear) or layer.out_features != before.shape[1]:
                continue
            _scale(own.values(), 2.0)
            after = self.logits([tried], len(whole))
            _scale(own.values(), 0.5)
            if np.array_equal(after, 2 * before) and before.any():
                return tuple(f"{name}.{parameter}" for parameter in own)
        raise EvaluationError(
            "no linear layer of this model scales its logits, so the logit scale has no place in the weights",
            fix="leave out --fold: soup.json holds the logit scale",
        )

    def is_order_invariant(self, batch: Batch) -> bool:
        """The start-up self-check: the same batch with its rows reversed gives the same bits."""
        reversed_batch = Batch({name: values[::-1].copy() for name, values in batch.inputs.items()}, batch.rows)
        n = len(next(iter(batch.inputs.values())))
        whole = np.arange(n)
        straight = self.logits([Batch(batch.inputs, whole)], n)
        turned = self.logits([Batch(reversed_batch.inputs, whole)], n)
        return bool(np.array_equal(straight, turned[::-1]))

    def _single_thread(self) -> None:
        # Set in every thread: OpenMP keeps the count per thread.
        self._torch.set_num_threads(1)

    def forget(self) -> None:
        """Says that somebody else has changed the module's weights."""
        self._resident.forget()

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [rows, classes] float32 of one batch, dummies included; gradients flow where they are enabled.

        Raises:
            EvaluationError: the model cannot take the batch.
        """
        device, is_half = self._hardware.device, self._hardware.precision == "bf16"
        inputs = {name: self._torch.from_numpy(values).to(device) for name, values in batch.inputs.items()}
        with self._torch.autocast(device, dtype=self._torch.bfloat16) if is_half else nullcontext():
            try:
                output = self.module(**inputs)
            except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as exc:
                raise self._forward_error(batch, exc) from exc
        logits = getattr(output, "logits", output)  # timm's networks give the tensor itself
        if not isinstance(logits, self._torch.Tensor) or logits.ndim != 2:
            shape = f" {list(logits.shape)}" if isinstance(logits, self._torch.Tensor) else ""
            raise EvaluationError(
                f"the model returned a {type(output).__name__}{shape}, no logits [rows, classes]",
                fix="return a tensor of two dimensions, or an object that has one as `.logits`",
            )
        wide: torch.Tensor = logits.float()
        return wide

    def _forward(self, batch: Batch) -> np.ndarray[Any, Any]:
        with self._torch.inference_mode():
            values: np.ndarray[Any, Any] = self.forward(batch).cpu().numpy()
        return values

    def _forward_error(self, batch: Batch, exc: Exception) -> EvaluationError:
        """What to do about a batch that the model cannot take: too long, of another vocabulary, too large."""
        if "input_ids" not in batch.inputs:
            shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in batch.inputs.items())
            return EvaluationError(
                f"the model failed on a batch, {shapes}: {type(exc).__name__}: {exc}",
                fix="check that the model takes such inputs (fractions are float32: return `network.float()` from a "
                "factory whose weights are not), or lower `batch_size` under `evaluation`",
            )
        tokens = batch.inputs["input_ids"]
        config: Any = self.module.config
        known = {
            "position": (tokens.shape[-1], getattr(config, "max_position_embeddings", None)),
            "token": (int(tokens.max()) + 1, getattr(config, "vocab_size", None)),
        }
        if "token_type_ids" in batch.inputs:
            n_types = int(batch.inputs["token_type_ids"].max()) + 1
            known["token type"] = (n_types, getattr(config, "type_vocab_size", None))
        problems = [
            f"{what}s: {needed} needed, config.json has {there}"
            for what, (needed, there) in known.items()
            if isinstance(there, int) and there < needed
        ]
        fix = "lower `max_length` or `batch_size` under `evaluation`, or name the model whose tokenizer this is"
        if "no padding token" in str(exc):
            fix = "give `pad_token_id` in the config.json of the first model, or use `batch_size: 1` under `evaluation`"
        return EvaluationError(
            f"the model failed on a batch of {tokens.shape[0]} texts, {tokens.shape[-1]} tokens each: "
            f"{type(exc).__name__}: {exc}",
            problems=problems,
            fix=fix,
        )


def _scale(parameters: Iterable[torch.nn.Parameter], factor: float) -> None:
    for parameter in parameters:
        parameter.data.mul_(factor)


def _new_module(folder: Path, n_labels: int) -> torch.nn.Module:
    """A classifier of the architecture in config.json, weights as they come.

    Raises:
        ConfigError: transformers cannot make one.
    """
    from huggingface_hub.errors import StrictDataclassError

    torch_module, transformers = import_hf()
    try:
        # Code that came with a model is never run; left open, transformers would ask at the terminal.
        config = transformers.AutoConfig.from_pretrained(
            folder, num_labels=n_labels, local_files_only=True, trust_remote_code=False
        )
        module: torch.nn.Module = transformers.AutoModelForSequenceClassification.from_config(
            config, dtype=torch_module.float32, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as exc:
        raise ConfigError(
            f"{folder / 'config.json'}: no text classifier can be made from it: {_first_line(exc)}",
            fix="name the folder of a model that AutoModelForSequenceClassification knows as `model:` in the task file",
        ) from exc
    return module


def _first_line(exc: Exception) -> str:
    return next(iter(str(exc).splitlines()), type(exc).__name__)


def tokenised(folder: Path, texts: Sequence[tuple[str, ...]], *, batch_size: int, max_length: int) -> list[Batch]:
    """Tokenises one or two text columns into batches of fixed shape; see `encoded` and `fixed_batches`."""
    return fixed_batches(encoded(folder, texts, max_length=max_length), batch_size=batch_size)


def encoded(folder: Path, texts: Sequence[tuple[str, ...]], *, max_length: int) -> Encodings:
    """Tokenises one or two text columns.

    Args:
        folder: holds the tokenizer.
        texts: one tuple of columns per example.
        max_length: longer texts are truncated.

    Raises:
        ConfigError: the folder holds no tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    columns = list(zip(*texts, strict=True))
    with _LOCK:  # a fast tokenizer keeps its truncation state in itself
        tokens = tokenizer(*[list(column) for column in columns], truncation=True, max_length=max_length)
    names = [name for name in tokenizer.model_input_names if name in tokens]
    padding = {"input_ids": padding_token(folder, tokenizer) or 0, "token_type_ids": tokenizer.pad_token_type_id or 0}
    return Encodings(
        {name: tokens[name] for name in names},
        {name: padding.get(name, 0) for name in names},
        tokenizer.padding_side,
        max_length,
    )


_LOCK = threading.Lock()


def padding_token(folder: Path, tokenizer: Any) -> int | None:
    """The token that fills texts up: the network's own, else the tokenizer's.

    Where they differ, the network's counts: a decoder's class is read at the last token that is not this one.
    """
    _, transformers = import_hf()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = None  # what is wrong with it is told when the network is made
    else:
        own = getattr(config.get_text_config(), "pad_token_id", None)
    there: int | None = own if isinstance(own, int) and own >= 0 else tokenizer.pad_token_id
    return there


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, from local files alone.

    Raises:
        ConfigError: there is none, or it knows no words.
    """
    _, transformers = import_hf()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as exc:  # the tokenizers library raises Exception itself
        raise _no_tokenizer(folder, _first_line(exc)) from exc
    # Without its files transformers 5 makes one of special tokens alone, to which every text looks the same.
    if len(tokenizer) - len(set(tokenizer.all_special_ids)) <= _MAX_STRAY_TOKENS:
        raise _no_tokenizer(folder, f"its vocabulary has {len(tokenizer)} entries, special ones counted")
    return tokenizer


#: Beside special tokens, the empty tokenizers of some model families hold a blank and a mask.
_MAX_STRAY_TOKENS = 2


def _no_tokenizer(folder: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{folder}: no usable tokenizer ({why})",
        fix="name the folder that has config.json and the tokenizer's files as `model:` in the task file",
    )
