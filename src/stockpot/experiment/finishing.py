"""The end of a command: soups as model folders, then timings, table and, last, results.json."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stockpot.assembly import write
from stockpot.errors import StockpotError
from stockpot.experiment.progress import OnProgress, Progress, Stopwatch
from stockpot.outputs import write_json_atomically, write_text_atomically
from stockpot.records import Results, SoupRecord, read_results, write_results
from stockpot.reports.card import model_card
from stockpot.reports.exports import csv_text, latex
from stockpot.reports.table import markdown
from stockpot.tasks.text import TextClassification
from stockpot.types import Soup

__all__ = ["finish", "finished_results", "write_report", "write_soup_folder", "write_tables"]

RESULTS_FILE = "results.json"
_THROUGHPUT_BATCHES = 8


def finished_results(folder: Path) -> Results | None:
    """The results of an experiment that has ended; None if it has not."""
    return read_results(folder / RESULTS_FILE) if (folder / RESULTS_FILE).exists() else None


def finish(
    results: Results,
    soups: Mapping[str, Soup],
    folder: Path,
    *,
    task: TextClassification,
    individuals: Sequence[Soup],
    title: str,
    stopwatch: Stopwatch,
    report: OnProgress,
) -> Results:
    """Writes soups, results.md, timings.json and results.json, in this order: the last one means all are whole."""
    with stopwatch.stage("write"):
        for method, soup in soups.items():
            target = folder / method
            if not (target / "soup.json").exists():
                report(Progress("write", f"writing {target}"))
                write_soup_folder(
                    soup,
                    target,
                    results,
                    method,
                    title=f"{title}: {method}",
                    family=task.config.family,
                    remarks=task.recalibration_notes,
                    statistics=task.running_statistics(soup),
                )
    with stopwatch.stage("throughput"):
        throughput = _throughput(task, next(iter(soups.values())), individuals)
    write_tables(results, folder)
    write_json_atomically(
        folder / "timings.json",
        {"seconds": {name: round(value, 2) for name, value in stopwatch.seconds.items()}, **throughput},
    )
    write_results(results, folder / RESULTS_FILE)
    if (note := write_report(folder)) is not None:
        report(Progress("write", f"note: {note}"))
    return results


def write_report(folder: Path) -> str | None:
    """report.html from the records in a folder; returns what kept it from being written, which ends no run."""
    from stockpot.reports.page import write_page

    try:
        write_page(folder)
    except (StockpotError, OSError) as error:
        return f"report.html was not written: {error}"
    return None


def write_tables(results: Results, folder: Path) -> None:
    """The results for people, for spreadsheets and for papers: results.md, results.csv, results.tex."""
    for name, view in (("results.md", markdown), ("results.csv", csv_text), ("results.tex", latex)):
        write_text_atomically(folder / name, view(results))


def write_soup_folder(
    soup: Soup,
    target: Path,
    results: Results,
    method: str,
    *,
    title: str,
    family: str | None,
    recorded_at: Path | None = None,
    remarks: tuple[str, ...] = (),
    statistics: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> tuple[str, ...]:
    """One soup as a loadable model folder with its model card; returns what is worth saying about it."""

    def card(soup: Soup) -> str:
        return model_card(
            SoupRecord(soup, notes=remarks), results.row(method), title=title, metric=results.metric, task_family=family
        )

    return write(soup, target, card=card, recorded_at=recorded_at, remarks=remarks, statistics=statistics).notes


def _throughput(task: TextClassification, soup: Soup, individuals: Sequence[Soup]) -> dict[str, float]:
    """Examples per second of one soup and of the ensemble of all individuals, forward passes alone.

    A few test batches are enough for a rate; loading weights is not part of it.
    """
    split = "test" if "test" in task.splits else "held_out"
    n_examples, soup_seconds = _timed(task, soup, split)
    ensemble_seconds = sum(_timed(task, individual, split)[1] for individual in individuals)
    return {
        "soup_examples_per_second": round(n_examples / soup_seconds, 1),
        "ensemble_examples_per_second": round(n_examples / ensemble_seconds, 1),
    }


def _timed(task: TextClassification, soup: Soup, split: str) -> tuple[int, float]:
    forward, n_examples = task.prepared_forward(soup, split, max_batches=_THROUGHPUT_BATCHES)
    start = time.perf_counter()
    forward()
    return n_examples, time.perf_counter() - start
