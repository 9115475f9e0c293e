"""Flights: one running piece of work per key, however many wait for it.

Law: work runs while somebody waits for it, and only then. The last waiter to leave cancels it; a new one that
arrives meanwhile waits until it is gone and starts afresh. Knows nothing of modules.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """What a flight runs, once."""

    async def run(self) -> T_co: ...


W = TypeVar("W", bound=Work[Any])


class Flight(Generic[W, T]):
    """Work under way. `work` tells how far it is."""

    def __init__(self, work: W, outcome: asyncio.Future[T]) -> None:
        self.work = work
        self.waiters = 0
        self.urgent_waiters = 0  #: of these, who did not say that there is no hurry
        self._outcome = outcome
        self._task: asyncio.Task[None] | None = None
        self._leaving = False

    @property
    def is_urgent(self) -> bool:
        """Whether there is an urgent waiter."""
        return self.urgent_waiters > 0

    async def outcome(self) -> T:
        """The result, or the error that all waiters share. To be cancelled here leaves the work alone."""
        return await asyncio.shield(self._outcome)


class Flights(Generic[K, W, T]):
    """The flights under way, by key. `spawn` starts a task in the group that owns all work."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._spawn = spawn
        self._running: dict[K, Flight[W, T]] = {}
        self._closed: Exception | None = None

    def __len__(self) -> int:
        return len(self._running)

    def running(self) -> list[Flight[W, T]]:
        return list(self._running.values())

    def is_urgent(self, key: K) -> bool:
        """Whether the key's flight is; False when none is under way."""
        flight = self._running.get(key)
        return flight is not None and flight.is_urgent

    @asynccontextmanager
    async def board(
        self, key: K, start: Callable[[], W], *, urgent: bool = True
    ) -> AsyncIterator[tuple[Flight[W, T], bool]]:
        """Be a waiter of the key's flight for the block; `start` makes its work if none is under way.

        Yields the flight and whether it was joined (rather than started). After `close` nobody boards.
        """
        while (flight := self._running.get(key)) is not None and flight._leaving:
            assert flight._task is not None
            await asyncio.wait({flight._task})
        if self._closed is not None:
            raise self._closed
        joined = flight is not None
        if flight is None:
            flight = self._depart(key, start())
        flight.waiters += 1
        flight.urgent_waiters += urgent
        try:
            yield flight, joined
        finally:
            flight.waiters -= 1
            flight.urgent_waiters -= urgent
            if flight.waiters == 0 and not flight._outcome.done():
                assert flight._task is not None
                flight._leaving = True
                flight._task.cancel()

    def close(self, error: Exception) -> None:
        """Ends every flight, and lets none start; whoever waits, or comes later, gets the error."""
        self._closed = error
        for flight in self.running():
            if not flight._outcome.done():
                assert flight._task is not None
                flight._outcome.set_exception(error)
                flight._leaving = True
                flight._task.cancel()

    def _depart(self, key: K, work: W) -> Flight[W, T]:
        flight: Flight[W, T] = Flight(work, asyncio.get_running_loop().create_future())
        # An error that nobody waits for any more is no news.
        flight._outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())
        self._running[key] = flight
        flight._task = self._spawn(self._fly(key, flight))
        # A task that is cancelled before its first step never runs its body.
        flight._task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    async def _fly(self, key: K, flight: Flight[W, T]) -> None:
        try:
            result = await flight.work.run()
        except Exception as error:
            # It ends here: raised on, it would cancel every other task of the group.
            self._land(key, flight)
            if not flight._outcome.done():
                flight._outcome.set_exception(error)
        else:
            # Whoever comes after this finds no flight, starts one, and that one looks in the store first.
            self._land(key, flight)
            if not flight._outcome.done():
                flight._outcome.set_result(result)

    def _land(self, key: K, flight: Flight[W, T]) -> None:
        if self._running.get(key) is flight:
            del self._running[key]
        if flight._task is not None and flight._task.done() and not flight._outcome.done():
            flight._outcome.cancel()
