"""Threads for blocking work: as many as are needed, and what was begun is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from hubd.fetching.threads import GrowingPool


@pytest.fixture
def pool() -> Iterator[GrowingPool]:
    pool = GrowingPool(1, "test")
    yield pool
    pool.shutdown()


def test_a_pool_that_grew_runs_more_at_a_time_and_finishes_what_it_had(pool: GrowingPool) -> None:
    go = threading.Event()
    begun = [threading.Event() for _ in range(3)]

    def work(number: int) -> int:
        begun[number].set()
        assert go.wait(10)
        return number

    first, queued = pool.submit(work, 0), pool.submit(work, 1)
    assert begun[0].wait(10)
    assert not begun[1].is_set()
    pool.grow(2)
    later = pool.submit(work, 2)
    assert begun[2].wait(10)
    go.set()
    assert [future.result(10) for future in (first, queued, later)] == [0, 1, 2]


def test_a_pool_never_shrinks(pool: GrowingPool) -> None:
    pool.grow(3)
    pool.grow(2)
    go, begun = threading.Event(), threading.Semaphore(0)

    def work() -> bool:
        begun.release()
        return go.wait(10)

    running = [pool.submit(work) for _ in range(3)]
    assert all(begun.acquire(timeout=10) for _ in running)
    go.set()
    assert all(future.result(10) for future in running)
