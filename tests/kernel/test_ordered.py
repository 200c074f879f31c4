from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from stockpot.kernel.ordered import in_order


def jobs_of(values: list[int], seen: list[tuple[int, str]]) -> list[Callable[[str], int]]:
    def job(lane: str, value: int) -> int:
        seen.append((value, lane))
        if value < 0:
            raise ValueError(str(value))
        return value

    return [lambda lane, v=value: job(lane, v) for value in values]  # type: ignore[misc]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("n_lanes", [1, 2, 5])
def test_results_come_in_the_order_of_the_jobs(threads: int, n_lanes: int) -> None:
    seen: list[tuple[int, str]] = []
    lanes = [f"lane {i}" for i in range(n_lanes)]
    assert list(in_order(jobs_of(list(range(20)), seen), lanes, threads=threads)) == list(range(20))
    assert sorted(value for value, _ in seen) == list(range(20))


@pytest.mark.parametrize("threads", [0, 2])
def test_the_first_failure_in_order_is_raised_after_what_came_before_it(threads: int) -> None:
    results = in_order(jobs_of([1, 2, -3, -4, 5], []), ["a", "b", "c"], threads=threads)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="-3"):
        next(results)
    assert list(results) == []


def test_a_lane_is_free_again_only_when_the_next_result_is_asked_for() -> None:
    in_use: set[str] = set()
    lock = threading.Lock()

    def job(lane: str) -> str:
        with lock:
            assert lane not in in_use
            in_use.add(lane)
        return lane

    for lane in in_order([job] * 50, ["a", "b", "c"], threads=2):
        with lock:
            in_use.remove(lane)


def test_leaving_early_waits_for_jobs_under_way_and_begins_no_others() -> None:
    began: list[int] = []
    release = threading.Event()

    def slow(lane: str, number: int) -> int:
        began.append(number)
        if number:
            release.wait(10)
        return number

    results = in_order([lambda lane, n=n: slow(lane, n) for n in range(100)], ["a", "b", "c"], threads=1)
    assert next(results) == 0
    release.set()
    results.close()  # type: ignore[attr-defined]
    n_began = len(began)
    assert n_began < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stockpot-blend")]


def test_no_jobs_no_results() -> None:
    assert list(in_order([], ["a"], threads=1)) == []
