"""Corruptions of texts that make shifted test sets. Each item has a random stream of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

__all__ = ["CORRUPTIONS", "casing", "corrupt", "truncation", "typos", "word_drop"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def corrupt(texts: Sequence[tuple[str, ...]], kind: str, rate: float, seed: int) -> tuple[tuple[str, ...], ...]:
    """Every text, corrupted by a stream that depends on (kind, seed, item index, column) alone.

    So the first n of a corrupted list are the corrupted first n, whatever the other texts are.

    Args:
        texts: one tuple of columns per item.
        kind: a name in `CORRUPTIONS`.
        rate: share of characters (typos) or words (the others) that is touched, [0, 1].
        seed: any whole number.

    Returns:
        Texts of the same layout. A text that had words still has some.

    Raises:
        KeyError: unknown kind; configurations are checked before.

    Example:
        >>> corrupt([("one two three four",)], "word_drop", 0.5, seed=1)
        (('two four',),)
    """
    function = CORRUPTIONS[kind]
    # Random.random() of a string seed is the same in every version of Python and on every machine; the other methods of
    # Random carry no such promise, and a test set must not change under a user.
    return tuple(
        tuple(function(text, rate, Random(f"{kind}/{seed}/{index}/{column}")) for column, text in enumerate(item))
        for index, item in enumerate(texts)
    )


def typos(text: str, rate: float, random: Random) -> str:
    """With probability `rate` per character one of: swap with the next, delete, insert a letter, substitute a letter.

    Args:
        text: any text.
        rate: probability per character, [0, 1].
        random: where the draws come from.

    Returns:
        The text with typing errors; unchanged if nothing but blanks would be left.

    Example:
        >>> typos("model soups", 0.0, Random(0))
        'model soups'
    """
    written: list[str] = []
    at = 0
    while at < len(text):
        if random.random() >= rate:
            written.append(text[at])
            at += 1
        else:
            mistake = _MISTAKES[_below(len(_MISTAKES), random)]
            wrong, n_read = mistake(text, at, random)
            written.append(wrong)
            at += n_read
    result = "".join(written)
    return result if result.strip() else text


def word_drop(text: str, rate: float, random: Random) -> str:
    """Drops each word with probability `rate`, but one word is always kept.

    Args:
        text: words separated by blanks; runs of blanks become one.
        rate: probability per word, [0, 1].
        random: where the draws come from.

    Example:
        >>> word_drop("never empty", 1.0, Random(0)) in {"never", "empty"}
        True
    """
    words = text.split()
    if not words:
        return text
    kept = [word for word in words if random.random() >= rate]
    return " ".join(kept or [words[_below(len(words), random)]])


def casing(text: str, rate: float, random: Random) -> str:
    """With probability `rate` a word is written in the case of someone in a hurry: all capitals, or none at all.

    A word that is in one of these already takes the other. No shift for models whose tokenizer lowers all letters.

    Args:
        text: words separated by blanks; blanks stay as they are.
        rate: probability per word, [0, 1].
        random: where the draws come from.

    Example:
        >>> casing("Model SOUPS", 1.0, Random(1)) in {"MODEL soups", "model soups"}
        True
    """
    return "".join(
        part if part.isspace() or random.random() >= rate else _recased(part, random) for part in _parts(text)
    )


def _recased(word: str, random: Random) -> str:
    first, second = (word.upper(), word.lower()) if random.random() < 0.5 else (word.lower(), word.upper())
    return first if first != word else second


def _parts(text: str) -> list[str]:
    """Words and the blanks between them."""
    return re.findall(r"\s+|\S+", text)


def truncation(text: str, rate: float, random: Random) -> str:
    """Cuts the end off: each text keeps its first words, one at least, and loses `rate` of them on average.

    The share that is lost is uniform on [0, 2 rate] below a rate of a half, on [2 rate - 1, 1] above.

    Args:
        text: words separated by blanks; blanks inside what is kept stay as they are.
        rate: mean share of words that is lost, [0, 1].
        random: where the draws come from.

    Example:
        >>> truncation("one two three", 1.0, Random(0)), truncation("one two three", 0.0, Random(0))
        ('one', 'one two three')
    """
    width = 2 * min(rate, 1 - rate)
    share = rate - width / 2 + width * random.random()
    words = list(re.finditer(r"\S+", text))
    if not words or not share:
        return text
    n_kept = max(1, len(words) - int(share * len(words) + random.random()))
    return text if n_kept >= len(words) else text[: words[n_kept - 1].end()]


def _swap(text: str, at: int, random: Random) -> tuple[str, int]:
    """What is written, and how many characters of the text that covers; the last character has no next one."""
    return (text[at + 1] + text[at], 2) if at + 1 < len(text) else _substitute(text, at, random)


def _delete(_text: str, _at: int, _random: Random) -> tuple[str, int]:
    return "", 1


def _insert(text: str, at: int, random: Random) -> tuple[str, int]:
    return text[at] + _LETTERS[_below(len(_LETTERS), random)], 1


def _substitute(text: str, at: int, random: Random) -> tuple[str, int]:
    others = _LETTERS.replace(text[at].lower(), "")
    return others[_below(len(others), random)], 1


def _below(n: int, random: Random) -> int:
    return int(random.random() * n)


_MISTAKES: Sequence[Callable[[str, int, Random], tuple[str, int]]] = (_swap, _delete, _insert, _substitute)

#: Name -> corruption of one text by a rate and a stream.
CORRUPTIONS: Mapping[str, Callable[[str, float, Random], str]] = {
    "typos": typos, "word_drop": word_drop, "casing": casing, "truncation": truncation,
}  # fmt: skip
