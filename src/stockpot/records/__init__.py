"""What a finished command leaves behind: soup.json (one soup) and results.json (the table), read and written.

Both are plain JSON with a schema number. Equal values give equal bytes: no times, hosts, absolute paths, worker counts;
mappings whose order means nothing are sorted; floats are written so that they read back to the bit. Keys that a reader
does not know are ignored, a change of meaning raises the schema number, and what older versions wrote stays readable.
`docs/reference/records.md` lists every key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot._lazy import lazily

if TYPE_CHECKING:
    from stockpot.records._json import PathLike
    from stockpot.records.analysis import (
        ANALYSIS_SCHEMA,
        Analysis,
        Correlation,
        CountCurve,
        Geometry,
        Line,
        Measured,
        Pair,
        Plane,
        PlanePoint,
        Reliability,
        SoupVersusEnsemble,
        read_analysis,
        write_analysis,
    )
    from stockpot.records.diagnosis import (
        DIAGNOSIS_SCHEMA,
        Diagnosis,
        Finding,
        Severity,
        read_diagnosis,
        write_diagnosis,
    )
    from stockpot.records.output import Output, WrittenFile, output_of
    from stockpot.records.results import (
        METHODS,
        RESULTS_SCHEMA,
        Cell,
        Comparison,
        Individual,
        Results,
        Row,
        SelectionOptimism,
        read_results,
        write_results,
    )
    from stockpot.records.soup import (
        SCHEMA,
        Fingerprint,
        SoupRecord,
        read_soup,
        read_soup_record,
        soup_file,
        write_soup,
    )

__all__ = [
    "ANALYSIS_SCHEMA",
    "DIAGNOSIS_SCHEMA",
    "METHODS",
    "RESULTS_SCHEMA",
    "SCHEMA",
    "Analysis",
    "Cell",
    "Comparison",
    "Correlation",
    "CountCurve",
    "Diagnosis",
    "Finding",
    "Fingerprint",
    "Geometry",
    "Individual",
    "Line",
    "Measured",
    "Output",
    "Pair",
    "PathLike",
    "Plane",
    "PlanePoint",
    "Reliability",
    "Results",
    "Row",
    "SelectionOptimism",
    "Severity",
    "SoupRecord",
    "SoupVersusEnsemble",
    "WrittenFile",
    "output_of",
    "read_analysis",
    "read_diagnosis",
    "read_results",
    "read_soup",
    "read_soup_record",
    "soup_file",
    "write_analysis",
    "write_diagnosis",
    "write_results",
    "write_soup",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "PathLike": "_json",
            **dict.fromkeys(
                [
                    "DIAGNOSIS_SCHEMA",
                    "Diagnosis",
                    "Finding",
                    "Severity",
                    "read_diagnosis",
                    "write_diagnosis",
                ],
                "diagnosis",
            ),
            **dict.fromkeys(
                [
                    "ANALYSIS_SCHEMA",
                    "Analysis",
                    "Correlation",
                    "CountCurve",
                    "Geometry",
                    "Line",
                    "Measured",
                    "Pair",
                    "Plane",
                    "PlanePoint",
                    "Reliability",
                    "SoupVersusEnsemble",
                    "read_analysis",
                    "write_analysis",
                ],
                "analysis",
            ),
            **dict.fromkeys(
                [
                    "Output",
                    "WrittenFile",
                    "output_of",
                ],
                "output",
            ),
            **dict.fromkeys(
                [
                    "METHODS",
                    "RESULTS_SCHEMA",
                    "Cell",
                    "Comparison",
                    "Individual",
                    "Results",
                    "Row",
                    "SelectionOptimism",
                    "read_results",
                    "write_results",
                ],
                "results",
            ),
            **dict.fromkeys(
                ["SCHEMA", "Fingerprint", "SoupRecord", "read_soup", "read_soup_record", "soup_file", "write_soup"],
                "soup",
            ),
        },
    )
