"""Looking at folders: which models and which data lie there, and the task that fits them. Reads names and headers."""

from __future__ import annotations

from stockpot.scouting.drafting import MISSING, Draft, draft_task
from stockpot.scouting.places import Scene, scout

__all__ = ["MISSING", "Draft", "Scene", "draft_task", "scout"]
