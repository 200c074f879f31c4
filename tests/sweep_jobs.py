"""A fine-tuning run whose worker is killed in the middle; importable by name in a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make_ingredient_after_death(payload: Mapping[str, Any]) -> dict[str, Any]:
    """As `make_ingredient`; but run-01 dies the first time, when it has trained and its folder is half written."""
    from stockpot.sweeps import fine_tuning

    target = Path(payload["target"])
    marker = target.parent.parent.with_name("died")
    train = fine_tuning._fine_tune

    def train_and_die(*arguments: Any, **more: Any) -> None:
        train(*arguments, **more)
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if target.name == "run-01" and not marker.exists():
        fine_tuning._fine_tune = train_and_die
    return fine_tuning.make_ingredient(payload)
