"""Device and precision are decided once, and a missing package is named with its extra."""

from __future__ import annotations

import sys

import pytest
import torch

from stockpot.errors import ConfigError, MissingExtraError
from stockpot.tasks import hardware
from stockpot.tasks.hardware import choose_hardware, import_hf, single_threaded, visible_gpus


def test_what_is_asked_for_is_taken() -> None:
    assert choose_hardware(device="cpu", precision="bf16").precision == "bf16"
    chosen = choose_hardware(device="auto", precision="fp32")
    assert chosen.precision == "fp32"
    assert chosen.device == "cuda" or not torch.cuda.is_available()
    assert choose_hardware(device="cpu", precision="auto").precision in {"fp32", "bf16"}


@pytest.mark.parametrize(
    ("flags", "precision"), [({"amx_bf16"}, "bf16"), ({"avx512_bf16", "avx2"}, "bf16"), ({"avx2"}, "fp32")]
)
def test_bf16_is_for_processors_that_have_it(monkeypatch, flags, precision) -> None:
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: frozenset(flags))
    assert choose_hardware(device="cpu", precision="auto").precision == precision


def test_a_device_that_is_not_there(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="'cuda' is not available here"):
        choose_hardware(device="cuda", precision="auto")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_names_the_extra(monkeypatch, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"stockpot\[hf\]"):
        import_hf()


def test_one_thread_and_back_even_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with single_threaded(torch):
            assert torch.get_num_threads() == 1
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("listed", "n", "names"),
    [(None, 2, ("0", "1")), ("3, 1", 2, ("3", "1")), ("GPU-8f, 2,9", 2, ("GPU-8f", "2")), ("", 0, ())],
)
def test_gpus_are_called_as_the_environment_calls_them(monkeypatch, listed, n, names) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus("cuda") == names
    assert visible_gpus("cpu") == ()
