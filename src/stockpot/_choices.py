"""How tables write the choices of a question, and which of them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any, NamedTuple

__all__ = ["Choices", "answers", "number_of", "read_choices"]


class Choices(NamedTuple):
    """The choices of one question.

    Args:
        texts: as they are written.
        names: one for each, where the table names them.
    """

    texts: Sequence[Any]
    names: Sequence[Any] = ()


def read_choices(cell: Any) -> Choices | None:
    """The choices of a cell: a list, or ARC's {"text": [...], "label": [...]}; None for anything else.

    Example:
        >>> read_choices({"text": ["sun", "sea"], "label": ["A", "B"]})
        Choices(texts=['sun', 'sea'], names=['A', 'B'])
    """
    if isinstance(cell, list):
        return Choices(cell)
    if not isinstance(cell, Mapping):
        return None
    texts, names = cell.get("text"), cell.get("label")
    if not isinstance(texts, list) or not isinstance(names, list) or len(texts) != len(names):
        return None
    return Choices(texts, names)


def number_of(answer: Any, choices: Choices) -> int | None:
    """The number of the right choice, from 0: of its name if choices have names, else as a number or a letter.

    Returns:
        None where the answer is none of them.

    Example:
        >>> [number_of(answer, Choices(["sun", "sea"])) for answer in (1, "1", "B", "b", 2, "C", True)]
        [1, 1, 1, 1, None, None, None]
        >>> number_of("1", Choices(["sun", "sea"], names=["1", "2"]))
        0
    """
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return None
    text = str(answer).strip()
    if choices.names:
        named = [str(name) for name in choices.names]
        return named.index(text) if named.count(text) == 1 else None
    if len(text) == 1 and text.lower() in ascii_lowercase:
        number = ascii_lowercase.index(text.lower())
    elif text.isascii() and text.isdigit():
        number = int(text)
    else:
        return None
    return number if number < len(choices.texts) else None


def answers(choices: Choices) -> str:
    """What an answer may be, in words.

    Example:
        >>> answers(Choices(["sun", "sea"]))
        '0 to 1, or A to B'
    """
    if choices.names:
        return f"one of {', '.join(map(str, choices.names))}"
    last = len(choices.texts) - 1
    return f"0 to {last}, or A to {ascii_lowercase[min(last, 25)].upper()}"
