"""Jobs without workers: no second import of torch."""

from __future__ import annotations

import importlib
import pickle
import traceback
from collections.abc import Callable, Sequence

from stockpot.engines import Job, Result
from stockpot.errors import StockpotError


class InProcess:
    """The seam of `stockpot.engines`, the last job first, without any worker."""

    def __init__(self, workers: int | None = None, gpus: Sequence[str] = ()) -> None:
        self.workers = workers

    def run(
        self,
        function: str,
        jobs: Sequence[Job],
        *,
        on_result: Callable[[Result], None] | None = None,
        on_start: Callable[[Job], None] | None = None,
    ) -> list[Result]:
        module, _, name = function.partition(":")
        results = {}
        for job in reversed(jobs):
            results[job.name] = self._one(getattr(importlib.import_module(module), name), job)
            if on_result is not None:
                on_result(results[job.name])
        return [results[job.name] for job in jobs]

    def _one(self, function: Callable[..., object], job: Job) -> Result:
        try:
            return Result(job.name, function(pickle.loads(pickle.dumps(job.payload))))
        except StockpotError as exc:
            return Result(job.name, error=str(exc))
        except Exception:  # noqa: BLE001 - as a worker does
            return Result(job.name, error=traceback.format_exc())
