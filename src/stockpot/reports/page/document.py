"""What the page shows, as one JSON document; every part that the records do not hold is named with the way to it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot._version import __version__
from stockpot.errors import RecordError
from stockpot.records import (
    Analysis,
    Cell,
    Diagnosis,
    Results,
    SoupRecord,
    read_analysis,
    read_diagnosis,
    read_results,
    read_soup_record,
)
from stockpot.reports.details import p_text
from stockpot.reports.numbers import Scale, count, scale_of
from stockpot.reports.page.analysed import analysis_figures
from stockpot.reports.page.measured import results_figures, soup_figures
from stockpot.reports.table import column_title, markdown, method_title, ordered_columns, ordered_rows

__all__ = ["page_document"]

#: Of a command under way.
_LINES_TOLD = 30

Json = dict[str, Any]
#: Part of the page -> what to do where the records lack it.
_HOW = {
    "table": "no results.json yet: it comes when a run or a comparison has ended",
    "runs": "results.json holds no scores of single runs: compare them again",
    "acceptance": "no soup.json holds greedy's steps",
    "analysis": "no analysis.json: stockpot analyse RUNS --task TASK --initialisation START -o THIS_FOLDER",
    "diagnosis": "no diagnosis.json: stockpot diagnose RUNS --task TASK --initialisation START -o THIS_FOLDER",
}


def page_document(folder: Path, *, is_under_way: bool = False) -> Json:
    """Everything the page shows of a folder's records.

    Args:
        folder: of an experiment, a comparison or a soup; it may still be at work.
        is_under_way: whether to show what a command that works in the folder has told so far.

    Returns:
        JSON values.

    Raises:
        RecordError: there is no record at all, or one is damaged.
    """
    results = read_results(folder) if (folder / "results.json").is_file() else None
    analysis = read_analysis(folder) if (folder / "analysis.json").is_file() else None
    diagnosis = read_diagnosis(folder) if (folder / "diagnosis.json").is_file() else None
    soups = {path.parent.name: read_soup_record(path) for path in _soup_files(folder)}
    landed = _landed(folder)
    told = _told(folder) if is_under_way else []
    if not (results or analysis or diagnosis or soups or landed or told):
        raise RecordError(f"{folder} holds no record of stockpot", fix="give the folder of an experiment or a soup")
    settings = _settings(results, soups, landed)
    figures = [
        *(results_figures(results, settings) if results is not None else []),
        *soup_figures({name: record.soup for name, record in soups.items()}, settings),
        *(analysis_figures(analysis) if analysis is not None else []),
    ]
    return {
        "title": _title(results, folder),
        "stockpot": __version__,
        "sentence": results.sentence if results is not None else _progress(landed, folder),
        "progress": told,
        "notes": list(results.notes) if results is not None else [],
        "table": _table(results) if results is not None else None,
        "markdown": markdown(results) if results is not None else "",
        "comparisons": _comparisons(results) if results is not None else None,
        "runs": _runs(results, landed, settings),
        "figures": figures,
        "findings": _findings(diagnosis),
        "recommendation": diagnosis.recommendation if diagnosis is not None else None,
        "provenance": _provenance(folder, soups, results),
        "missing": _missing(results, analysis, diagnosis, figures),
    }


def _title(results: Results | None, folder: Path) -> str:
    """The experiment's own name, so that equal experiments have equal pages; else the folder's."""
    named = results.experiment.get("name") if results is not None and isinstance(results.experiment, Mapping) else None
    return str(named) if named else folder.resolve().name


def _soup_files(folder: Path) -> list[Path]:
    return sorted(path for path in (*folder.glob("soup.json"), *folder.glob("*/soup.json")) if path.is_file())


def _landed(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Runs of a sweep that have landed, with their settings."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted((folder / "ingredients").glob("*/run.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found[str(content["name"])] = dict(content["settings"])
        except (OSError, ValueError, KeyError, TypeError):  # half a file is no run yet
            continue
    return found


def _settings(
    results: Results | None, soups: Mapping[str, SoupRecord], landed: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Run -> what it was fine-tuned with, from wherever that is known."""
    found: dict[str, Mapping[str, Any]] = dict(landed)
    for record in soups.values():
        for ingredient in (*record.soup.ingredients, *(step.ingredient for step in record.soup.steps)):
            if ingredient.settings:
                found.setdefault(ingredient.name, ingredient.settings)
    for one in (results.individuals or ()) if results is not None else ():
        if one.settings:
            found.setdefault(one.name, one.settings)
    return found


