"""What a scatter shows: models with their scores, and how each is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stockpot.records import Results
from stockpot.reports.style import COLOURS, short
from stockpot.reports.table import method_title, ordered_rows
from stockpot.score_record import ScoreTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "RUN_LABEL",
    "SHAPES",
    "Mark",
    "draw_marks",
    "in_view",
    "marks_of_results",
    "marks_of_scores",
    "notes_of_marks",
]

RUN_LABEL = "a run"
SHAPES = "osD^vP*Xp<>h"


@dataclass(frozen=True, slots=True)
class Mark:
    """One model of a scatter.

    Args:
        label: as shown in the legend.
        scores: split -> score, in the metric's unit.
        stderrs: split -> its standard error, where known.
        is_run: one of the runs, which share a small grey mark.
        is_start: the initialisation, which is shown only where it does not squeeze all others into a corner.
    """

    label: str
    scores: Mapping[str, float] = field(hash=False)
    stderrs: Mapping[str, float] = field(default_factory=dict, hash=False)
    is_run: bool = False
    is_start: bool = False

    def has(self, *splits: str) -> bool:
        """Whether it was measured on all of these."""
        return all(split in self.scores for split in splits)


def marks_of_results(results: Results) -> list[Mark]:
    """One per run, then one per method, the initialisation among them."""
    runs = [
        Mark(RUN_LABEL, {split: cell.value for split, cell in individual.scores.items()}, is_run=True)
        for individual in results.individuals or ()
    ]
    return runs + [
        Mark(
            short(method_title(row), 32),
            {split: cell.value for split, cell in row.scores.items()},
            {split: cell.stderr for split, cell in row.scores.items() if cell.stderr is not None},
            is_start=row.method == "initialisation",
        )
        for row in ordered_rows(results)
    ]


def marks_of_scores(table: ScoreTable) -> list[Mark]:
    """One per model of a user's own table; individuals are runs."""
    splits = table.columns.splits
    return [
        Mark(
            RUN_LABEL if row.kind == "individual" else short(row.model_name),
            {split: score for split in splits if (score := row.score(split)) is not None},
            is_run=row.kind == "individual",
        )
        for row in table.rows
    ]


def in_view(marks: Sequence[Mark], *splits: str) -> list[Mark]:
    """All marks but an initialisation so far off on one of the splits that the span of the others would double.

    It comes last, so that the others look the same whether it is there or not.
    """
    seen = [mark for mark in marks if not mark.is_start or not any(_is_far(mark, marks, split) for split in splits)]
    return sorted(seen, key=lambda mark: mark.is_start)


def _is_far(start: Mark, marks: Sequence[Mark], split: str) -> bool:
    others = [mark.scores[split] for mark in marks if not mark.is_start and mark.has(split)]
    if not others or not start.has(split):
        return False
    low, high = min(others), max(others)
    return not low - (high - low) <= start.scores[split] <= high + (high - low)


def notes_of_marks(marks: Sequence[Mark], *splits: str) -> list[str]:
    """What a legend has to add: what the bars are, and what `in_view` leaves out."""
    shown = in_view(marks, *splits)
    notes = ["bars: one standard error"] if any(split in mark.stderrs for mark in shown for split in splits) else []
    for mark in marks:
        if mark not in shown:
            at = ", ".join(f"{mark.scores[split]:.3g}" for split in splits if mark.has(split))
            notes.append(f"not shown: {mark.label}" + (f" ({at})" if len(splits) == 2 else ""))
    return notes


def draw_marks(axes: Axes, marks: Sequence[Mark], x: str, y: str) -> None:
    """Every model that has both scores: a point with bars of one standard error."""
    style = 0
    for mark in marks:
        look: dict[str, Any] = {"color": "0.6", "marker": "."} if mark.is_run else _look(style)
        style += not mark.is_run
        if mark.has(x, y):
            axes.errorbar(
                [mark.scores[x]], [mark.scores[y]], xerr=mark.stderrs.get(x), yerr=mark.stderrs.get(y),
                linestyle="none", elinewidth=0.5, label=mark.label, **look,
            )  # fmt: skip


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": SHAPES[index % len(SHAPES)]}
