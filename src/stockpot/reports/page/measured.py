"""Pictures of the page from results.json and soup.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.records import Cell, Results
from stockpot.reports.figures.points import in_view, marks_of_results, notes_of_marks
from stockpot.reports.figures.settings import numbers_at, varied
from stockpot.reports.layers import bands
from stockpot.reports.numbers import Scale, scale_of
from stockpot.reports.page.traces import COLOURS, Json, axis, figure, hover, plain, points
from stockpot.reports.table import column_title, method_title, ordered_rows
from stockpot.types import Soup

__all__ = ["results_figures", "soup_figures"]

Settings = Mapping[str, Mapping[str, Any]]
_MOST_TENSORS = 60


def results_figures(results: Results, settings: Settings) -> list[Json]:
    """Every run and method: test against the mean of shifts, and against each shift; calibration; settings."""
    splits = [split for row in results.rows for split in row.scores]
    found = []
    if "test" in splits and "shift_mean" in splits:
        caption = "Every run (grey) and every method (Wortsman et al. 2022, Figure 1)"
        found.append(_scatter(results, settings, "figure1", "Test and shifts", caption, "test", "shift_mean"))
    for split in dict.fromkeys(s for s in splits if s.startswith("shift:")):
        if "test" in splits:
            title = column_title(split)
            found.append(_scatter(results, settings, f"shift-{title}", f"Test and {title}", "", "test", split))
    return [*found, *_calibration(results), *_settings(results, settings)]


def _scatter(results: Results, settings: Settings, name: str, title: str, caption: str, x: str, y: str) -> Json:
    scale = scale_of(results)
    runs = [one for one in results.individuals or () if x in one.scores and y in one.scores]
    traces = []
    if runs:
        texts = [hover(one.name, settings.get(one.name, {}), _said(one.scores, (x, y), scale)) for one in runs]
        values = [[one.scores[split].value for one in runs] for split in (x, y)]
        traces.append(points([one.name for one in runs], *values, label="a run", texts=texts))
    marks = marks_of_results(results)
    caption = "; ".join(filter(None, [caption, *notes_of_marks(marks, x, y)]))
    seen, methods = in_view(marks, x, y), [mark for mark in marks if not mark.is_run]
    rows = [row for row, mark in zip(ordered_rows(results), methods, strict=True) if mark in seen]
    rows.sort(key=lambda row: row.method == "initialisation")
    for index, row in enumerate(row for row in rows if x in row.scores and y in row.scores):
        a, b = row.scores[x], row.scores[y]
        label = method_title(row)
        text = hover(label, {}, _said(row.scores, (x, y), scale))
        errors = ([a.stderr], [b.stderr])
        traces.append(points([label], [a.value], [b.value], label=label, index=index, texts=[text], errors=errors))
    titles = [f"{column_title(split)} ({results.metric})" for split in (x, y)]
    return figure(name, title, caption, traces, xaxis=axis(titles[0]), yaxis=axis(titles[1]))


def _said(scores: Mapping[str, Cell], splits: Sequence[str], scale: Scale) -> dict[str, str]:
    return {column_title(split): scale.number(scores[split].value) for split in splits}


def _calibration(results: Results) -> list[Json]:
    rows = [row for row in ordered_rows(results) if row.metrics and "test" in row.metrics.get("ece", {})]
    if not rows:
        return []
    bars = [
        {
            "type": "bar", "orientation": "h", "name": label, "y": [plain(method_title(row)) for row in rows],
            "x": [(row.metrics or {})[name]["test"].value for row in rows], "marker": {"color": colour},
            "hovertemplate": "%{y}: %{x:.4f}<extra>" + label + "</extra>",
        }
        for name, label, colour in (
            ("ece", "as it comes", COLOURS[1]), ("ece_scaled", "at the held-out temperature", COLOURS[0]),
        )
        if all(name in (row.metrics or {}) for row in rows)
    ]  # fmt: skip
    layout = {"xaxis": axis("expected calibration error, test"), "yaxis": {"autorange": "reversed", "automargin": True}}
    caption = "Lower is better calibrated; the temperature is fitted on the held-out split."
    return [figure("calibration", "Calibration", caption, bars, barmode="group", **layout)]


def _settings(results: Results, settings: Settings) -> list[Json]:
    runs = [one for one in results.individuals or () if one.name in settings and "held_out" in one.scores]
    found = []
    for name in varied({one.name: settings[one.name] for one in runs}):
        shown = [one for one in runs if name in settings[one.name]]
        values = [settings[one.name][name] for one in shown]
        if not all(isinstance(value, int | float | str) or value is None for value in values):
            continue
        at = numbers_at(values)
        if is_number := at is not None:
            shown, values = [shown[i] for i in at], [values[i] for i in at]
        is_log = is_number and min(values) > 0 and max(values) >= 10 * min(values)
        trace = points(
            [one.name for one in shown], values if is_number else [plain(value) for value in values],
            [one.scores["held_out"].value for one in shown], label="a run",
            texts=[hover(one.name, settings[one.name], {}) for one in shown],
        )  # fmt: skip
        trace["showlegend"] = False
        kind = {"type": "log"} if is_log else {} if is_number else {"type": "category"}
        axes = {"xaxis": axis(name, **kind), "yaxis": axis(f"held-out ({results.metric})")}
        found.append(figure(f"setting-{name}", f"{name} and held-out score", "", [trace], **axes))
    return found


def soup_figures(soups: Mapping[str, Soup], settings: Settings) -> list[Json]:
    """Greedy's log as a staircase, and the coefficients of learned soups."""
    found = []
    greedy = next((soup for soup in soups.values() if soup.recipe == "greedy" and soup.steps), None)
    if greedy is not None:
        found.append(_acceptance(greedy, settings))
    found += [_coefficients(name, soup) for name, soup in soups.items() if soup.recipe.startswith("learned")]
    return found


