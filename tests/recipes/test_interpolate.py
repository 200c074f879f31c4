"""The WiSE-FT line: its ends, its points, ties, and other ends than the uniform soup."""

from __future__ import annotations

import numpy as np
import pytest

from stockpot.assembly import materialize
from stockpot.checkpoints import ingredients
from stockpot.errors import BlendError, ConfigError
from stockpot.recipes import ensemble, greedy, interpolate, uniform
from stockpot.types import Ingredient, Soup

START = Ingredient("start", "base")
RUNS = [Ingredient(name, f"runs/{name}") for name in "ab"]


def share(soup: Soup) -> float:
    return 1.0 - tuple(soup.coefficients)[-1]


def test_every_point_sums_to_one_and_is_tried_from_the_largest_down() -> None:
    asked: list[Soup] = []
    interpolate(RUNS, lambda soup: asked.append(soup) or 0.0, initialisation=START, alphas=(0.25, 1.0, 0.0))
    assert [share(soup) for soup in asked] == [1.0, 0.25, 0.0]
    for soup in asked:
        assert sum(soup.coefficients) == pytest.approx(1.0)
        assert [ingredient.name for ingredient in soup.ingredients] == ["a", "b", "start"]


def test_of_equal_points_the_largest_share_wins() -> None:
    assert share(interpolate(RUNS, lambda soup: 0.5, initialisation=START)) == 1.0


def test_the_ends_are_the_initialisation_and_the_soup_to_the_bit(tmp_path) -> None:
    from safetensors.numpy import save_file

    generator = np.random.default_rng(0)
    for name in ("a", "b", "start"):
        save_file({"w": generator.normal(size=(7, 3)).astype(np.float32)}, tmp_path / f"{name}.safetensors")
    a, b, start = ingredients(str(tmp_path / "*.safetensors"))
    whole, none = (interpolate([a, b], lambda soup: 0.0, initialisation=start, alphas=(alpha,)) for alpha in (1.0, 0.0))
    np.testing.assert_array_equal(materialize(whole)["w"], materialize(uniform([a, b]))["w"])
    np.testing.assert_array_equal(materialize(none)["w"], materialize(uniform([start]))["w"])


def test_another_soup_can_be_the_end() -> None:
    end = greedy(RUNS, lambda soup: {"a": 0.6, "b": 0.7, "ba": 0.5}["".join(i.name for i in soup.ingredients)])
    soup = interpolate(RUNS, lambda soup: share(soup), initialisation=START, end=end)
    assert list(soup.coefficients) == [1.0, 0.0]
    assert [ingredient.name for ingredient in soup.ingredients] == ["b", "start"]
    best_end = interpolate(RUNS, lambda soup: float(soup.ingredients[0].name == "a"), initialisation=START, end="best")
    assert best_end.ingredients[0].name == "a"


@pytest.mark.parametrize("alphas", [(), (0.5, 0.5), (-0.1, 1.0), (0.0, 1.1), (float("nan"),)])
def test_alphas_that_make_no_line_are_refused(alphas) -> None:
    with pytest.raises(ConfigError, match="alphas"):
        interpolate(RUNS, lambda soup: 0.0, initialisation=START, alphas=alphas)


def test_ends_that_are_none_are_refused() -> None:
    with pytest.raises(BlendError, match="combines logits"):
        interpolate(RUNS, lambda soup: 0.0, initialisation=START, end=ensemble(RUNS))
    with pytest.raises(ConfigError, match="not among the ingredients"):
        interpolate(RUNS[:1], lambda soup: 0.0, initialisation=START, end=uniform(RUNS))
    with pytest.raises(ConfigError, match="does not know the end"):
        interpolate(RUNS, lambda soup: 0.0, initialisation=START, end="median")  # type: ignore[arg-type]
