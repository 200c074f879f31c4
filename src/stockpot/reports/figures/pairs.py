"""Pairs of models: the angle between them against what their soup gains; their soup against their ensemble."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stockpot.records import Correlation, Pair, SoupVersusEnsemble
from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.figures.points import SHAPES
from stockpot.reports.style import COLOURS, COLUMN_INCHES, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["angles", "soup_versus_ensemble", "soups_and_ensembles"]


def angles(pairs: Sequence[Pair], correlations: Sequence[Correlation], metric: str) -> Figure:
    """Angle against the soup's score less the mean of its two models, a mark per split.

    Source:
        Wortsman et al., "Model soups", 2022, figure 3.
    """
    known = [pair for pair in pairs if pair.angle is not None]
    figure = new_figure(3.1, 1.25 * COLUMN_INCHES)
    axes = figure.subplots()
    axes.axhline(0.0, color="0.7", linewidth=0.7, zorder=0)
    for index, split in enumerate(known[0].soup):
        gains = [_gain(pair, pair.soup, split) for pair in known]
        axes.plot(
            [pair.angle or 0.0 for pair in known], gains, linestyle="none", marker=SHAPES[index % len(SHAPES)],
            color=COLOURS[index % len(COLOURS)], label=f"{_name(split)}{_rho(correlations, split)}",
        )  # fmt: skip
    axes.set_xlabel("angle between the two models, degrees")
    axes.set_ylabel(f"soup − mean of the two ({short(metric)})")
    legend_below(figure, 2)
    return figure


def soups_and_ensembles(pairs: Sequence[Pair], metric: str) -> Figure:
    """What the soup of two and what their ensemble gain over the mean of the two, a mark per split.

    Source:
        Wortsman et al., "Model soups", 2022, figure 4.
    """
    figure = new_figure(3.3)
    axes = figure.subplots()
    for index, split in enumerate(pairs[0].soup):
        axes.plot(
            [_gain(pair, pair.soup, split) for pair in pairs], [_gain(pair, pair.ensemble, split) for pair in pairs],
            linestyle="none", marker=SHAPES[index % len(SHAPES)], color=COLOURS[index % len(COLOURS)],
            label=_name(split),
        )  # fmt: skip
    _diagonal(axes)
    axes.set_xlabel(f"soup − mean of the two ({short(metric)})")
    axes.set_ylabel(f"ensemble − mean of the two ({short(metric)})")
    legend_below(figure, 3)
    return figure


def soup_versus_ensemble(found: Sequence[SoupVersusEnsemble]) -> Figure:
    """The measured difference of the losses against the paper's approximation, a mark per split.

    Source:
        Wortsman et al., "Model soups", 2022, section 4.
    """
    figure = new_figure(3.3)
    axes = figure.subplots()
    for index, split in enumerate(dict.fromkeys(one.split for one in found)):
        here = [one for one in found if one.split == split]
        axes.plot(
            [one.approximated for one in here], [one.measured for one in here], linestyle="none",
            marker=SHAPES[index % len(SHAPES)], color=COLOURS[index % len(COLOURS)], label=_name(split),
        )  # fmt: skip
    _diagonal(axes)
    axes.set_xlabel("approximated loss of soup − ensemble, nats")
    axes.set_ylabel("measured loss of soup − ensemble, nats")
    legend_below(figure, 3)
    return figure


def _gain(pair: Pair, scores: Mapping[str, float], split: str) -> float:
    return scores[split] - math.fsum(pair.individuals[split]) / 2


def _diagonal(axes: object) -> None:
    low = min(*axes.get_xlim(), *axes.get_ylim())  # type: ignore[attr-defined]
    high = max(*axes.get_xlim(), *axes.get_ylim())  # type: ignore[attr-defined]
    axes.plot([low, high], [low, high], color="0.7", linewidth=0.7, zorder=0)  # type: ignore[attr-defined]


def _rho(correlations: Sequence[Correlation], split: str) -> str:
    found = next((c for c in correlations if c.of == "soup_over_mean" and c.split == split), None)
    if found is None or found.value is None:
        return ""
    interval = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f", ρ = {found.value:.2f}{interval}"


def _name(split: str) -> str:
    return short(split.replace("_", "-").removeprefix("shift:"), 18)
