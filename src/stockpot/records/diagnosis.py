"""diagnosis.json: why a soup of these ingredients may fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stockpot.records._json import PathLike, Schema, parsed, read_json, record_file, write_json

__all__ = ["DIAGNOSIS_SCHEMA", "Diagnosis", "Finding", "Severity", "read_diagnosis", "write_diagnosis"]

#: Version of the schema of diagnosis.json. Optional keys do not raise it.
DIAGNOSIS_SCHEMA = 1
_FILE = "diagnosis.json"
_SCHEMA = Schema(DIAGNOSIS_SCHEMA)

#: "refusal": cannot be mixed; "fault": a soup with these will suffer; "caution": worth knowing.
Severity = Literal["refusal", "fault", "caution"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or may be.

    Args:
        kind: short name, the same for the same trouble.
        severity: see `Severity`.
        message: what was found, one sentence.
        evidence: the numbers behind it.
        fix: what to do.
        ingredients: names of those concerned; empty: all.
    """

    kind: str
    severity: Severity
    message: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    ingredients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found among some ingredients, and what to do.

    Args:
        ingredients: names, in order.
        findings: the gravest first.
        recommendation: one sentence.
        drop: names of ingredients to leave out.
        recipe: to use for the others; None where they cannot be mixed.
        checked: what was looked at.
        skipped: what was not, and why.
    """

    ingredients: tuple[str, ...]
    findings: tuple[Finding, ...]
    recommendation: str
    drop: tuple[str, ...] = ()
    recipe: str | None = "greedy"
    checked: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether the ingredients cannot be mixed at all."""
        return any(finding.severity == "refusal" for finding in self.findings)


def write_diagnosis(diagnosis: Diagnosis, path: PathLike) -> None:
    """Writes diagnosis.json, whole or not at all, to a file or into a folder.

    Raises:
        RecordError: a value that JSON cannot hold.
        OutputError: the file cannot be written.
    """
    write_json(record_file(path, _FILE), diagnosis, _SCHEMA)


def read_diagnosis(path: PathLike) -> Diagnosis:
    """Reads and checks diagnosis.json; `path` is the file or its folder.

    Raises:
        RecordError: no such file, not JSON, an unknown schema, or wrong keys.
    """
    file = record_file(path, _FILE)
    return parsed(file, read_json(file, _SCHEMA), Diagnosis)
