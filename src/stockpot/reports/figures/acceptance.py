"""What greedy tried, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.reports.figures.figure1 import legend_below
from stockpot.reports.style import COLOURS, new_figure, short
from stockpot.types import Soup, Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["acceptance"]

_MOST_NAMES = 20


def acceptance(soup: Soup) -> Figure:
    """The score of every candidate soup in the order tried, with standard errors; the stairs are the soup so far.

    A candidate that was abandoned is drawn at the bound it could not have exceeded, with an open triangle.
    """
    figure = new_figure(2.9, max(3.3, min(0.22 * len(soup.steps), 7)))
    axes = figure.subplots()
    incumbent = float("nan")
    heights = [incumbent := step.score.value if step.accepted else incumbent for step in soup.steps]
    axes.step(range(len(heights)), heights, where="post", color="0.6", label="soup so far")
    for label, accepted, colour, shape in (("accepted", True, 0, "o"), ("rejected", False, 1, "X")):
        chosen = [(i, s) for i, s in enumerate(soup.steps) if s.accepted == accepted and not s.score.is_abandoned]
        if chosen:
            axes.errorbar(
                [i for i, _ in chosen], [s.score.value for _, s in chosen],
                yerr=[s.score.stderr or 0.0 for _, s in chosen], label=label,
                color=COLOURS[colour], marker=shape, linestyle="none", elinewidth=0.6, capsize=1.5,
            )  # fmt: skip
    bounds = [(i, s.score.at_most) for i, s in enumerate(soup.steps) if s.score.is_abandoned and s.score.at_most]
    if bounds:
        axes.plot(*zip(*bounds, strict=True), "v", color=COLOURS[1], fillstyle="none", label="abandoned: at most")
    _name_steps(axes, soup.steps)
    axes.set_ylabel(f"held-out ({short(soup.steps[0].score.metric)})" if soup.steps else "held-out")
    notes = ["bars: one standard error"] if any(step.score.stderr for step in soup.steps) else []
    legend_below(figure, 3, notes=notes)
    return figure


def _name_steps(axes: Axes, steps: tuple[Step, ...]) -> None:
    if len(steps) > _MOST_NAMES:
        axes.set_xlabel("candidate, in the order tried")
        return
    names = [short(step.label or step.ingredient.name, 18) for step in steps]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