def _acceptance(soup: Soup, settings: Settings) -> Json:
    steps = list(soup.steps)
    traces = []
    whole = [(n, step) for n, step in enumerate(steps, 1) if not step.score.is_abandoned]
    stairs = [(n, step.score.value) for n, step in whole if step.accepted]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "the soup",
            "x": [n for n, _ in stairs],
            "y": [value for _, value in stairs],
            "line": {"shape": "hv", "color": COLOURS[2], "width": 2},
            "hoverinfo": "skip",
        }
    )
    for label, accepted, index in (("kept", True, 2), ("left out", False, 1)):
        shown = [(n, step) for n, step in whole if step.accepted == accepted]
        names = [step.ingredient.name for _, step in shown]
        texts = [
            hover(name, settings.get(name, {}), {"with it": f"{step.score.value:.4f}"})
            for name, (_, step) in zip(names, shown, strict=True)
        ]
        heights = [step.score.value for _, step in shown]
        trace = points(names, [n for n, _ in shown], heights, label=label, index=index, texts=texts)
        trace["customdata"] = names
        errors = [step.score.stderr for _, step in shown]
        if any(error is not None for error in errors):
            trace["error_y"] = {"type": "data", "array": [error or 0.0 for error in errors], "thickness": 1, "width": 2}
        traces.append(trace)
    n_given_up = len(steps) - len(whole)
    caption = "Ingredients in decreasing order of their own held-out score; each is kept if the soup's does not fall."
    caption += f" {n_given_up} were given up before they were whole." if n_given_up else ""
    axes = {"xaxis": axis("step", dtick=max(1, len(steps) // 10)), "yaxis": axis(f"held-out ({steps[0].score.metric})")}
    return figure("acceptance", "Greedy's log", caption, traces, **axes)


def _coefficients(name: str, soup: Soup) -> Json:
    names = [plain(ingredient.name) for ingredient in soup.ingredients]
    title = f"Coefficients of {plain(name)}"
    if soup.coefficients.groups is None:
        bar = {
            "type": "bar", "x": names, "y": list(soup.coefficients.rows[0]), "marker": {"color": COLOURS[0]},
            "customdata": [one.name for one in soup.ingredients], "hovertemplate": "%{x}: %{y:.4f}<extra></extra>",
        }  # fmt: skip
        return figure(f"coefficients-{name}", title, "", [bar], yaxis=axis("coefficient"), xaxis={"automargin": True})
    shown = bands(soup.coefficients.groups)
    order = [row for band in shown for row in band.rows]
    heat = {
        "type": "heatmap", "x": names, "y": [plain(soup.coefficients.groups[row][0]) for row in order],
        "z": [list(soup.coefficients.rows[row]) for row in order],
        "colorscale": "Cividis", "hovertemplate": "%{y}<br>%{x}: %{z:.4f}<extra></extra>",
    }  # fmt: skip
    # On an axis of categories a tick may stand at a position: here the middle of a layer's rows.
    first = [sum(len(band.rows) for band in shown[:at]) for at in range(len(shown))]
    ticks = [start + (len(band.rows) - 1) / 2 for start, band in zip(first, shown, strict=True)]
    yaxis = {
        "autorange": "reversed", "automargin": True, "tickmode": "array", "tickvals": ticks,
        "ticktext": [plain(band.label) for band in shown],
    }  # fmt: skip
    caption = "A row for each tensor." if len(order) == len(shown) else "A row for each tensor, named by layer."
    height = 260 + 12 * min(len(order), _MOST_TENSORS)
    return figure(f"coefficients-{name}", title, caption, [heat], yaxis=yaxis, height=height)
