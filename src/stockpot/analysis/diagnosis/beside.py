"""Findings from what stands beside the weights: the names of labels, and tokenizers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from stockpot.records import Finding

__all__ = ["Tokenizer", "label_name_findings", "merged_label_orders", "said_labels", "tokenizer_findings"]

#: What transformers writes where nobody has named the labels.
_UNNAMED = re.compile(r"LABEL_\d+")
_MOST_LINES = 8
_MOST_TOKENS = 3


def said_labels(config: Any) -> dict[int, str]:
    """The names of labels in the content of config.json, by index; empty where nobody has given any.

    Example:
        >>> said_labels({"id2label": {"0": "cat", "1": "dog"}}), said_labels({"id2label": {"0": "LABEL_0"}})
        ({0: 'cat', 1: 'dog'}, {})
    """
    given = config.get("id2label") if isinstance(config, Mapping) else None
    if not isinstance(given, Mapping) or not all(str(key).isdecimal() for key in given):
        return {}
    names = {int(key): str(name) for key, name in given.items()}
    return {} if all(_UNNAMED.fullmatch(name) for name in names.values()) else names


def label_name_findings(
    labels: Mapping[str, Mapping[int, str]], *, begun: Mapping[int, str] | None = None
) -> list[Finding]:
    """Runs whose configuration names the labels otherwise than most do; case does not count.

    Args:
        labels: ingredient -> index -> name, of those that name them.
        begun: names of the initialisation: of groups of runs that contradict each other, those that agree with it
            are right.

    Example:
        >>> found = label_name_findings({"a": {0: "no", 1: "yes"}, "b": {0: "no", 1: "yes"}, "c": {0: "yes", 1: "no"}})
        >>> found[0].kind, found[0].ingredients, found[0].evidence
        ('label_order', ('c',), ("c: label 0 is 'yes', in a 'no'", "c: label 1 is 'no', in a 'yes'"))
    """
    plain = {name: _plain(said) for name, said in labels.items() if said}
    if not plain:
        return []
    usual = _usual(plain, _plain(begun or {}))
    odd = [name for name in plain if plain[name] != plain[usual]]
    order = [name for name in odd if sorted(plain[name].values()) == sorted(plain[usual].values())]
    other = [name for name in odd if name not in order]

    def evidence(names: Sequence[str]) -> tuple[str, ...]:
        lines = (
            f"{name}: label {index} is {labels[name].get(index)!r}, in {usual} {labels[usual].get(index)!r}"
            for name in names
            for index in sorted(plain[name].keys() | plain[usual].keys())
            if plain[name].get(index) != plain[usual].get(index)
        )
        return _shortened(lines)

    found = []
    if order:
        fix = "make all runs with one label2id (where config.json alone is wrong, mend it), or leave these out"
        found.append(Finding("label_order", "fault", _in_another_order(order), evidence(order), fix, tuple(order)))
    if other:
        message = f"{', '.join(other)} {'has' if len(other) == 1 else 'have'} other names for the labels"
        fix = "see whether the same index means the same; if not, leave these out"
        found.append(Finding("label_names", "caution", message, evidence(other), fix, tuple(other)))
    return found


def merged_label_orders(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, with one for labels in another order: what the heads show and what the configurations say.

    Example:
        >>> both = [Finding("label_order", "fault", "", (said,), "", ("c",)) for said in ("in config", "in head")]
        >>> merged_label_orders(both)[0].evidence
        ('in config', 'in head')
    """
    orders = [finding for finding in findings if finding.kind == "label_order"]
    if len(orders) < 2:
        return list(findings)
    names = tuple(dict.fromkeys(name for one in orders for name in one.ingredients))
    evidence = tuple(line for one in orders for line in one.evidence)
    whole = replace(orders[0], message=_in_another_order(names), evidence=evidence, ingredients=names)
    return [whole, *(finding for finding in findings if finding.kind != "label_order")]


def _in_another_order(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'has its' if len(names) == 1 else 'have their'} labels in another order"


