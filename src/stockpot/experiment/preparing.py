"""Before anything long starts: what all splits are made of is decoded, so that nothing damaged is found at the end."""

from __future__ import annotations

from stockpot.errors import DataError
from stockpot.experiment.progress import OnProgress, Progress
from stockpot.tasks import Task
from stockpot.tasks.tables import together
from stockpot.types import Ingredient

__all__ = ["prepare_splits"]


def prepare_splits(task: Task, report: OnProgress, *, first: Ingredient | None = None) -> None:
    """Makes every scored split ready, the held-out one last: it is needed first.

    Args:
        task: whose.
        report: hears which.
        first: an ingredient that has to fit the task's network, which is looked at before anything is decoded.

    Raises:
        DataError: what cannot be decoded, in all splits together.
        ConfigError: more than the task's cache may hold; no such network.
        BlendError: `first` does not fit it.
    """
    splits = task.unprepared
    if not splits:
        return
    if first is not None:
        task.accept(first)
    report(Progress("data", f"decoding the images of {', '.join(splits)}"))
    errors: list[DataError] = []
    for split in reversed(splits):
        try:
            task.prepare(split)
        except DataError as exc:
            errors.append(exc)
    if errors:
        raise together(errors[::-1], f"{len(errors)} splits cannot be used")
    report(Progress("data", f"decoded images: {task.prepared_bytes / 2**30:.3g} GiB on the disk"))
    for note in task.split_notes:
        report(Progress("data", note))
