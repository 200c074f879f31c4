"""Blends straight from files: the bytes of the slow way, whatever the files look like."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from stockpot.checkpoints import open_checkpoint
from stockpot.errors import BlendError, CheckpointError
from stockpot.kernel import blend, fused, native
from stockpot.kernel.native import FileSum
from stockpot.types import Coefficients

pytestmark = pytest.mark.skipif(native.load() is None, reason="built without a C compiler")
DTYPES = {"f4": np.float32, "f2": np.float16, "f8": np.float64}


def write_all(
    folder: Path, k: int, dtype: type, *, seed: int = 0, shapes=((3, 5), (0,), (), (70_001,), (1,))
) -> list[Path]:
    """Every file with a header of another length, so that tensors begin at any byte."""
    random = np.random.default_rng(seed)
    paths = []
    for i in range(k):
        tensors = {f"t{j}": random.normal(0, 0.02, shape).astype(dtype) for j, shape in enumerate(shapes)}
        paths.append(folder / f"{i}.safetensors")
        safetensors.numpy.save_file(tensors, paths[-1], metadata={"note": "x" * i})
    return paths


def blended(paths: list[Path], row: Coefficients, **options: object) -> dict[str, bytes]:
    checkpoints = [open_checkpoint(path) for path in paths]
    found: dict[str, bytes] = {}
    try:
        for chunk in blend(checkpoints, row, **options):  # type: ignore[arg-type]
            found[chunk.name] = found.get(chunk.name, b"") + bytes(chunk.data)
    finally:
        for checkpoint in checkpoints:
            checkpoint.close()
    return found


def slowly(monkeypatch: pytest.MonkeyPatch, *given: object, **options: object) -> dict[str, bytes]:
    """In numpy, read by Python."""
    with monkeypatch.context() as patch:
        patch.setattr(fused, "_native", lambda: None)
        return blended(*given, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("k", [1, 2, 7, 64, 65, 130])
def test_files_of_any_number_and_offset(monkeypatch, tmp_path, dtype, k) -> None:
    paths = write_all(tmp_path, k, dtype)
    random = np.random.default_rng(k)
    for values in ([1 / k] * k, random.normal(0, 1 / k, k), np.where(random.random(k) < 0.5, 0.0, 0.3)):
        row = Coefficients.of(list(map(float, values)))
        assert blended(paths, row) == slowly(monkeypatch, paths, row)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp64", "fp32"])
@pytest.mark.parametrize("chunk_elements", [1, 1000, 2**12 + 1, 2**17])
def test_any_output_dtype_chunk_and_number_of_threads(monkeypatch, tmp_path, dtype, chunk_elements) -> None:
    paths = write_all(tmp_path, 3, np.float32, shapes=((9_001,), (2, 3)))
    row = Coefficients.equal(3)
    expected = slowly(monkeypatch, paths, row, dtype=dtype)
    for threads in (0, 1, 3):
        assert blended(paths, row, dtype=dtype, chunk_elements=chunk_elements, threads=threads) == expected


def test_the_same_file_several_times(monkeypatch, tmp_path) -> None:
    (path,) = write_all(tmp_path, 1, np.float32)
    assert blended([path] * 3, Coefficients.equal(3)) == slowly(monkeypatch, [path] * 3, Coefficients.equal(3))


def test_one_file_that_ends_early_while_it_is_read_is_an_error_that_names_it(tmp_path) -> None:
    paths = write_all(tmp_path, 3, np.float32, shapes=((400_000,), (400_000,)))
    checkpoints = [open_checkpoint(path) for path in paths]
    chunks = blend(checkpoints, Coefficients.equal(3))
    next(chunks)
    os.truncate(paths[1], 500_000)
    with pytest.raises(CheckpointError, match=r"1\.safetensors"):
        list(chunks)


@pytest.mark.parametrize("threads", [0, 2])
def test_faults_are_named_as_on_the_slow_way(monkeypatch, tmp_path, threads) -> None:
    paths = write_all(tmp_path, 3, np.float32)
    tensors = safetensors.numpy.load_file(paths[2])
    tensors["t3"][65_536] = np.nan
    tensors["t0"][1, 2] = np.inf
    safetensors.numpy.save_file(tensors, paths[2])
    messages = []
    for way in (blended, lambda *given, **options: slowly(monkeypatch, *given, **options)):
        with pytest.raises(BlendError) as caught:
            way(paths, Coefficients.of([0.5, 0.5, 0.0]), threads=threads)
        messages.append((caught.value.message, caught.value.problems))
    assert messages[0] == messages[1]


def test_what_is_not_in_a_file_is_read_by_python(tmp_path) -> None:
    from fakes import float_checkpoint
    from stockpot.kernel.mixing import MixingRule

    paths = write_all(tmp_path, 1, np.float32, shapes=((2,),))
    with open_checkpoint(paths[0]) as stored:
        rule = MixingRule.of((0.5, 0.5))
        assert isinstance(fused.file_sum([stored, stored], "t0", rule, "F32", "F32"), FileSum)
        assert fused.file_sum([stored, float_checkpoint(t0=[1.0, 2.0])], "t0", rule, "F32", "F32") is None
        assert fused.file_sum([stored, stored], "t0", rule, "F32", "F8_E5M2") is None
    assert fused.file_sum([stored, stored], "t0", rule, "F32", "F32") is None  # closed: reading it says so