def _plain(names: Mapping[int, str]) -> dict[int, str]:
    return {index: name.strip().casefold() for index, name in names.items()}


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What a tokenizer's files say.

    Args:
        ids: token -> row of the embeddings; empty where the files do not tell.
        settings: how texts are cut and cleaned, by name: any JSON.
        is_whole: whether all tokens are in `ids`, those added later too.
    """

    ids: Mapping[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_whole: bool = True


def tokenizer_findings(tokenizers: Mapping[str, Tokenizer], *, begun: Tokenizer | None = None) -> list[Finding]:
    """Runs whose tokenizer is another than that of most, though it has as many tokens.

    Args:
        tokenizers: of those that have one.
        begun: that of the initialisation, which is right where runs contradict each other.

    Example:
        >>> found = tokenizer_findings({"a": Tokenizer({"x": 0, "y": 1}), "b": Tokenizer({"x": 1, "y": 0})})
        >>> found[0].kind, found[0].ingredients, found[0].evidence
        ('tokenizer', ('b',), ("b: 2 of 2 tokens have other ids than in a, as 'x': 1, in a 0; 'y': 0, in a 1",))
    """
    if not tokenizers:
        return []
    usual = _usual(tokenizers, begun)
    moved: dict[str, str] = {}
    differing: dict[str, str] = {}
    for name, own in tokenizers.items():
        if own is tokenizers[usual] or own == tokenizers[usual]:
            continue
        if said := _other_ids(own, tokenizers[usual], usual):
            moved[name] = f"{name}: {said}"
        elif parts := list(_other_settings(own, tokenizers[usual], usual)):
            differing[name] = f"{name}: {', '.join(parts)}"
    found = []
    if moved:
        message = f"{', '.join(moved)} {'was' if len(moved) == 1 else 'were'} trained with another vocabulary"
        fix = "the same row of the embeddings is another word there: tokenise all runs alike, or leave these out"
        found.append(Finding("tokenizer", "fault", message, _shortened(moved.values()), fix, tuple(moved)))
    if differing:
        message = f"{', '.join(differing)} {'has' if len(differing) == 1 else 'have'} a tokenizer that is set otherwise"
        fix = "tokenise all runs alike"
        lines = _shortened(differing.values())
        found.append(Finding("tokenizer_settings", "caution", message, lines, fix, tuple(differing)))
    return found


def _other_ids(own: Tokenizer, usual: Tokenizer, name: str) -> str:
    """Which tokens both know under different ids, in words."""
    moved = [token for token, index in own.ids.items() if usual.ids.get(token, index) != index]
    if not moved:
        return ""
    shown = "; ".join(f"{token!r}: {own.ids[token]}, in {name} {usual.ids[token]}" for token in moved[:_MOST_TOKENS])
    return f"{len(moved):,} of {len(own.ids):,} tokens have other ids than in {name}, as {shown}"


def _other_settings(own: Tokenizer, usual: Tokenizer, name: str) -> Iterator[str]:
    if own.ids and usual.ids and own.is_whole == usual.is_whole and (only := own.ids.keys() ^ usual.ids.keys()):
        yield f"{len(only):,} tokens are not both here and in {name}, as {min(only)!r}"
    for key, value in own.settings.items():
        if key in usual.settings and _contradict(value, usual.settings[key]):
            yield f"{key} is not that of {name}"


def _contradict(one: Any, other: Any) -> bool:
    """Whether two JSON values say different things; a key that one of them lacks says nothing (other versions do)."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return any(_contradict(one[key], other[key]) for key in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) != len(other) or any(_contradict(a, b) for a, b in zip(one, other, strict=True))
    return bool(one != other)


def _usual(said: Mapping[str, Any], begun: Any) -> str:
    """A name of those who say what the initialisation says, or else what most say; of equals the first."""
    for name, own in said.items():
        if begun and own == begun:
            return name
    names = list(said)
    return max(names, key=lambda name: sum(said[name] is said[other] or said[name] == said[other] for other in names))


def _shortened(lines: Any) -> tuple[str, ...]:
    whole = iter(lines)
    first = tuple(islice(whole, _MOST_LINES))
    rest = sum(1 for _ in whole)
    return (*first, *([f"and {rest} more"] if rest else []))
