"""One resident text classifier: tokenised once, fixed batches, weights swapped in place."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockpot.assembly import ResidentSoup
from stockpot.errors import ConfigError, EvaluationError
from stockpot.tasks.batches import Batch, fixed_batches
from stockpot.tasks.hardware import Hardware, import_hf
from stockpot.types import Incumbent, Soup

if TYPE_CHECKING:
    import torch

__all__ = ["ResidentClassifier", "tokenised"]


class ResidentClassifier:
    """A sequence classifier that lives as long as the task; soups come and go in its memory.

    Batches run on `n_threads` Python threads with one torch thread each: a batch's logits are those of one thread, bit
    for bit, whatever the number of threads.

    Args:
        folder: holds config.json.
        n_labels: size of the classifier.
        hardware: device and precision.
        n_threads: batches in flight (CPU); 1 on an accelerator.
    """

    def __init__(self, folder: Path, *, n_labels: int, hardware: Hardware, n_threads: int) -> None:
        self._torch, transformers = import_hf()
        config = transformers.AutoConfig.from_pretrained(folder, num_labels=n_labels)
        module = transformers.AutoModelForSequenceClassification.from_config(config, dtype=self._torch.float32)
        self.module: torch.nn.Module = module.to(hardware.device).eval()
        self._hardware = hardware
        self._n_threads = n_threads if hardware.device == "cpu" else 1
        self._resident = ResidentSoup(self.module)

    def load(self, soup: Soup, *, against: Incumbent | None = None) -> None:
        """Makes the module's weights those of `soup`."""
        self._resident.load(soup, against=against)

    def logits(self, batches: Sequence[Batch], n_examples: int) -> np.ndarray[Any, Any]:
        """Logits [n_examples, classes] float32 of the weights loaded, in the examples' own order.

        Raises:
            EvaluationError: a logit is not finite.
        """
        before = self._torch.get_num_threads()
        try:
            with ThreadPoolExecutor(self._n_threads, initializer=self._single_thread) as pool:
                parts = list(pool.map(self._forward, batches))
        finally:
            self._torch.set_num_threads(before)
        result = np.empty((n_examples, parts[0].shape[1]), dtype=np.float32)
        for batch, part in zip(batches, parts, strict=True):
            result[batch.rows] = part[: len(batch.rows)]
        if not np.isfinite(result).all():
            n_bad = int((~np.isfinite(result).all(axis=1)).sum())
            raise EvaluationError(f"the model's logits are not finite for {n_bad} of {n_examples} examples")
        return result

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

    def _forward(self, batch: Batch) -> np.ndarray[Any, Any]:
        torch = self._torch
        device = self._hardware.device
        inputs = {name: torch.from_numpy(values).to(device) for name, values in batch.inputs.items()}
        half = torch.autocast(device, dtype=torch.bfloat16) if self._hardware.precision == "bf16" else nullcontext()
        with torch.inference_mode(), half:
            logits = self.module(**inputs).logits
        values: np.ndarray[Any, Any] = logits.float().cpu().numpy()
        return values


def tokenised(folder: Path, texts: Sequence[tuple[str, ...]], *, batch_size: int, max_length: int) -> list[Batch]:
    """Tokenises one or two text columns once, into batches of fixed shape.

    Args:
        folder: holds the tokenizer.
        texts: one tuple of columns per example.
        batch_size: rows of every batch.
        max_length: longer texts are truncated.

    Raises:
        ConfigError: the folder holds no tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    columns = list(zip(*texts, strict=True))
    with _LOCK:  # a fast tokenizer keeps its truncation state in itself
        encoded = tokenizer(*[list(column) for column in columns], truncation=True, max_length=max_length)
    names = [name for name in tokenizer.model_input_names if name in encoded]
    padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id or 0}
    return fixed_batches(
        {name: encoded[name] for name in names},
        batch_size=batch_size,
        max_length=max_length,
        padding_values={name: padding.get(name, 0) for name in names},
        padding_side=tokenizer.padding_side,
    )


_LOCK = threading.Lock()


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, from local files alone.

    Raises:
        ConfigError: there is none.
    """
    _, transformers = import_hf()
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as exc:
        raise ConfigError(
            f"{folder}: no usable tokenizer ({str(exc).splitlines()[0]})",
            fix="name the folder that has config.json and the tokenizer's files as `model:` in the task file",
        ) from exc
