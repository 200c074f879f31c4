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
    from stockpot.records.output import Output, WrittenFile, output_of
    from stockpot.records.results import (
        METHODS,
        RESULTS_SCHEMA,
        Cell,
        Comparison,
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
    "METHODS",
    "RESULTS_SCHEMA",
    "SCHEMA",
    "Cell",
    "Comparison",
    "Fingerprint",
    "Output",
    "PathLike",
    "Results",
    "Row",
    "SelectionOptimism",
    "SoupRecord",
    "WrittenFile",
    "output_of",
    "read_results",
    "read_soup",
    "read_soup_record",
    "soup_file",
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
