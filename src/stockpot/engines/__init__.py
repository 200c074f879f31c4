"""Where jobs run: an `Engine` calls one function for many payloads and returns what became of each."""

from __future__ import annotations

from stockpot._cores import available_cores
from stockpot.engines.local import LocalEngine
from stockpot.engines.seam import Engine, Job, Result

__all__ = ["Engine", "Job", "LocalEngine", "Result", "available_cores"]
