"""The table as CSV for programs and as LaTeX for papers."""

from __future__ import annotations

import csv
import io

from stockpot.records import Cell, Results, Row
from stockpot.reports import latex as tex
from stockpot.reports.numbers import count, scale_of
from stockpot.reports.table import column_title, is_best, method_title, ordered_columns, ordered_rows

__all__ = ["csv_text", "latex"]


def csv_text(results: Results) -> str:
    """One line per method, every number to the last bit; empty where there is none.

    Args:
        results: as recorded.

    Returns:
        Comma-separated values: method, n_ingredients, inference_cost, temperature, then for every split `SPLIT`,
        `SPLIT_stderr`, `SPLIT_n`, `SPLIT_sd`, and for every other metric `METRIC:SPLIT` and `METRIC:SPLIT_stderr`.

    Example:
        >>> rows = (Row("best", 1, 1, {"test": Cell(0.75, 0.01, 2000)}),)
        >>> print(csv_text(Results("accuracy", True, rows)).splitlines()[1])
        best,1,1,,0.75,0.01,2000,
    """
    splits = ordered_columns(results)
    metrics = list(
        dict.fromkeys(
            (name, split) for row in results.rows for name, cells in (row.metrics or {}).items() for split in cells
        )
    )
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            "method", "n_ingredients", "inference_cost", "temperature",
            *(f"{split}{suffix}" for split in splits for suffix in ("", "_stderr", "_n", "_sd")),
            *(f"{name}:{split}{suffix}" for name, split in metrics for suffix in ("", "_stderr")),
        ]
    )  # fmt: skip
    for row in ordered_rows(results):
        own = [_numbers(row.scores.get(split)) for split in splits]
        other = [_numbers((row.metrics or {}).get(name, {}).get(split))[:2] for name, split in metrics]
        numbers = [number for cell in (*own, *other) for number in cell]
        writer.writerow([row.method, count(row.n_ingredients), row.inference_cost, row.temperature, *numbers])
    return file.getvalue()


def latex(results: Results) -> str:
    r"""A `tabular` in the style of the paper's Table 3; needs `\usepackage{booktabs}` and nothing else.

    Args:
        results: as recorded.

    Returns:
        Plain ASCII that any LaTeX compiles.

    Example:
        >>> rows = (Row("best", 1, 1, {"test": Cell(0.75, 0.01, 2000)}),)
        >>> print(latex(Results("accuracy", True, rows)).splitlines()[5])
        best individual & \textbf{75.0 $\pm$ 1.0} & 1 & $\times$1 \\
    """
    columns = ordered_columns(results)
    body = [
        [
            tex.escape(method_title(row)),
            *(_cell(results, row, column) for column in columns),
            count(row.n_ingredients),
            f"$\\times${row.inference_cost}",
        ]
        for row in ordered_rows(results)
    ]
    header = ["method", *(tex.escape(column_title(column)) for column in columns), "ingredients", "cost"]
    notes = ["needs \\usepackage{booktabs}", results.sentence, *results.notes]
    return tex.comments([note for note in notes if note]) + tex.tabular([header], [body], left=1)


def _numbers(cell: Cell | None) -> tuple[float | None, float | None, int | None, float | None]:
    return (None, None, None, None) if cell is None else (cell.value, cell.stderr, cell.n, cell.sd)


def _cell(results: Results, row: Row, column: str) -> str:
    cell = row.scores.get(column)
    if cell is None:
        return "--"
    scale = scale_of(results)
    error = "" if cell.stderr is None else f" $\\pm$ {scale.number(cell.stderr)}"
    spread = "" if cell.sd is None else f" ({scale.number(cell.sd)})"
    shown = tex.number(scale.number(cell.value)) + error + spread
    return f"\\textbf{{{shown}}}" if is_best(results, row, column) else shown
