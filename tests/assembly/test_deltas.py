"""Inner products of checkpoints on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from stockpot.assembly import inner_products, write
from stockpot.errors import CheckpointError, IncompatibleError
from stockpot.recipes import model_stock
from stockpot.types import Ingredient


@pytest.fixture
def start(tmp_path: Path) -> Ingredient:
    return saved(tmp_path, "start", np.zeros(3))


def saved(folder: Path, name: str, weight: np.ndarray) -> Ingredient:
    """A checkpoint with one tensor of its own and one that nobody changes."""
    frozen = np.full(2, 0.1, np.float32)
    save_file({"w": weight.astype(np.float32), "frozen": frozen}, folder / f"{name}.safetensors")
    return Ingredient(name, str(folder / f"{name}.safetensors"))


def test_every_pair_of_every_tensor(tmp_path: Path, start: Ingredient) -> None:
    a, b = saved(tmp_path, "a", np.array([1, 0, 1])), saved(tmp_path, "b", np.array([0, 2, 2]))
    products = inner_products([a, b, a], start)
    by_name = dict(zip(products.groups, products.gram.tolist(), strict=True))
    assert by_name == {("w",): [[2, 2, 2], [2, 8, 2], [2, 2, 2]], ("frozen",): [[0.0] * 3] * 3}


def test_model_stock_from_files_to_a_file(tmp_path: Path, start: Ingredient) -> None:
    a, b = saved(tmp_path, "a", np.array([1, 0, 1])), saved(tmp_path, "b", np.array([0, 1, 1]))
    soup = model_stock([a, b], initialisation=start, inner_products=inner_products([a, b], start))
    write(soup, tmp_path / "soup")
    made = load_file(tmp_path / "soup" / "model.safetensors")
    share = 2 * 0.5 / (1 + 0.5)
    np.testing.assert_allclose(made["w"], share * np.array([0.5, 0.5, 1]), rtol=1e-6)
    assert made["frozen"].tobytes() == load_file(start.source)["frozen"].tobytes()


def test_what_cannot_be_compared_is_named(tmp_path: Path, start: Ingredient) -> None:
    with pytest.raises(IncompatibleError, match="do not fit") as raised:
        inner_products([saved(tmp_path, "wide", np.zeros(4))], start)
    assert raised.value.problems == ("w: [3] F32 in 'start' but [4] F32 in 'wide'",)
    with pytest.raises(CheckpointError, match="2 checkpoints cannot be opened"):
        inner_products([Ingredient("no", str(tmp_path / "no")), Ingredient("nor", str(tmp_path / "nor"))], start)
