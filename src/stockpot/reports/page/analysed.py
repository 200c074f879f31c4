"""Pictures of the page from analysis.json."""

from __future__ import annotations

import math
from collections.abc import Callable

from stockpot.records import Analysis, Geometry, Pair, Plane
from stockpot.reports.analysis import correlation_text
from stockpot.reports.page.traces import Json, axis, figure, lines, plain, points
from stockpot.reports.table import column_title

__all__ = ["analysis_figures"]

_MOST_LOSS_SHARE = 0.9


def analysis_figures(analysis: Analysis) -> list[Json]:
    """The parts that were made."""
    metric = analysis.metric or "score"
    found: list[Json] = []
    if analysis.plane is not None:
        found += _landscape(analysis.plane)
    if analysis.line is not None:
        curves = [
            lines(column_title(split), analysis.line.alphas, [p.score for p in of], index)
            for index, (split, of) in enumerate(analysis.line.measured.items())
        ]
        heights = ", ".join(f"{column_title(split)} {height:.3f}" for split, height in analysis.line.barriers.items())
        caption = f"Shares of the second model; barriers of the loss: {heights}."
        title = f"From {analysis.line.ends[0]} to {analysis.line.ends[1]}"
        found.append(figure("line", title, caption, curves, xaxis=axis("alpha"), yaxis=axis(metric)))
    if analysis.pairs:
        found += _pairs(analysis, metric)
    if analysis.count:
        found += _count(analysis, metric)
    if analysis.soup_vs_ensemble:
        found.append(_versus(analysis))
    if analysis.reliability:
        found.append(_reliability(analysis))
    if analysis.geometry is not None:
        found.append(_geometry(analysis.geometry))
    return found


def _landscape(plane: Plane) -> list[Json]:
    found = []
    for split in plane.points[0].measured:
        for what in ("loss", "score"):
            xs, ys = (sorted({getattr(point, at) for point in plane.points}) for at in "xy")
            at = {(point.x, point.y): getattr(point.measured[split], what) for point in plane.points}
            values = sorted(at.values())
            top = values[int(_MOST_LOSS_SHARE * (len(values) - 1))] if what == "loss" else values[-1]
            contour = {
                "type": "contour", "x": xs, "y": ys, "z": [[at.get((x, y)) for x in xs] for y in ys],
                "colorscale": "Cividis", "zmin": values[0], "zmax": top, "ncontours": 14, "line": {"width": 0.5},
                "colorbar": {"thickness": 12}, "hovertemplate": "%{z:.4g}<extra></extra>",
            }  # fmt: skip
            marks = [
                points([p.name or ""], [p.x], [p.y], label=p.name or "", index=index)
                for index, p in enumerate(plane.named)
            ]
            name = what if what == "loss" else plane.metric
            through = f"{plane.corners[0]}, {plane.corners[1]} and {plane.corners[2]}"
            caption = f"The plane through {through}; a soup outside it by its projection."
            found.append(
                figure(
                    f"landscape-{what}-{split}",
                    f"Landscape: {name} on {column_title(split)}",
                    caption,
                    [contour, *marks],
                    xaxis=axis("distance in weights"),
                    yaxis=axis("distance in weights", scaleanchor="x"),
                )
            )
    return found


