"""One cell, and whether it is a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Fault", "is_unicode", "number", "shown"]

#: Larger is no score but a mistake, and sums of it may overflow.
_LARGEST = 1e300
_MOST_CHARACTERS = 40
_FINITE = "write finite numbers with a decimal point, and leave out models that have no score"
_UNQUOTED = "write numbers as JSON numbers, without quotes"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a cell is not what it should be, and what to do about it."""

    reason: str
    fix: str = _FINITE


def number(cell: object, *, is_text: bool) -> float | Fault:
    """The finite number that a cell holds.

    Args:
        cell: a JSON value, or the text of a CSV cell.
        is_text: whether numbers are spelled as text, as CSV does; elsewhere text is no number.

    Returns:
        The number, or what is wrong.

    Example:
        >>> number("81.2", is_text=True), number(True, is_text=False).reason
        (81.2, 'true is no number')
    """
    if type(cell) is float and -_LARGEST <= cell <= _LARGEST:  # nearly all of them
        return cell
    if is_text or isinstance(cell, str):
        return _of_text(str(cell), is_text)
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return Fault(f"{shown(cell)} is no number")
    return _checked(cell)


def shown(cell: object) -> str:
    """The cell as its file spells it, cut to a readable length.

    Example:
        >>> shown(None), shown("a"), shown([1])
        ('null', "'a'", 'a list')
    """
    if isinstance(cell, bool) or cell is None:
        return {None: "null", True: "true", False: "false"}[cell]
    if isinstance(cell, list | tuple):
        return "a list" if isinstance(cell, list) else "an object"
    text = repr(cell)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."


def is_unicode(text: str) -> bool:
    """Whether there are no half characters, which JSON can spell but no file can hold.

    Example:
        >>> is_unicode("é"), is_unicode("\\ud800")
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_text(text: str, is_text: bool) -> float | Fault:
    value = _read(text)
    if is_text:
        reason = f"{shown(text)} is no number" if text else "empty"
        return Fault(reason) if value is None else _checked(value)
    return Fault(f"{shown(text)} is text, not a number", _FINITE if value is None else _UNQUOTED)


def _read(text: str) -> float | None:
    """`float` alone would also take '1_000' and digits of other scripts."""
    if "_" in text or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _checked(value: Any) -> float | Fault:
    if isinstance(value, float) and not math.isfinite(value):
        return Fault(f"{value} is not finite")
    if abs(value) > _LARGEST:
        return Fault("larger than any score")
    return float(value)
