"""Blocking work in threads that a cancellation does not leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class GrowingPool(Executor):
    """A pool of threads that can be made larger. `grow` and `shutdown` are for the thread that owns it."""

    def __init__(self, max_workers: int, thread_name_prefix: str = "") -> None:
        self._max_workers = max_workers
        self._prefix = thread_name_prefix
        self._pools = [ThreadPoolExecutor(max_workers, thread_name_prefix)]

    def grow(self, max_workers: int) -> None:
        """At least so many threads, for what is submitted from now on. What was before ends in its own."""
        if max_workers > self._max_workers:
            self._max_workers = max_workers
            self._pools.append(ThreadPoolExecutor(max_workers, self._prefix))
            self._pools[-2].shutdown(wait=False)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._pools[-1].submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for pool in self._pools:
            pool.shutdown(wait, cancel_futures=cancel_futures)


async def to_its_end(threads: Executor, function: Callable[[], T], hurry: Callable[[], object] | None = None) -> T:
    """Runs it in a thread; a cancellation waits until it is done, which `hurry` may bring about."""
    running = asyncio.get_running_loop().run_in_executor(threads, function)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if hurry is not None:
            hurry()
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue
        if not running.cancelled():
            running.exception()  # nobody is left to tell it to
        raise
