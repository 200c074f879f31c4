"""Coefficients as typed on the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from stockpot.errors import BlendError
from stockpot.recipes import uniform
from stockpot.types import Coefficients, Ingredient, Soup

__all__ = ["mixing_notes", "parse_coefficients", "soup_of"]


def _logit_scale(folder: Path) -> float:
    """What the logits of a learned soup's folder are to be multiplied by; 1 for all others."""
    try:
        content = json.loads((folder / "soup.json").read_bytes())
    except (OSError, ValueError):
        return 1.0
    scale = content.get("logit_scale", 1.0) if isinstance(content, dict) else 1.0
    return float(scale) if isinstance(scale, int | float) else 1.0


def soup_of(ingredients: Sequence[Ingredient], coefficients: str | None) -> Soup:
    """The uniform soup, or one with the coefficients given."""
    if coefficients is None:
        return uniform(ingredients)
    return Soup(tuple(ingredients), Coefficients.of(parse_coefficients(coefficients, len(ingredients))), "weighted")


def parse_coefficients(text: str, k: int) -> list[float]:
    """Comma-separated finite numbers, one per source.

    Raises:
        BlendError: not numbers, or not k of them.

    Example:
        >>> parse_coefficients("0.5, 0.3,0.2", 3)
        [0.5, 0.3, 0.2]
    """
    values, problems = [], []
    for part in text.split(","):
        try:
            value = math.nan if "_" in part else float(part)  # Python would read 1_0 as 10
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            problems.append(f"{part.strip()!r} is not a finite number")
        values.append(value)
    if len(values) != k:
        problems.append(f"{len(values)} coefficients for {k} sources")
    if problems:
        raise BlendError(
            f"--coefficients {text!r}", problems=problems, fix=f"give {k} numbers separated by commas, in order"
        )
    return values


def mixing_notes(soup: Soup) -> list[str]:
    """What is allowed but worth saying: one ingredient, the same one twice, a soup in the soup, a sum that is not 1."""
    notes = []
    if len(soup.ingredients) == 1:
        notes.append("one ingredient only: a soup of it is a copy of it")
    sources_by_place: dict[tuple[Path, str | None], list[str]] = {}
    for ingredient in soup.ingredients:
        place = Path(ingredient.source).expanduser().resolve()
        sources_by_place.setdefault((place, ingredient.key), []).append(ingredient.source)
    for (place, _), sources in sources_by_place.items():
        if (n := len(sources)) > 1:
            notes.append(f"{sources[0]} is given {n} times and counts {n} times")
        if len(sources_by_place) > 1 and (place / "soup.json").is_file():  # an earlier output that the glob caught?
            notes.append(f"{sources[0]} is a soup itself and counts as one ingredient")
        if (scale := _logit_scale(place)) != 1.0:
            notes.append(
                f"{sources[0]}: its logit scale {scale:.4g} stands in soup.json, not in its weights, and is left out "
                "here; make that soup with --fold to keep it"
            )
    try:
        total = math.fsum(soup.coefficients)
    except OverflowError:
        total = math.inf
    if abs(total - 1) > 1e-6:
        notes.append(f"the coefficients sum to {total:g}, not 1")
    return notes
