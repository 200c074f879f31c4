"""What an analysis found, in a few lines of text."""

from __future__ import annotations

from stockpot.records import Analysis, Correlation
from stockpot.reports.table import column_title

__all__ = ["analysis_lines", "correlation_text"]


def analysis_lines(found: Analysis) -> list[str]:
    """Barriers of the line, and what the angle of two models has to do with the gain of their soup.

    Example:
        >>> correlations = (Correlation("soup_over_mean", "test", 0.5, 0.1, 0.7, 15),)
        >>> analysis_lines(Analysis({}, correlations=correlations))
        ['angle and gain of the soup over the mean of the two (rank correlation of 15 pairs): test 0.50 [0.10, 0.70]']
    """
    lines = []
    if found.line is not None and found.line.barriers:
        heights = ", ".join(f"{column_title(split)} {height:.4f}" for split, height in found.line.barriers.items())
        lines.append(f"barrier of the loss from {found.line.ends[0]} to {found.line.ends[1]}: {heights}")
    for of, title in (("soup_over_mean", "mean"), ("soup_over_better", "better")):
        here = [one for one in found.correlations or () if one.of == of]
        if here:
            said = ", ".join(f"{column_title(one.split)} {correlation_text(one)}" for one in here)
            what = f"angle and gain of the soup over the {title} of the two"
            lines.append(f"{what} (rank correlation of {here[0].n_pairs} pairs): {said}")
    return lines


def correlation_text(found: Correlation) -> str:
    """A correlation with its interval, as far as they are defined.

    Example:
        >>> correlation_text(Correlation("soup_over_mean", "test", 0.5, 0.1, 0.7, 15))
        '0.50 [0.10, 0.70]'
    """
    if found.value is None:
        return "undefined"
    interval = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{interval}"
