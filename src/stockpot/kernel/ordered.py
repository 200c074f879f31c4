"""Several spans under way at once, handed on in order: nothing waits for the disk but what needs its bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["in_order"]

_Lane = TypeVar("_Lane")
_Made = TypeVar("_Made")


def in_order(jobs: Iterable[Callable[[_Lane], _Made]], lanes: Sequence[_Lane], *, threads: int = 0) -> Iterator[_Made]:
    """The results of jobs, in their order; each has a lane (its memory) to itself until the next result is asked for.

    Args:
        jobs: taken one by one, as lanes become free.
        lanes: at least one; with threads one more than these lets a result be used while others are made.
        threads: that jobs run in; 0: the caller's own.

    Raises:
        What a job raised, when its turn comes; jobs under way are waited for, others are not begun.

    Example:
        >>> list(in_order([lambda lane, n=n: n * n for n in range(4)], lanes=["a", "b"], threads=1))
        [0, 1, 4, 9]
    """
    if not threads:
        yield from (job(lanes[0]) for job in jobs)
        return
    from concurrent.futures import ThreadPoolExecutor

    free = deque(lanes)
    under_way: deque[tuple[_Lane, Future[_Made]]] = deque()
    waiting = iter(jobs)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="stockpot-blend")
    try:
        while True:
            while free and (job := next(waiting, None)) is not None:
                lane = free.popleft()
                under_way.append((lane, pool.submit(job, lane)))
            if not under_way:
                return
            lane, future = under_way.popleft()
            yield future.result()
            free.append(lane)
    finally:
        pool.shutdown(cancel_futures=True)
