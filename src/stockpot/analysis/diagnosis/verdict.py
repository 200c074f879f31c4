"""What the findings together recommend."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.records import Diagnosis, Finding

__all__ = ["concluded"]

_RANK = {"refusal": 0, "fault": 1, "caution": 2}
#: Faults whose ingredients are better left out.
_DROPPED = frozenset({"start", "diverged", "label_order", "basin", "not_finite", "heads"})


def concluded(ingredients: Sequence[str], findings: Sequence[Finding], checked: Sequence[str]) -> Diagnosis:
    """The diagnosis: findings by severity, whom to leave out, and which recipe for the others.

    Example:
        >>> concluded(["a", "b"], [], ["headers"]).recommendation
        'nothing speaks against a soup of all 2: take greedy, and uniform beside it'
    """
    ordered = tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))
    if any(finding.severity == "refusal" for finding in ordered):
        odd = tuple(dict.fromkeys(n for f in ordered if f.severity == "refusal" for n in f.ingredients))
        return Diagnosis(
            tuple(ingredients), ordered, "these ingredients cannot be mixed; see the first finding", odd, None,
            tuple(checked),
        )  # fmt: skip
    drop = tuple(dict.fromkeys(name for f in ordered if f.kind in _DROPPED for name in f.ingredients))
    doubles = [name for f in ordered if f.kind == "duplicates" for name in f.ingredients[1:]]
    drop = tuple(dict.fromkeys((*drop, *doubles)))
    rest = [name for name in ingredients if name not in drop]
    if len(rest) < 2:
        said, recipe = "fewer than two ingredients are left that belong together: take the best single model", "best"
    else:
        recipe = "greedy"
        said = f"leave out {', '.join(drop)} and take greedy of the other {len(rest)}" if drop else ""
        uneven = any(f.kind in {"unequal", "running_statistics", "barely_moved", "uneven"} for f in ordered)
        start = (
            f"nothing speaks against a soup of all {len(rest)}"
            if not ordered
            else (f"mind what is said above; nothing in it forbids a soup of all {len(rest)}")
        )
        said = said or f"{start}: take greedy" + (
            "; a uniform one may fall behind" if uneven else ", and uniform beside it"
        )
    return Diagnosis(tuple(ingredients), ordered, said, drop, recipe, tuple(checked))