def _pairs(analysis: Analysis, metric: str) -> list[Json]:
    known = list(analysis.pairs or ())
    splits = list(known[0].soup)
    angled = [pair for pair in known if pair.angle is not None]
    names = [f"{pair.first} and {pair.second}" for pair in known]
    found = []
    if angled:
        up = analysis.higher_is_better
        others: dict[str, Callable[[Pair, str], float]] = {
            "mean": Pair.mean, "better": lambda pair, split: pair.better(split, higher_is_better=up),
        }  # fmt: skip
        for other, score in others.items():
            marks = [
                points(
                    [f"{p.first} and {p.second}" for p in angled], [p.angle for p in angled],
                    [p.soup[split] - score(p, split) for p in angled], label=column_title(split), index=index,
                )
                for index, split in enumerate(splits)
            ]  # fmt: skip
            said = [
                f"{column_title(one.split)} {correlation_text(one)}"
                for one in analysis.correlations or ()
                if one.of == f"soup_over_{other}"
            ]
            caption = "A mark for each pair of runs and each split."
            caption += f" Rank correlation with the angle [95 %]: {', '.join(said)}." if said else ""
            axes = {"xaxis": axis("angle, degrees"), "yaxis": axis(f"soup − {other} of the two ({metric})")}
            found.append(figure(f"angles-{other}", f"Angle and gain over the {other}", caption, marks, **axes))
    marks = [
        points(
            names, [p.soup[split] - p.mean(split) for p in known], [p.ensemble[split] - p.mean(split) for p in known],
            label=column_title(split), index=index,
        )
        for index, split in enumerate(splits)
    ]  # fmt: skip
    axes = {"xaxis": axis(f"soup − mean ({metric})"), "yaxis": axis(f"ensemble − mean ({metric})")}
    found.append(figure("soup-ensemble", "Soup and ensemble of two", "What each gains over the mean.", marks, **axes))
    return found


def _count(analysis: Analysis, metric: str) -> list[Json]:
    curves = analysis.count or ()
    return [
        figure(
            f"count-{split}", f"Number of models: {column_title(split)}",
            f"Means over {curves[0].n_orders} random orders.",
            [lines(curve.method, curve.counts, curve.means[split], index) for index, curve in enumerate(curves)],
            xaxis=axis("number of models"), yaxis=axis(metric),
        )
        for split in curves[0].means
    ]  # fmt: skip


def _versus(analysis: Analysis) -> Json:
    found = analysis.soup_vs_ensemble or ()
    marks = []
    for index, split in enumerate(dict.fromkeys(one.split for one in found)):
        here = [one for one in found if one.split == split]
        names = [f"{one.first} and {one.second}" for one in here]
        values = ([one.approximated for one in here], [one.measured for one in here])
        marks.append(points(names, *values, label=column_title(split), index=index))
    axes = {"xaxis": axis("approximated loss of soup − ensemble, nats"), "yaxis": axis("measured")}
    return figure(
        "soup-ensemble-loss",
        "Loss of soup and ensemble",
        "On the diagonal the paper's approximation is exact.",
        marks,
        **axes,
    )


def _reliability(analysis: Analysis) -> Json:
    curves = analysis.reliability or ()
    methods = list(dict.fromkeys(curve.method for curve in curves))
    traces = [
        lines(
            f"{curve.method.replace('_', ' ')}{', scaled' if curve.temperature != 1.0 else ''}", curve.confidences,
            curve.accuracies, methods.index(curve.method), dash="dot" if curve.temperature != 1.0 else "solid",
        )
        for curve in curves
    ]  # fmt: skip
    diagonal = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "showlegend": False, "hoverinfo": "skip",
                "line": {"color": "#999999", "width": 1}}  # fmt: skip
    axes = {"xaxis": axis("confidence"), "yaxis": axis("accuracy")}
    return figure("reliability", "Reliability", "Dotted: after temperature scaling.", [diagonal, *traces], **axes)


def _geometry(geometry: Geometry) -> Json:
    names = [plain(name) for name in geometry.names]
    angles = [
        [None if i == j else math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) for j, cosine in enumerate(row)]
        for i, row in enumerate(geometry.cosines)
    ]
    heat = {
        "type": "heatmap", "x": names, "y": names, "z": angles, "colorscale": "Cividis",
        "colorbar": {"title": {"text": "degrees"}, "thickness": 12},
        "hovertemplate": "%{y}, %{x}: %{z:.1f}°<extra></extra>",
    }  # fmt: skip
    caption = f"Angles between the directions from {'the mean' if geometry.is_centred else 'the initialisation'}."
    layout = {"xaxis": {"automargin": True}, "yaxis": {"automargin": True, "autorange": "reversed"}}
    return figure("geometry", "Angles between runs", caption, [heat], **layout)
