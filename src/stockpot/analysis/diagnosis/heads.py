"""Findings about classifier heads: started differently, or with their labels in another order."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stockpot.records import Finding
from stockpot.types import TensorSpec

__all__ = ["head_findings", "head_names"]

Array = np.ndarray[Any, Any]
_HEAD = re.compile(r"(^|\.)(classifier|score|head|heads|fc|logits_proj|qa_outputs|classification_head)(\.|$)")
#: Rows of heads that began alike stay nearly parallel; heads drawn at random have cosines around 0.
SAME_HEAD_COSINE = 0.5
#: Matched rows must agree this well, and this much better than rows in the order they stand in.
MATCHED_COSINE, MATCHED_GAIN = 0.7, 0.3


def head_names(specs: Mapping[str, TensorSpec]) -> tuple[str, ...]:
    """Weight matrices of the head: those that are called so, and map to the fewest outputs.

    Example:
        >>> head_names({"body.weight": TensorSpec("F32", (8, 8)), "classifier.weight": TensorSpec("F32", (3, 8))})
        ('classifier.weight',)
    """
    found = [n for n, spec in specs.items() if spec.is_float and len(spec.shape) == 2 and _HEAD.search(n)]
    if not found:
        return ()
    fewest = min(specs[name].shape[0] for name in found)
    return tuple(name for name in found if specs[name].shape[0] == fewest)


def head_findings(heads: Mapping[str, Array], *, ignored: Sequence[str] = ()) -> list[Finding]:
    """Heads that began elsewhere than the others', and heads whose rows are the others' in another order.

    Rows are matched to those of the head that agrees best with all (the medoid), by the assignment with the largest
    sum of cosines.

    Args:
        heads: ingredient -> weight [labels, width].
        ignored: names already explained.

    Example:
        >>> head = np.eye(3, 5)
        >>> found = head_findings({"a": head, "b": head, "c": head[[1, 0, 2]]})
        >>> found[0].kind, found[0].ingredients
        ('label_order', ('c',))
    """
    names = [name for name in heads if name not in ignored]
    if len(names) < 2:
        return []
    centre = max(names, key=lambda name: statistics.median(_agreement(heads[name], heads[n]) for n in names))
    order, other = {}, {}
    for name in names:
        cosines = _row_cosines(heads[centre], heads[name])
        straight = float(np.diag(cosines).mean())
        rows = _assigned(cosines)
        matched = float(cosines[np.arange(len(rows)), rows].mean())
        if matched >= MATCHED_COSINE and matched >= straight + MATCHED_GAIN:
            order[name] = (straight, matched, rows)
        elif straight < SAME_HEAD_COSINE:
            other[name] = straight
    found = []
    if order:
        found.append(
            Finding(
                "label_order",
                "fault",
                f"{', '.join(order)} {'has its' if len(order) == 1 else 'have their'} labels in another order",
                tuple(
                    f"{name}: rows of the head match those of {centre} as {', '.join(map(str, rows))} (cosine "
                    f"{matched:.2f}; in the order they stand in {straight:.2f})"
                    for name, (straight, matched, rows) in order.items()
                ),
                "make all runs with one label2id, or leave these out",
                tuple(order),
            )
        )
    if other:
        everyone = len(other) >= len(names) - 1
        found.append(
            Finding(
                "heads",
                "fault",
                "every head began on its own" if everyone else f"the head of {', '.join(other)} began elsewhere",
                tuple(f"{name}: mean cosine of its rows to those of {centre} is {c:.2f}" for name, c in other.items()),
                "start all runs from one head: a linear probe, zero-shot weights, or one seed",
                tuple(other),
            )
        )
    return found


def _row_cosines(first: Array, second: Array) -> Array:
    """[rows, rows], means taken off: what all rows share says nothing about labels."""
    a, b = (head - head.mean(axis=0) if len(head) > 2 else head for head in (first, second))
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines: Array = np.nan_to_num(a @ b.T / lengths, nan=0.0)
    return cosines


def _agreement(first: Array, second: Array) -> float:
    return float(np.diag(_row_cosines(first, second)).mean())


def _assigned(cosines: Array) -> list[int]:
    """For each row its partner; greedily, the surest first, which is enough where rows agree at all."""
    rest = cosines.astype(np.float64).copy()
    partner = [0] * len(rest)
    for _ in range(len(rest)):
        row, column = np.unravel_index(int(np.argmax(rest)), rest.shape)
        partner[int(row)] = int(column)
        rest[row, :] = rest[:, column] = -np.inf
    return partner