def _progress(landed: Mapping[str, object], folder: Path) -> str:
    try:
        planned = len(json.loads((folder / "ingredients" / "plan.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return "There is no table yet."
    return f"Under way: {len(landed)} of {planned} runs have landed."


def _told(folder: Path) -> list[str]:
    """The last lines of a command that is at work in the folder, the newest first."""
    try:
        lines = (folder / "progress.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in reversed(lines[-_LINES_TOLD:]):
        try:
            told = json.loads(line)
            count = f"[{told['done']}/{told['total']}] " if told["total"] else ""
            found.append(f"{count}{told['line']}")
        except (ValueError, KeyError, TypeError):  # the line that is being written
            continue
    return found


def _table(results: Results) -> Json:
    scale, columns = scale_of(results), ordered_columns(results)
    return {
        "columns": [{"key": column, "title": column_title(column)} for column in columns],
        "higher": results.higher_is_better,
        "metric": results.metric,
        "rows": [
            {
                "method": row.method,
                "title": method_title(row),
                "ingredients": count(row.n_ingredients),
                "cost": f"×{row.inference_cost}",
                "cells": [_cell(row.scores.get(column), scale) for column in columns],
            }
            for row in ordered_rows(results)
        ],
    }


def _cell(cell: Cell | None, scale: Scale) -> Json:
    if cell is None:
        return {"text": "", "error": "", "value": None}
    error = "" if cell.stderr is None else f"± {scale.number(cell.stderr)}"
    return {"text": scale.number(cell.value), "error": error, "value": cell.value}


def _comparisons(results: Results) -> list[Json]:
    scale = scale_of(results)
    titles = {row.method: method_title(row) for row in results.rows}
    return [
        {
            "method": titles.get(c.method, c.method),
            "against": titles.get(c.against, c.against),
            "split": column_title(c.split),
            "difference": scale.signed(c.difference),
            "error": "" if c.stderr is None else f"± {scale.number(c.stderr)}",
            "p": p_text(c.p),
            "changed": "" if c.n_changed is None else f"{c.n_changed:,}",
        }
        for c in results.comparisons
        if c.against in {"best", "greedy"} and c.split in {"test", "shift_mean"}
    ]


def _runs(
    results: Results | None, landed: Mapping[str, object], settings: Mapping[str, Mapping[str, Any]]
) -> list[Json]:
    individuals = (results.individuals or ()) if results is not None else ()
    scale = scale_of(results) if results is not None else None
    found = [
        {
            "name": one.name,
            "settings": _words(settings.get(one.name, {})),
            "scores": {
                column_title(split): scale.number(cell.value) for split, cell in one.scores.items() if scale is not None
            },
        }
        for one in individuals
    ]
    known = {one["name"] for one in found}
    return found + [
        {"name": name, "settings": _words(settings.get(name, {})), "scores": {}} for name in landed if name not in known
    ]


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}" for name, value in settings.items()
    )


def _findings(diagnosis: Diagnosis | None) -> list[Json]:
    return [
        {
            "severity": finding.severity,
            "kind": finding.kind,
            "message": finding.message,
            "evidence": list(finding.evidence),
            "fix": finding.fix,
        }
        for finding in (diagnosis.findings if diagnosis is not None else ())
    ]


def _provenance(folder: Path, soups: Mapping[str, SoupRecord], results: Results | None) -> Json:
    seed = results.experiment.get("seed") if results is not None and isinstance(results.experiment, Mapping) else None
    return {
        "seed": seed,
        "soups": [
            {
                "name": name,
                "recipe": record.soup.recipe,
                "stockpot": record.stockpot,
                "notes": list(record.notes),
                "rebuild": f"stockpot rebuild {name} -o again",
                "verify": f"stockpot verify {name} --ingredients --tensors",
                "ingredients": [
                    {"name": one.name, "source": _seen_from(folder, one.source), "digest": one.digest or "not taken"}
                    for one in record.soup.ingredients
                ],
            }
            for name, record in soups.items()
        ],
    }


def _seen_from(folder: Path, source: str) -> str:
    """A local source relative to the page's folder: the page travels, and absolute places are nobody's business."""
    if not os.path.isabs(source):  # noqa: PTH117 - a text, perhaps an id on the hub
        return source
    return Path(os.path.relpath(source, folder.resolve())).as_posix()


def _missing(
    results: Results | None, analysis: Analysis | None, diagnosis: Diagnosis | None, figures: Sequence[Json]
) -> list[str]:
    drawn = {figure["id"] for figure in figures}
    lacking = {
        "table": results is None,
        "runs": results is not None and not results.individuals,
        "acceptance": "acceptance" not in drawn,
        "analysis": analysis is None,
        "diagnosis": diagnosis is None,
    }
    return [_HOW[part] for part, is_missing in lacking.items() if is_missing]
