"""Traces and figures in plotly's words, with user strings made harmless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stockpot.reports.style import COLOURS
from stockpot.reports.text import printable

__all__ = ["COLOURS", "Json", "axis", "figure", "hover", "lines", "plain", "points"]

Json = dict[str, Any]
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon", "star", "hexagon")


def plain(text: object) -> str:
    """Text that plotly, which reads some HTML in labels, shows as it stands.

    Example:
        >>> plain("<b>x</b>")
        '&lt;b&gt;x&lt;/b&gt;'
    """
    return escape(printable(text), quote=False)


def hover(name: str, settings: Mapping[str, Any], scores: Mapping[str, str]) -> str:
    """What is said of a run under the pointer."""
    said = [f"<b>{plain(name)}</b>", *(f"{plain(key)}: {plain(value)}" for key, value in scores.items())]
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in settings.items()}
    said += [f"{plain(key)} = {plain(value)}" for key, value in shown.items()]
    return "<br>".join(said)


def points(
    names: Sequence[str],
    x: Sequence[Any],
    y: Sequence[Any],
    *,
    label: str,
    index: int | None = None,
    texts: Sequence[str] | None = None,
    errors: tuple[Sequence[float | None], Sequence[float | None]] | None = None,
) -> Json:
    """Marks of models: grey dots for runs (index None), a colour and a shape for a method."""
    is_run = index is None
    colour = "#888888" if index is None else COLOURS[index % len(COLOURS)]
    symbol = "circle" if index is None else SYMBOLS[index % len(SYMBOLS)]
    trace: Json = {
        "type": "scatter", "mode": "markers", "name": plain(label), "x": list(x), "y": list(y),
        "customdata": list(names) if is_run else [None] * len(names),
        "text": list(texts) if texts is not None else [f"<b>{plain(name)}</b>" for name in names],
        "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        "marker": {"color": colour, "symbol": symbol, "size": 7 if is_run else 11, "opacity": 0.75 if is_run else 1.0},
    }  # fmt: skip
    if errors is not None:
        for key, values in zip(("error_x", "error_y"), errors, strict=True):
            if any(value is not None for value in values):
                trace[key] = {"type": "data", "array": [value or 0.0 for value in values], "thickness": 1, "width": 2}
    return trace


def lines(label: str, x: Sequence[Any], y: Sequence[Any], index: int, *, dash: str = "solid", width: float = 2) -> Json:
    """A curve."""
    return {
        "type": "scatter", "mode": "lines+markers", "name": plain(label), "x": list(x), "y": list(y),
        "line": {"color": COLOURS[index % len(COLOURS)], "dash": dash, "width": width},
        "marker": {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 6},
        "hovertemplate": f"{plain(label)}<br>%{{x:.4g}}, %{{y:.4g}}<extra></extra>",
    }  # fmt: skip


def axis(title: str, **more: Any) -> Json:
    """An axis with its title."""
    return {"title": {"text": plain(title)}, **more}


def figure(name: str, title: str, caption: str, traces: Sequence[Json], **layout: Any) -> Json:
    """One picture of the page."""
    return {"id": name, "title": title, "caption": caption, "data": list(traces), "layout": layout}
