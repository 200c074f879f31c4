"""A diagnosis in words."""

from __future__ import annotations

from collections.abc import Iterator

from stockpot.records import Diagnosis
from stockpot.reports.text import printable

__all__ = ["diagnosis_lines"]

_TITLES = {"refusal": "REFUSED", "fault": "FAULT", "caution": "CAUTION"}


def diagnosis_lines(found: Diagnosis) -> Iterator[str]:
    """Every finding with its evidence and what to do, then the recommendation.

    Example:
        >>> list(diagnosis_lines(Diagnosis(("a", "b"), (), "take greedy", checked=("headers",))))
        ['checked: headers', 'no findings', 'recommendation: take greedy']
    """
    yield f"checked: {', '.join(found.checked)}"
    yield from (f"not checked: {printable(line)}" for line in found.skipped)
    if not found.findings:
        yield "no findings"
    for finding in found.findings:
        yield f"{_TITLES[finding.severity]} {finding.kind}: {printable(finding.message)}"
        yield from (f"  {printable(line)}" for line in finding.evidence)
        if finding.fix:
            yield f"  do: {printable(finding.fix)}"
    yield f"recommendation: {printable(found.recommendation)}"
