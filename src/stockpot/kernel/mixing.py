"""How a row of coefficients becomes a sum: which terms, scaled when, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stockpot.errors import BlendError
from stockpot.kernel.compatibility import TensorPlan
from stockpot.types import Coefficients

__all__ = ["MixingRule", "check_coefficients"]


@dataclass(frozen=True, slots=True)
class MixingRule:
    """(sum over i of factors[i] * x_i) / divisor * multiplier, each operation rounded to float64, in this order.

    Equal coefficients are taken out of the sum: float32, float16 and bfloat16 values of similar magnitude add up
    exactly in float64, so the order does not show, and 1/k need not be a binary fraction.

    Args:
        factors: per ingredient; 0 for one that is read and checked but not added, 1 for one that is added as it is.
        divisor: number of terms when all coefficients are 1/n, otherwise 1.
        multiplier: the common coefficient when all are equal but not 1/n, otherwise 1.

    Example:
        >>> MixingRule.of((0.5, 0.0, 0.5))
        MixingRule(factors=(1.0, 0.0, 1.0), divisor=2.0, multiplier=1.0)
        >>> MixingRule.of((0.25, 0.75)).factors
        (0.25, 0.75)
    """

    factors: tuple[float, ...]
    divisor: float = 1.0
    multiplier: float = 1.0

    @classmethod
    def of(cls, row: Sequence[float]) -> MixingRule:
        """The rule for one row of coefficients."""
        used = [coefficient for coefficient in row if coefficient]
        if len(set(used)) != 1:
            return cls(tuple(row))
        taken = tuple(1.0 if coefficient else 0.0 for coefficient in row)
        if used[0] == 1.0 / len(used):
            return cls(taken, divisor=float(len(used)))
        return cls(taken, multiplier=used[0])


def check_coefficients(
    coefficients: Coefficients, k: int, plans: Sequence[TensorPlan], tied: Mapping[str, str]
) -> None:
    """Checks that there is one coefficient per ingredient and exactly one row per blended tensor.

    Raises:
        BlendError: another number of coefficients; groups that name unknown or tied tensors, that overlap, or that
            leave a tensor out: everything at once.
    """
    if coefficients.k != k:
        raise BlendError(
            f"{coefficients.k} coefficients for {k} ingredients",
            fix="give one coefficient for each ingredient, in order",
        )
    problems = [] if coefficients.groups is None else list(_group_problems(coefficients.groups, plans, tied))
    if problems:
        raise BlendError(
            "the groups of coefficients do not fit the tensors",
            problems=problems,
            fix="name every blended tensor in exactly one group",
        )


def _group_problems(
    groups: Sequence[Sequence[str]], plans: Sequence[TensorPlan], tied: Mapping[str, str]
) -> Iterator[str]:
    group_by_name: dict[str, int] = {}
    stored = {plan.name for plan in plans}
    for number, names in enumerate(groups):
        for name in names:
            if name in tied:
                yield f"{name}: in group {number}, but it is tied to {tied[name]}; name that one"
            elif name not in stored:
                yield f"{name}: in group {number}, but there is no such tensor"
            elif name in group_by_name:
                yield f"{name}: in group {number} and in group {group_by_name[name]}"
            group_by_name.setdefault(name, number)
    for plan in plans:
        if plan.is_blended and plan.name not in group_by_name:
            yield f"{plan.name}: in no group"
