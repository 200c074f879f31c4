"""Label words of text-to-text classifiers: from labels to words, from words to the tokens a model answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from stockpot.errors import ConfigError
from stockpot.tasks.data import Label

__all__ = ["LabelTokens", "label_order", "label_tokens", "words_of_labels"]

_FIX = "correct `label_words` in the task"


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """What the model is to answer for each label.

    Args:
        ids: per label, the tokens of its words as the tokenizer makes a target of them, with what ends it.
        n_given: leading tokens that are no part of an answer but of every target (BART's <s>): given, not scored.
    """

    ids: tuple[tuple[int, ...], ...]
    n_given: int


def label_order(
    labels: Sequence[str] | None,
    words: Mapping[str, str] | None,
    found: Iterable[Label],
    class_names: Sequence[str] = (),
) -> tuple[str, ...] | None:
    """The task's own order of the labels: `labels`, else the sorted ones that have words; None leaves it to the data.

    Args:
        labels: of the task.
        words: label -> words, of the task.
        found: the labels in the data.
        class_names: what the data's files name their numbers.

    Raises:
        ConfigError: numbers in the data, names among the words, and nothing that says which is which.

    Example:
        >>> label_order(None, {"10": "ten", "9": "nine"}, [9, 10])
        ('9', '10')
    """
    if labels is not None or words is None:
        return tuple(labels) if labels is not None else None
    if all(name.isdecimal() for name in words):
        return tuple(sorted(words, key=int))
    if set(words) == set(class_names):
        return tuple(class_names)
    if any(isinstance(label, int) for label in found):
        raise ConfigError(
            f"the data number their labels, and `label_words` names them: {', '.join(words)}",
            fix="give the names in the order of their numbers as `labels`, or number them under `label_words`, too",
        )
    return tuple(sorted(words))


def words_of_labels(names: Sequence[str], words: Mapping[str, str] | None) -> tuple[str, ...]:
    """What the model answers with for each label, in the labels' order; without `words`, the names.

    Raises:
        ConfigError: a label without words, or words for what is no label.

    Example:
        >>> words_of_labels(("0", "1"), {"1": "equivalent", "0": "not_equivalent"})
        ('not_equivalent', 'equivalent')
    """
    if words is None:
        return tuple(names)
    problems = [f"{name!r} is a label without words" for name in names if name not in words]
    problems += [f"{name!r} has words and is no label" for name in words if name not in names]
    if problems:
        raise ConfigError(f"label_words does not fit the labels {', '.join(names)}", problems=problems, fix=_FIX)
    return tuple(words[name] for name in names)


def label_tokens(tokenizer: Any, names: Sequence[str], words: Sequence[str]) -> LabelTokens:
    """The targets of all labels, each of them told from the others.

    Args:
        tokenizer: of the model.
        names: of the labels, for messages.
        words: what the model answers with for each of them.

    Raises:
        ConfigError: words of no token, or of tokens that the tokenizer does not know; two labels of which one's tokens
            begin with all of the other's.
    """
    ids = tuple(tuple(target) for target in tokenizer(text_target=list(words))["input_ids"])
    special = set(tokenizer.all_special_ids)
    problems = []
    for name, word, target in zip(names, words, ids, strict=True):
        if tokenizer.unk_token_id in target:
            problems.append(f"{name}: the tokenizer does not know all of {word!r}, so no model can answer with it")
        elif not set(target) - special:
            problems.append(f"{name}: {word!r} has no token")
    problems = problems or [
        f"{names[one]} and {names[other]}: {words[one]!r} and {words[other]!r} "
        + ("have the same tokens" if ids[one] == ids[other] else "begin with the same tokens, and the first ends there")
        for one, other in permutations(range(len(ids)), 2)
        if ids[other][: len(ids[one])] == ids[one] and (ids[one] != ids[other] or one < other)
    ]
    if problems:
        raise ConfigError("label words that the model cannot tell", problems=problems, fix=_FIX)
    starts = {target[0] for target in ids}
    return LabelTokens(ids, n_given=int(len(starts) == 1 and starts <= special))
