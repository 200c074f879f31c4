"""The seam between what is to be run and where: local processes here, a cluster behind the same three names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Engine", "Job", "Result"]


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    Args:
        name: for people; need not be unique.
        payload: the function's only argument; anything that pickles, JSON values at best.
    """

    name: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job.

    Args:
        name: the job's.
        value: what the function returned; None if it failed.
        error: why it failed, for people; None if it did not.
        attempts: how often it was started; more than 1 when its process died.

    Example:
        >>> Result("lr1e-5", value={"accuracy": 0.9}).succeeded
        True
    """

    name: str
    value: Any = None
    error: str | None = None
    attempts: int = 1

    @property
    def succeeded(self) -> bool:
        """Whether there is a value (which may be None)."""
        return self.error is None


class Engine(Protocol):
    """Runs jobs somewhere."""

    def run(
        self,
        function: str,
        jobs: Sequence[Job],
        *,
        on_result: Callable[[Result], None] | None = None,
        on_start: Callable[[Job], None] | None = None,
    ) -> list[Result]:
        """Calls a function once per job.

        Args:
            function: ``package.module:function``, importable where the jobs run; called with a job's payload.
            jobs: in the order in which they are started.
            on_result: called here, as jobs end.
            on_start: called here, as jobs start (again when one is retried).

        Returns:
            One result per job, in the order of `jobs`. A job that fails is a result; it disturbs no other.
        """
