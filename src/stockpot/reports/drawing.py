"""Every picture that the records of a folder allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import RecordError
from stockpot.records import Analysis, Results, read_analysis, read_results, read_soup
from stockpot.reports import figures
from stockpot.reports.figures.settings import varied
from stockpot.reports.style import save, style
from stockpot.score_record import ScoreTable
from stockpot.types import Soup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawn", "draw_folder", "draw_scores"]

_Plan = dict[str, "Callable[[], Figure] | str"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn.

    Args:
        files: written, in the order of the pictures.
        left_out: name of a picture -> why the records do not allow it.
    """

    files: tuple[Path, ...]
    left_out: Mapping[str, str]


def draw_folder(out: Path, folder: Path | None = None, *, kind: str = "svg") -> Drawn:
    """Draws all that an experiment's or a soup's records allow.

    Args:
        out: folder with a results.json, folders of soups, or a soup.json.
        folder: where to write; None: `out/figures`.
        kind: one of `stockpot.reports.style.FORMATS`.

    Raises:
        RecordError: no record there, or a damaged one.
        MissingExtraError: matplotlib is not installed.
    """
    results = read_results(out) if (out / "results.json").is_file() else None
    soups = {path.parent.name: read_soup(path) for path in _soup_files(out)}
    analysis = read_analysis(out) if (out / "analysis.json").is_file() else None
    if results is None and not soups and analysis is None:
        raise RecordError(
            f"{out} has no results.json, soup.json or analysis.json", fix="give the folder of a finished experiment"
        )
    plan = {**_results_plan(results), **_soups_plan(soups), **_analysis_plan(analysis)}
    return _drawn(plan, folder or out / "figures", kind)


def draw_scores(
    table: ScoreTable, folder: Path, *, metric: str, settings: Mapping[str, Mapping[str, Any]], kind: str = "svg"
) -> Drawn:
    """Draws a user's own scores: Figure 1, a panel per shift, settings against held-out scores."""
    marks = figures.marks_of_scores(table)
    scores = {row.model_name: row.held_out for row in table.individuals if row.held_out is not None}
    ranked = any(value is not None for value in table.spearman.values())
    plan: _Plan = {**_scatters(marks, metric), "ranks": "no rank correlation is defined"}
    if ranked:
        plan["ranks"] = partial(figures.ranks, table.spearman)
    plan |= {"settings": _settings(settings, scores, metric)}
    return _drawn(plan, folder, kind)


def _soup_files(out: Path) -> list[Path]:
    return sorted(path for path in (*out.glob("soup.json"), *out.glob("*/soup.json")) if path.is_file())


def _drawn(plan: _Plan, folder: Path, kind: str) -> Drawn:
    files: list[Path] = []
    for name, make in plan.items():
        if not isinstance(make, str):
            with style():
                figure = make()
            save(figure, folder / f"{name}.{kind}")
            files.append(folder / f"{name}.{kind}")
    return Drawn(tuple(files), {name: why for name, why in plan.items() if isinstance(why, str)})


def _results_plan(results: Results | None) -> _Plan:
    if results is None:
        return dict.fromkeys(("figure1", "shifts", "calibration"), "there is no results.json")
    has_ece = any("test" in (row.metrics or {}).get("ece", {}) for row in results.rows)
    bars: Callable[[], Figure] | str = "results.json holds no ECE on test"
    if has_ece:
        bars = partial(figures.calibration, results)
    return {**_scatters(figures.marks_of_results(results), results.metric), "calibration": bars}


def _analysis_plan(analysis: Analysis | None) -> _Plan:
    names = ("geometry", "landscape", "line", "angles", "soup-ensemble", "soup-ensemble-loss", "count", "reliability")
    plan: _Plan = dict.fromkeys(names, "analysis.json does not hold it: stockpot analyse")
    if analysis is None:
        return plan
    metric = analysis.metric or "score"
    if analysis.geometry is not None:
        plan["geometry"] = partial(figures.geometry, analysis.geometry)
    if analysis.plane is not None:
        plan["landscape"] = partial(figures.landscape, analysis.plane)
    if analysis.line is not None:
        plan["line"] = partial(figures.line, analysis.line)
    if analysis.pairs:
        if any(pair.angle is not None for pair in analysis.pairs):
            up = analysis.higher_is_better
            plan["angles"] = partial(
                figures.angles, analysis.pairs, analysis.correlations or (), metric, higher_is_better=up
            )
        plan["soup-ensemble"] = partial(figures.soups_and_ensembles, analysis.pairs, metric)
    if analysis.soup_vs_ensemble:
        plan["soup-ensemble-loss"] = partial(figures.soup_versus_ensemble, analysis.soup_vs_ensemble)
    if analysis.count:
        plan["count"] = partial(figures.count, analysis.count, metric)
    if analysis.reliability:
        plan["reliability"] = partial(figures.reliability, analysis.reliability)
    return plan


def _scatters(marks: list[figures.Mark], metric: str) -> _Plan:
    splits = {split for mark in marks for split in mark.scores}
    if "test" not in splits or "shift_mean" not in splits:
        return dict.fromkeys(("figure1", "shifts"), "there are no scores on both test and shifts")
    return {"figure1": partial(figures.figure1, marks, metric), "shifts": partial(figures.shifts, marks, metric)}


def _soups_plan(soups: Mapping[str, Soup]) -> _Plan:
    plan: _Plan = {}
    greedy = next((soup for soup in soups.values() if soup.recipe == "greedy" and soup.steps), None)
    plan["acceptance"] = partial(figures.acceptance, greedy) if greedy else "no soup.json holds greedy's steps"
    learned = {name: soup for name, soup in soups.items() if soup.recipe.startswith("learned")}
    for name, soup in learned.items():
        plan[f"coefficients-{name}"] = partial(figures.coefficients, soup)
    if not learned:
        plan["coefficients"] = "there is no soup.json of a learned soup"
    # One score per run: what the best single model was chosen by.
    singles = next((soup for soup in soups.values() if soup.recipe == "best" and soup.steps), None)
    steps = [step for step in singles.steps if not step.score.is_abandoned] if singles else []
    chosen = {step.ingredient.name: step.ingredient.settings for step in steps}
    scores = {step.ingredient.name: step.score.value for step in steps}
    plan["settings"] = _settings(chosen, scores, steps[0].score.metric if steps else "score")
    return plan


def _settings(
    chosen: Mapping[str, Mapping[str, Any]], scores: Mapping[str, float], metric: str
) -> Callable[[], Figure] | str:
    if not varied({run: found for run, found in chosen.items() if run in scores}):
        return "no setting that varies is recorded beside the scores of the runs"
    return partial(figures.settings, chosen, scores, metric)
