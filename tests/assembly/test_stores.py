"""Both stores against sums and inner products in float64: dtypes, sizes around the read size, rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stockpot.assembly import stores
from stockpot.assembly.mixture import _load_first
from stockpot.assembly.opening import opened
from stockpot.checkpoints import ingredients
from stockpot.errors import BlendError
from stockpot.kernel import dot_products

K, NAMES = 4, ("table", "vector", "empty", "scalar")
SHAPES = {"table": (37, 6), "vector": (300,), "empty": (0, 3), "scalar": ()}


class Tensors(torch.nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        for name, shape in SHAPES.items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape, dtype=dtype)))


@pytest.fixture(params=[torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def runs(request, tmp_path: Path):
    for run in range(K):
        generator = torch.Generator().manual_seed(run)
        state = {name: torch.randn(shape, generator=generator).to(request.param) for name, shape in SHAPES.items()}
        save_file(state, tmp_path / f"{run}.safetensors")
    return request.param, ingredients(str(tmp_path / "*.safetensors"))


@pytest.mark.parametrize("read_bytes", [64, 2**20])
@pytest.mark.parametrize("make", [stores.Deltas, stores.Streamed])
def test_sums_and_products_are_those_of_float64(runs, make, read_bytes: int, monkeypatch) -> None:
    monkeypatch.setattr(stores, "READ_BYTES", read_bytes)
    dtype, members = runs
    module = Tensors(torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    rows = torch.tensor([0, 1, 2, 7, 20, 21, 36])
    generator = torch.Generator().manual_seed(9)
    with opened(members) as checkpoints:
        _load_first(module, checkpoints[0], "0")  # both begin with the first ingredient, as a mixture does
        row_by_name = {name: row for row, name in enumerate(NAMES)}
        store = make(module, checkpoints, members, NAMES, row_by_name, map)
        coefficients = np.random.default_rng(3).normal(size=(len(NAMES), K))
        units = [{name: _values(checkpoint, name) for name in NAMES} for checkpoint in checkpoints]
        sums = {n: sum(c * u[n] for c, u in zip(coefficients[row_by_name[n]], units, strict=True)) for n in NAMES}
        store.load(NAMES, coefficients)
        for name in NAMES:
            np.testing.assert_allclose(getattr(module, name).detach(), sums[name], atol=tolerance)
        module.table.detach().zero_()
        store.load_rows("table", rows, coefficients)
        others = [row for row in range(37) if row not in rows]
        np.testing.assert_allclose(module.table.detach()[rows], sums["table"][rows], atol=tolerance)
        assert not module.table.detach()[others].any()

        gradients = {n: torch.randn(SHAPES[n], generator=generator, dtype=dtype).to(module.table) for n in NAMES}
        gradients["table"][others] = 0
        expected = {n: dot_products(checkpoints, n, g.reshape(-1).numpy()) for n, g in gradients.items()}
        sparse = gradients | {"table": gradients["table"].to_sparse(1)}
        for given in (gradients, sparse):
            for name, products in store.products(given):
                np.testing.assert_allclose(products, expected[name], atol=50 * tolerance, err_msg=name)


def _values(checkpoint, name: str) -> np.ndarray:
    unit = np.zeros(int(np.prod(SHAPES[name])))
    values = []
    for position in range(unit.size):
        unit[position] = 1.0
        values.append(dot_products([checkpoint], name, unit)[0])
        unit[position] = 0.0
    return np.array(values).reshape(SHAPES[name])


def test_small_differences_keep_their_digits(tmp_path: Path) -> None:
    """Streamed, too: products of a large common part would drown them in single precision."""
    common = torch.randn(50_000, generator=torch.Generator().manual_seed(0)) * 100
    for run in range(2):
        save_file({"w": common + run * 2.0**-10}, tmp_path / f"{run}.safetensors")
    runs = ingredients(str(tmp_path / "*.safetensors"))
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.zeros(50_000))
    gradient = torch.randn(50_000, generator=torch.Generator().manual_seed(1))
    with opened(runs) as checkpoints:
        store = stores.Streamed(module, checkpoints, runs, ("w",), {"w": 0}, map)
        ((_, found),) = store.products({"w": gradient})
        exact = dot_products(checkpoints, "w", gradient.numpy())
    assert found[1] - found[0] == pytest.approx(exact[1] - exact[0], rel=1e-4)


def test_nan_is_named_before_the_first_step(tmp_path: Path) -> None:
    for run, value in enumerate((1.0, float("nan"))):
        save_file({"w": torch.full((3,), value)}, tmp_path / f"{run}.safetensors")
    runs = ingredients(str(tmp_path / "*.safetensors"))
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.zeros(3))
    with opened(runs) as checkpoints, pytest.raises(BlendError, match="1"):
        stores.Streamed(module, checkpoints, runs, ("w",), {"w": 0}, map)
