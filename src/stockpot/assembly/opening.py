"""Opening the ingredients of a soup together, checked against each other before a byte is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from stockpot.checkpoints import OpenedCheckpoint, open_checkpoint
from stockpot.errors import CheckpointError, StockpotError
from stockpot.kernel import check_compatible
from stockpot.types import Ingredient

__all__ = ["opened"]


@contextmanager
def opened(ingredients: Sequence[Ingredient], *, only: Sequence[str] | None = None) -> Iterator[list[OpenedCheckpoint]]:
    """Opens every ingredient (headers only), checks that they can be blended, and closes them afterwards.

    The same source given twice is opened once.

    Args:
        ingredients: at least one.
        only: names or globs of the tensors that will be blended; the others may differ.

    Returns:
        A context manager over one checkpoint per ingredient, in the same order.

    Raises:
        CheckpointError: sources that cannot be opened; all of them are named at once.
        IncompatibleError: names, shapes, dtypes or ties that differ; every mismatch is listed.
    """
    by_source: dict[tuple[str, str | None], OpenedCheckpoint] = {}
    problems: list[StockpotError] = []
    with ExitStack() as stack:
        for ingredient in ingredients:
            place = (ingredient.source, ingredient.key)
            if place in by_source:
                continue
            try:
                by_source[place] = stack.enter_context(open_checkpoint(ingredient.source, key=ingredient.key))
            except CheckpointError as error:
                problems.append(error)
        _raise_all(problems)
        checkpoints = [by_source[ingredient.source, ingredient.key] for ingredient in ingredients]
        check_compatible(checkpoints, labels=[ingredient.name for ingredient in ingredients], only=only)
        yield checkpoints


def _raise_all(errors: Sequence[StockpotError]) -> None:
    """One error stays itself; several become one that lists them."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        fixes = list(dict.fromkeys(error.fix for error in errors if error.fix))
        same = len(fixes) == 1
        raise CheckpointError(
            f"{len(errors)} checkpoints cannot be opened",
            problems=[_without_fix(error) if same else str(error) for error in errors],
            fix=fixes[0] if same else None,
        ) from errors[0]


def _without_fix(error: StockpotError) -> str:
    return "\n  ".join([error.message, *error.problems])
