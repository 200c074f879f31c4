"""Run, sweep, soup and compare: sweep, recipes, table, report in order."""

from __future__ import annotations

from stockpot.experiment.comparing import compare, cook
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.experiment.running import default_output, run, sweep

__all__ = ["OnProgress", "Progress", "compare", "cook", "default_output", "run", "sweep"]
