"""What the findings together recommend."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.records import Diagnosis, Finding

__all__ = ["concluded"]

_RANK = {"refusal": 0, "fault": 1, "caution": 2}
#: Faults whose ingredients are better left out.
_DROPPED = frozenset({"start", "diverged", "label_order", "basin", "not_finite", "heads", "tokenizer"})
#: Findings that speak against a plain average of all, and why.
_AGAINST_UNIFORM = {
    "unequal": "they are unequal",
    "uneven": "they went unequal ways",
    "barely_moved": "some have hardly moved",
    "running_statistics": "running statistics do not average",
}
#: Findings after which more is to be done, and what.
_THEN = {
    "held_out_too_small": "what greedy chooses on so few examples is partly chance: use --significance",
    "saturated": "on a held-out set that is solved greedy chooses by chance",
    "overlap": "take the shared examples out before you believe the test score",
    "near_duplicates": "keep one of those that are nearly the same",
    "running_statistics": "make the statistics anew with --recalibrate",
    "label_names": "make sure that the labels mean the same",
    "tokenizer_settings": "make sure that all were trained on texts cut alike",
    "initialisation": "give the right --initialisation",
    "initialisation_not_finite": "give the right --initialisation",
}


def concluded(ingredients: Sequence[str], findings: Sequence[Finding], checked: Sequence[str]) -> Diagnosis:
    """The diagnosis: findings by severity, whom to leave out, and which recipe for the others.

    Example:
        >>> concluded(["a", "b"], [], ["headers"]).recommendation
        'nothing speaks against a soup of all 2: take greedy, and uniform beside it'
        >>> small = Finding("held_out_too_small", "caution", "...")
        >>> concluded(["a", "b"], [small], []).recommendation.partition("; ")[0]
        'a soup of all 2 is possible: take greedy, and uniform beside it'
    """
    ordered = tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))
    if any(finding.severity == "refusal" for finding in ordered):
        odd = tuple(dict.fromkeys(n for f in ordered if f.severity == "refusal" for n in f.ingredients))
        return Diagnosis(
            tuple(ingredients), ordered, "these ingredients cannot be mixed; see the first finding", odd, None,
            tuple(checked),
        )  # fmt: skip
    drop = dict.fromkeys(name for f in ordered if f.kind in _DROPPED for name in f.ingredients)
    drop |= dict.fromkeys(name for f in ordered if f.kind == "duplicates" for name in f.ingredients[1:])
    rest = [name for name in ingredients if name not in drop]
    if len(rest) < 2:
        said, recipe = "fewer than two ingredients are left that belong together: take the best single model", "best"
    else:
        said, recipe = _soup_of(rest, tuple(drop), ordered), "greedy"
    return Diagnosis(tuple(ingredients), ordered, said, tuple(drop), recipe, tuple(checked))


def _soup_of(rest: Sequence[str], drop: Sequence[str], findings: Sequence[Finding]) -> str:
    """What to make of the ingredients that are left, with the reasons that the findings about them give."""
    about = [f for f in findings if not f.ingredients or len(set(f.ingredients) & set(rest)) >= _least(f)]
    kinds = dict.fromkeys(finding.kind for finding in about)
    if drop:
        said = f"leave out {', '.join(drop)} and take greedy of the other {len(rest)}"
    else:
        said = (
            f"a soup of all {len(rest)} is possible" if about else f"nothing speaks against a soup of all {len(rest)}"
        )
        said += ": take greedy"
    against = [_AGAINST_UNIFORM[kind] for kind in kinds if kind in _AGAINST_UNIFORM]
    beside = f"; a uniform one may fall behind: {', '.join(against)}" if against else ", and uniform beside it"
    then = dict.fromkeys(_THEN[kind] for kind in kinds if kind in _THEN)
    return "; ".join([said + beside, *then])


def _least(finding: Finding) -> int:
    """How many of a finding's ingredients must be left for it to matter still."""
    return 2 if finding.kind in {"near_duplicates", "uneven"} else 1
