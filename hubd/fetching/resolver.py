"""The use case: a handle becomes the path of a whole, leased module.

Find it; else join or start the flight that fetches it; then compare with what this caller alone demanded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from hubclient.contract import handles
from hubclient.contract.errors import DigestMismatch, HubError, Offline, ShuttingDown, TooBusy, UpstreamNotFound
from hubclient.contract.layout import CacheLayout
from hubd.fetching.fetch import Fetch, Landed
from hubd.fetching.flights import Flight, Flights
from hubd.fetching.means import Means
from hubd.fetching.negative import NegativeCache
from hubd.fetching.progress import Outcome
from hubd.store.records import MAX_SPELLINGS, Record

log = logging.getLogger(__name__)

MAX_FLIGHTS = 4096

FetchFlight = Flight[Fetch, Landed]


@dataclass(frozen=True)
class Ask:
    """What a caller wants. `digest`: hex sha256 that the archive must have."""

    handle: str
    digest: str | None = None
    refresh: bool = False
    offline: bool = False


@dataclass(frozen=True)
class Resolution:
    """Where the module is; the daemon's lease lasts until 10 s after."""

    key: str
    record: Record
    path: str
    outcome: Outcome
    warnings: tuple[str, ...] = ()


class Resolver:
    """Answers callers. `spawn` starts a task in the group that owns all work."""

    def __init__(
        self, means: Means, layout: CacheLayout, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        self._means = means
        self._layout = layout
        self._spawn = spawn
        self._flights: Flights[str, Fetch, Landed] = Flights(spawn)
        self._failures = NegativeCache(means.settings.network.negative_ttl)
        self._stopping = False

    def fetches(self) -> list[FetchFlight]:
        return self._flights.running()

    def look(self, ask: Ask) -> Resolution | None:
        """The answer, if the store can give it without waiting. Raises `HubError`s."""
        with self._counting():
            key = handles.key(handles.canonical(ask.handle))
            found = None if ask.refresh else self._find(ask.handle, key)
            return self._demanded(ask, found) if found is not None else None

    async def resolve(self, ask: Ask, watch: Callable[[FetchFlight], None] | None = None) -> Resolution:
        """The module of a handle. `watch` is told of the flight when one is waited for.

        Raises `HubError`s. A cancelled caller leaves its flight.
        """
        if (found := self.look(ask)) is not None:
            return found
        with self._counting():
            return self._demanded(ask, await self._resolve(ask, watch))

    async def prefetch(self, handle: str) -> str | None:
        """Starts the fetch of a handle; its id, or None when the module is there. Raises `HubError`s."""
        canonical = handles.canonical(handle)
        key = handles.key(canonical)
        if self._find(handle, key) is not None:
            return None
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            def watch(flight: FetchFlight) -> None:
                if not started.done():
                    started.set_result(flight.work.progress.id)

            try:
                await self.resolve(Ask(handle), watch)
            except HubError as error:
                if not started.done():
                    started.set_exception(error)
            except Exception:
                log.exception("prefetch of %s failed", canonical.partition("?")[0])

        either: set[asyncio.Future[Any]] = {started, self._spawn(wait())}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        # Done without a flight: it landed, or failed, between the look and the wait.
        return started.result() if started.done() else None

    def stop(self) -> None:
        """Answers all waiters `shutting-down`, and whoever comes later."""
        self._stopping = True
        self._flights.fail_all(ShuttingDown("hubd is shutting down; try again"))

    async def _resolve(self, ask: Ask, watch: Callable[[FetchFlight], None] | None) -> Resolution:
        canonical = handles.canonical(ask.handle)
        key = handles.key(canonical)
        if ask.offline or self._means.settings.network.offline:
            if (stale := self._find_stale(key, "offline")) is not None:
                return stale
            raise Offline("the module is not in the cache, and hubd was told not to ask the network")
        if (failure := self._failures.get(key)) is not None and not ask.refresh:
            if (stale := self._find_stale(key, str(failure))) is not None:
                return stale
            raise failure.with_traceback(None)  # it is raised again and again, and would remember each time
        async with self._board(canonical, key, ask) as (flight, joined):
            if watch is not None:
                watch(flight)
            try:
                landed = await flight.outcome()
            except UpstreamNotFound as error:
                self._failures.put(key, error)
                raise
        if landed.error is not None:
            # The next callers get the copy at once, and not each after a timeout of its own.
            self._failures.put(key, landed.error)
        outcome: Outcome = "hit"
        if landed.found == "fetched":
            outcome = "joined" if joined else "fetched"
        elif landed.found == "stale":
            outcome = "stale"
        return self._resolution(key, landed.record, outcome, landed.warnings)

    @asynccontextmanager
    async def _board(self, canonical: str, key: str, ask: Ask) -> AsyncIterator[tuple[FetchFlight, bool]]:
        if self._stopping:
            raise ShuttingDown("hubd is shutting down; try again")
        if len(self._flights) >= MAX_FLIGHTS:
            raise TooBusy(f"{MAX_FLIGHTS} fetches are waiting already")

        def start() -> Fetch:
            return Fetch(self._means, canonical, key, spelling=ask.handle, refresh=ask.refresh)

        async with self._flights.board(key, start) as boarded:
            yield boarded

    def _find(self, spelling: str, key: str) -> Resolution | None:
        """The answer from the store, if it has the module, whole and fresh.

        A handful of metadata calls on local files: on the loop, since a thread would cost more than they do.
        """
        record = self._means.records.get(key)
        if record is None or not self._means.is_fresh(record):
            return None
        lease = self._means.trees.find(record.digest)
        if lease is None:
            return None
        self._means.grace.keep(lease)
        self._means.records.touch(key)
        direct_until = self._means.direct_until(record)
        if spelling not in record.spellings and len(record.spellings) < MAX_SPELLINGS:
            self._behind(lambda: self._means.add_spelling(key, spelling))
        elif not self._means.records.views_are_right(record, direct_until=direct_until):
            self._behind(lambda: self._means.records.mend_views(record, direct_until=direct_until))
        return self._resolution(key, record, "hit")

    def _behind(self, write: Callable[[], object]) -> None:
        """Writes without making the caller wait: what it is told is right without it."""

        async def written() -> None:
            try:
                await asyncio.to_thread(write)
            except HubError as error:
                log.warning("the cache could not be written to: %s", error)
            except Exception:
                log.exception("the cache could not be written to")

        self._spawn(written())

    def _find_stale(self, key: str, reason: str) -> Resolution | None:
        record = self._means.records.get(key)
        lease = self._means.trees.find(record.digest) if record is not None else None
        if record is None or lease is None:
            return None
        self._means.grace.keep(lease)
        return self._resolution(key, record, "stale", (reason,))

    def _resolution(
        self,
        key: str,
        record: Record,
        outcome: Outcome,
        warnings: tuple[str, ...] = (),
    ) -> Resolution:
        return Resolution(key, record, self._layout.module(record.digest), outcome, warnings)

    def _demanded(self, ask: Ask, resolution: Resolution) -> Resolution:
        if ask.digest is not None and ask.digest != resolution.record.digest:
            raise DigestMismatch(f"the archive's sha256 is {resolution.record.digest}, and {ask.digest} was demanded")
        self._means.counters.answered(resolution.outcome)
        return resolution

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except HubError:
            self._means.counters.failed += 1
            raise
