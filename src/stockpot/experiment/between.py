"""Which models a plane or a line goes through: those that the user names, else those that the task prefers."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

from stockpot.assembly import opened
from stockpot.checkpoints import ingredients as ingredients_of
from stockpot.errors import ConfigError
from stockpot.types import Ingredient

__all__ = ["models_between", "needs_start"]


def needs_start(n_between: int) -> frozenset[str]:
    """The parts that lack a corner or an end without the initialisation.

    Example:
        >>> sorted(needs_start(0)), sorted(needs_start(2)), sorted(needs_start(3))
        (['line', 'plane'], ['plane'], [])
    """
    return frozenset({0: {"plane", "line"}, 2: {"plane"}}.get(n_between, set()))


def models_between(
    wanted: Sequence[str], ingredients: Sequence[Ingredient], start: Ingredient | None
) -> tuple[Ingredient, ...]:
    """The models named: ingredients by name, `initialisation`, or checkpoints by path, such as written soups.

    Args:
        wanted: none, two (of the line; with the initialisation, of the plane) or three (of the plane; the first two
            of the line).
        ingredients: whose names count.
        start: the initialisation.

    Raises:
        ConfigError: another number, one named twice, or one that is neither.
        CheckpointError: one that does not fit the ingredients.
    """
    if len(wanted) not in (0, 2, 3) or len(set(wanted)) < len(wanted):
        given = ", ".join(wanted)
        raise ConfigError(f"a line is between two models, a plane through three: got {given}", fix="name 2 or 3 models")
    known = {one.name: one for one in (*ingredients, *([] if start is None else [start]))}
    unknown = [name for name in wanted if name not in known and not Path(name).exists()]
    if unknown:
        raise ConfigError(
            f"no such ingredient, file or folder: {', '.join(unknown)}",
            fix=f"name ingredients ({', '.join(list(known)[:8])}) or checkpoints by path",
        )
    others = _by_path([name for name in wanted if name not in known], known)
    found = tuple(known.get(name) or others[name] for name in wanted)
    if found:
        with opened([ingredients[0], *found]):
            pass  # what does not fit is said before anything is evaluated
    return found


def _by_path(paths: Sequence[str], known: Container[str]) -> dict[str, Ingredient]:
    """Checkpoints by their paths, named by the ends of these as ingredients are, and like none of them."""
    found = {}
    for path, one in zip(paths, ingredients_of(*paths) if paths else (), strict=True):
        name = f"{Path(path).resolve().parent.name}/{one.name}" if one.name in known else one.name
        found[path] = replace(one, name=name)
    return found
