"""Pairs of models: the angle between them against what their soup gains; their soup against their ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockpot.records import Correlation, Pair, SoupVersusEnsemble
from stockpot.reports.analysis import correlation_text
from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.figures.points import SHAPES
from stockpot.reports.style import COLOURS, COLUMN_INCHES, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["angles", "soup_versus_ensemble", "soups_and_ensembles"]

#: What is correlated with the angle, above and below.
_SHOWN = ("soup_over_mean", "soup_over_better")


def angles(
    pairs: Sequence[Pair], correlations: Sequence[Correlation], metric: str, *, higher_is_better: bool = True
) -> Figure:
    """Angle against the soup's score less the mean of its two models, and less the better of them, a mark per split.

    Source:
        Wortsman et al., "Model soups", 2022, figure 3.
    """
    known = [pair for pair in pairs if pair.angle is not None]
    figure = new_figure(4.3 + 0.12 * len(known[0].soup), 1.25 * COLUMN_INCHES)
    over_mean, over_better = figure.subplots(2, 1, sharex=True)
    for axes in (over_mean, over_better):
        axes.axhline(0.0, color="0.7", linewidth=0.7, zorder=0)
    for index, split in enumerate(known[0].soup):
        at = [pair.angle or 0.0 for pair in known]
        look: dict[str, Any] = {
            "linestyle": "none", "marker": SHAPES[index % len(SHAPES)], "color": COLOURS[index % len(COLOURS)],
        }  # fmt: skip
        over_mean.plot(at, [pair.soup[split] - pair.mean(split) for pair in known], **look)
        better = [pair.better(split, higher_is_better=higher_is_better) for pair in known]
        over_better.plot(
            at, [pair.soup[split] - score for pair, score in zip(known, better, strict=True)],
            label=f"{_name(split)}{_rhos(correlations, split)}", **look,
        )  # fmt: skip
    over_better.set_xlabel("angle between the two models, degrees")
    over_mean.set_ylabel(f"soup − mean\nof the two ({short(metric)})")
    over_better.set_ylabel(f"soup − better\nof the two ({short(metric)})")
    notes = ["ρ: rank correlation with the angle [95 %]; above, below"] if correlations else []
    legend_below(figure, 1, notes=notes)
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
    return scores[split] - pair.mean(split)


def _diagonal(axes: object) -> None:
    low = min(*axes.get_xlim(), *axes.get_ylim())  # type: ignore[attr-defined]
    high = max(*axes.get_xlim(), *axes.get_ylim())  # type: ignore[attr-defined]
    axes.plot([low, high], [low, high], color="0.7", linewidth=0.7, zorder=0)  # type: ignore[attr-defined]


def _rhos(correlations: Sequence[Correlation], split: str) -> str:
    said = [correlation_text(c) for of in _SHOWN for c in correlations if (c.of, c.split) == (of, split)]
    return f": ρ {'; '.join(said)}" if any(said) else ""


def _name(split: str) -> str:
    return short(split.replace("_", "-").removeprefix("shift:"), 18)
