"""Which device, which precision, how many threads: decided once, said in the task's identity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Hardware", "choose_hardware", "import_hf", "single_threaded", "visible_gpus"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where and how exactly the forward pass runs."""

    device: str
    precision: str
    capability: str


def choose_hardware(*, device: str, precision: str) -> Hardware:
    """Resolves "auto": the accelerator if there is one; bf16 autocast where the processor has instructions for it.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32" or "bf16" (autocast).

    Raises:
        ConfigError: the device asked for is not there.
        MissingExtraError: torch is not installed.
    """
    torch, _ = import_hf()
    available = _devices(torch)
    chosen = available[0] if device == "auto" else device
    if chosen not in available:
        raise ConfigError(
            f"evaluation.device: {device!r} is not available here; there is {', '.join(available)}",
            fix="use `device: auto`",
        )
    if precision == "auto":
        precision = "bf16" if _has_fast_bf16(torch, chosen) else "fp32"
    capability = torch.cuda.get_device_name() if chosen == "cuda" else str(torch.backends.cpu.get_cpu_capability())
    return Hardware(chosen, precision, capability)


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them; none where another device is used.

    Args:
        device: as chosen.
    """
    if device != "cuda":
        return ()
    torch, _ = import_hf()
    n = int(torch.cuda.device_count())
    listed = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(listed[:n]) if len(listed) >= n else tuple(map(str, range(n)))


def import_hf() -> tuple[ModuleType, ModuleType]:
    """torch and transformers (quietened), or the error that names the extra.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a forked tokenizer warns, and gains nothing here
    try:
        import torch
        import transformers
    except ModuleNotFoundError as exc:
        if exc.name not in {"torch", "transformers"}:
            raise
        raise MissingExtraError(exc.name, extra="hf", needed_for="a task with a model") from exc
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def _devices(torch: ModuleType) -> list[str]:
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def _has_fast_bf16(torch: ModuleType, device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Measured (docs/design/speed.md): either doubles matrix products; processors without imitate bf16 and lose by it.
    return device == "cpu" and not _cpu_flags().isdisjoint({"amx_bf16", "avx512_bf16"})


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


@contextmanager
def single_threaded(torch: ModuleType) -> Iterator[None]:
    """One torch thread while the block runs: the bits of a result then do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
