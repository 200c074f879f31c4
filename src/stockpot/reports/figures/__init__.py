"""One figure a file: records in, a matplotlib figure out."""

from __future__ import annotations

from stockpot.reports.figures.acceptance import acceptance
from stockpot.reports.figures.calibration import calibration
from stockpot.reports.figures.coefficients import coefficients
from stockpot.reports.figures.count import count
from stockpot.reports.figures.figure1 import figure1
from stockpot.reports.figures.geometry import geometry
from stockpot.reports.figures.landscape import landscape
from stockpot.reports.figures.line import line
from stockpot.reports.figures.pairs import angles, soup_versus_ensemble, soups_and_ensembles
from stockpot.reports.figures.points import Mark, marks_of_results, marks_of_scores
from stockpot.reports.figures.ranks import ranks
from stockpot.reports.figures.reliability import reliability
from stockpot.reports.figures.settings import settings
from stockpot.reports.figures.shifts import shifts

__all__ = [
    "Mark", "acceptance", "angles", "calibration", "coefficients", "count", "figure1", "geometry", "landscape", "line",
    "marks_of_results", "marks_of_scores", "ranks", "reliability", "settings", "shifts", "soup_versus_ensemble",
    "soups_and_ensembles",
]  # fmt: skip
