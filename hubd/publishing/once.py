"""One run per key, however many want what it gives.

Law: a run goes on to its end whoever leaves. What it gives is kept; its failure too, for a while, so that what fails
and costs much is not done again for everybody who asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Generic, TypeVar

from hubclient.contract.errors import HubError, Internal

log = logging.getLogger(__name__)

T = TypeVar("T")

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Once(Generic[T]):
    """What was made, by key."""

    def __init__(self, spawn: Spawn, retry_seconds: float) -> None:
        """`spawn` starts a task in the group that owns all work. A failure is kept for `retry_seconds` if a retry may
        help, and else for good."""
        self._spawn = spawn
        self._retry_seconds = retry_seconds
        self._made: dict[str, T] = {}
        self._failed: dict[str, tuple[HubError, float]] = {}
        self._running: dict[str, asyncio.Future[T]] = {}
        self.tasks: set[asyncio.Task[None]] = set()  #: those under way

    def made(self, key: str) -> T | None:
        return self._made.get(key)

    def failure(self, key: str) -> HubError | None:
        """Why it cannot be made, if that is for good."""
        failed = self._failed.get(key)
        return failed[0] if failed is not None and not failed[0].retryable else None

    async def get(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make` gave, or gives now. Raises its `HubError`."""
        if (made := self._made.get(key)) is not None:
            return made
        if (failed := self._failed.get(key)) is not None and time.monotonic() < failed[1]:
            raise failed[0].with_traceback(None)
        if (running := self._running.get(key)) is None:
            running = self._running[key] = asyncio.get_running_loop().create_future()
            # An error that nobody waits for any more is no news.
            running.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())
            task = self._spawn(self._run(key, make, running))
            self.tasks.add(task)
            task.add_done_callback(lambda task: self._end(key, running, task))
        return await asyncio.shield(running)

    def forget(self, key: str) -> None:
        self._made.pop(key, None)

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget the others; what runs goes on."""
        self._made = {key: made for key, made in self._made.items() if key in keys}
        self._failed = {key: failed for key, failed in self._failed.items() if key in keys}

    async def _run(self, key: str, make: Callable[[], Coroutine[Any, Any, T]], outcome: asyncio.Future[T]) -> None:
        try:
            self._made[key] = made = await make()
        except HubError as error:
            until = time.monotonic() + self._retry_seconds if error.retryable else float("inf")
            self._failed[key] = error, until
            outcome.set_exception(error)
        except Exception:
            log.exception("work failed for a reason of our own")
            outcome.set_exception(Internal("hubd failed; its log has the reason"))
        else:
            outcome.set_result(made)

    def _end(self, key: str, outcome: asyncio.Future[T], task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        del self._running[key]
        if not outcome.done():  # it was cancelled, maybe before its first step
            outcome.cancel()
