"""The use case: a handle becomes the path of a whole, leased module.

Find it; else join or start the flight that fetches it; then compare with what this caller alone demanded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hubclient.contract import handles
from hubclient.contract.errors import (
    ArchiveTooLarge,
    ArchiveUnsafe,
    DigestMismatch,
    HubError,
    NotAModule,
    ShuttingDown,
    TooBusy,
    UpstreamNotFound,
)
from hubd.fetching.counters import Outcome
from hubd.fetching.courtesy import Courtesy
from hubd.fetching.fetch import Fetch
from hubd.fetching.fleet import Spawn
from hubd.fetching.flights import Flight, Flights
from hubd.fetching.landing import Landed
from hubd.fetching.means import Means
from hubd.fetching.negative import NegativeCache
from hubd.fetching.prefetches import Prefetches
from hubd.fetching.private import Fetches
from hubd.fetching.pushing import Pushes, PushFlight
from hubd.fetching.recency import Recency
from hubd.fetching.shares import OWN_LIMITS, Shares
from hubd.fetching.waiters import Waiters
from hubd.network.credentials import Credential
from hubd.network.sources import TierName
from hubd.network.waiting_line import User
from hubd.store.records import Record

MAX_FLIGHTS = 4096
_MAX_PREFETCHES = 3072  # of these, so that those that are waited for can begin
_ROUNDS = 5

# What trying again at once cannot change.
_REMEMBERED = (UpstreamNotFound, ArchiveTooLarge, ArchiveUnsafe, NotAModule)

FetchFlight = Flight[Fetch, Landed]
UnderWay = FetchFlight | PushFlight


@dataclass(frozen=True)
class Ask:
    """What a caller wants. `digest`: hex sha256 that the archive must have; `uid`, `credential`: who asks, if known;
    `prefetch`: nobody waits for it; `is_limited`: the limits of users hold for it."""

    handle: str
    digest: str | None = None
    refresh: bool = False
    offline: bool = False
    uid: int | None = None
    credential: Credential | None = None
    prefetch: bool = False
    is_limited: bool = False

    @property
    def user(self) -> User:
        """Whose turns and room it takes; None: those of administrators and of the daemon itself."""
        return self.uid if self.is_limited else None


@dataclass(frozen=True)
class Resolution:
    """Where the module is, and the tier that it came from; the daemon's lease lasts until 10 s after."""

    record: Record
    path: str
    outcome: Outcome
    tier: TierName
    warnings: tuple[str, ...] = ()


class Resolver:
    """Answers callers: with what the store has (`look`), else after a fetch (`fetch`).

    `spawn` starts a task in the group that owns all work; `pushes` are told of beside its own fetches.
    """

    def __init__(self, means: Means, spawn: Spawn, pushes: Pushes | None = None) -> None:
        self._means = means
        self._spawn = spawn
        self._pushes = pushes
        self._flights: Flights[str, Fetch, Landed] = Flights(spawn)
        self.waiters = Waiters()
        self._fetches = Fetches(means, self._flights)
        self._recency = Recency(means, spawn)
        self._prefetches = Prefetches(spawn)
        self._courtesy = Courtesy(means.pace, lambda: len(self._flights) > 0, self._give_way)
        self.failures = NegativeCache()
        self._shares = Shares(
            lambda: means.settings.limits, lambda: (flight.work for flight in self._flights.running())
        )

    def fetches(self, uid: int | None = None) -> list[UnderWay]:
        """Those under way; with a uid, those that this user may know of."""
        flights: list[UnderWay] = [*self._flights.running(), *(self._pushes.fetches() if self._pushes else ())]
        return [flight for flight in flights if uid is None or flight.work.is_seen_by(uid)]

    async def look(self, ask: Ask) -> Resolution | None:
        """The answer, if the store has the module, whole, fresh, and as it was asked for. Raises `HubError`s."""
        with self._counting():
            _, key = _identified(ask.handle)
            record = self._means.record_for(key, ask.uid)
            if record is None or ask.refresh or not self._means.is_ready(record, ask.digest):
                return None
            lease = await self._means.find(record)
            if lease is None:
                return None
            self._means.grace.keep(lease)
            self._recency.hit(record, ask.handle)
            if not ask.prefetch:
                self._courtesy.hit()
            return self._answer(ask, record, "hit")

    async def fetch(self, ask: Ask, watch: Callable[[FetchFlight], None] | None = None) -> Resolution:
        """The answer for a module that `look` has not found. `watch` is told of the flight that is waited for.

        Raises `HubError`s. A cancelled caller leaves its flight.
        """
        with self._counting():
            canonical, key = _identified(ask.handle)
            name = self._fetches.name(key, ask.uid, ask.credential)
            if (offline := self._without_asking(ask, canonical, name)) is not None:
                return await self._stale(ask, key, offline)
            if ask.credential is not None:
                await self._means.to_its_end(self._means.records.salt)  # the first time it is made, which takes a while
            for rounds_left in reversed(range(_ROUNDS)):
                async with self._board(name, canonical, key, ask) as (flight, joined):
                    if watch is not None:
                        watch(flight)
                    try:
                        async with self.waiters.waiting(flight.work.progress.id, ask.uid):
                            landed = await flight.outcome()
                            break
                    except OWN_LIMITS:
                        if not (joined and rounds_left and flight.work.starter != ask.user):
                            raise  # else it was another user's limit, and the caller begins anew
                    except _REMEMBERED as error:
                        self.failures.put(name, error, ttl_seconds=self._means.settings.network.negative_ttl)
                        raise
            if landed.error is not None and not isinstance(landed.error, OWN_LIMITS):
                # The next callers get the copy at once, and not each after a timeout of its own.
                network = self._means.settings.network
                self.failures.put(name, landed.error, ttl_seconds=max(network.negative_ttl, network.stall_timeout))
            self._recency.used(landed.record, ask.handle)
            return self._answer(ask, landed.record, landed.outcome(joined), landed.warnings, landed.tier)

    async def prefetch(self, handle: str, uid: int | None = None, *, is_limited: bool = False) -> str | None:
        """Starts the fetch of a handle; its id, or None when the module is there. Raises `HubError`s."""
        ask = Ask(handle, uid=uid, prefetch=True, is_limited=is_limited)
        if await self.look(ask) is not None:
            return None

        def fetching(told: Callable[[str], None]) -> Coroutine[Any, Any, object]:
            return self.fetch(ask, lambda flight: told(flight.work.progress.id))

        return await self._prefetches.start((_identified(handle)[1], uid), fetching)

    async def used_by(self, uid: int, keys: Sequence[str]) -> int:
        """`Means.used_by`, which goes on even if the caller is cancelled meanwhile."""
        counted: list[int] = []

        async def note() -> None:
            counted.append(await self._means.used_by(uid, keys))

        await asyncio.shield(self._spawn(note()))
        return counted[0]

    def stop(self) -> None:
        """Answers all waiters `shutting-down`, and whoever comes later."""
        self._flights.close(ShuttingDown("hubd is shutting down; try again"))

    def _give_way(self) -> None:
        for flight in self._flights.running():
            if (unpacker := flight.work.progress.unpacker) is not None:
                unpacker.be_nice()

    def _without_asking(self, ask: Ask, canonical: str, name: str) -> HubError | None:
        """Why the origin is not asked, if it is not."""
        if (error := self._means.source.offline(canonical, demanded=ask.offline)) is not None:
            return error
        return None if ask.refresh else self.failures.get(name)

    async def _stale(self, ask: Ask, key: str, error: HubError) -> Resolution:
        """The copy that is there, however old; the error if there is none."""
        record = self._means.record_for(key, ask.uid)
        lease = await self._means.find(record) if record is not None else None
        if record is None or lease is None:
            raise error
        self._means.grace.keep(lease)
        return self._answer(ask, record, "stale", (f"this copy may be old: {error}",))

    @asynccontextmanager
    async def _board(self, name: str, canonical: str, key: str, ask: Ask) -> AsyncIterator[tuple[FetchFlight, bool]]:
        def start() -> Fetch:
            if len(self._flights) >= (_MAX_PREFETCHES if ask.prefetch and ask.is_limited else MAX_FLIGHTS):
                raise TooBusy(f"{len(self._flights)} fetches are waiting already")
            self._shares.require_start(ask.user, is_prefetch=ask.prefetch)
            refresh = ask.refresh or ask.digest is not None
            work = self._fetches.work(canonical, key, ask.uid, ask.credential, spelling=ask.handle, refresh=refresh)
            work.start_for(ask.user, ask.uid, self._shares, is_prefetch=ask.prefetch)
            return work

        async with self._flights.board(name, start, urgent=not ask.prefetch) as (flight, joined):
            flight.work.askers.add(ask.uid)
            flight.work.demand(ask.digest)
            flight.work.is_prefetch = flight.work.is_prefetch and ask.prefetch
            with flight.work.waited_for_by(ask.user, is_prefetch=ask.prefetch):
                self._means.slots.promote()
                yield flight, joined

    def _answer(
        self, ask: Ask, record: Record, outcome: Outcome, warnings: tuple[str, ...] = (), tier: TierName = "local"
    ) -> Resolution:
        if ask.digest is not None and ask.digest != record.digest:
            raise DigestMismatch(f"the module's digest is {record.digest}, and {ask.digest} was demanded")
        self._means.counters.answered(outcome, tier)
        if ask.uid is not None and not ask.prefetch:
            self._means.users.saw(ask.uid, record.key)
            self._means.tallies.answered(ask.uid, outcome)
        return Resolution(record, self._means.trees.layout.module(record.digest), outcome, tier, warnings)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except HubError as error:
            self._means.counters.failed_with(error.code)
            raise


@lru_cache(maxsize=4096)
def _identified(handle: str) -> tuple[str, str]:
    """Canonical form and key of a handle. Raises `HandleInvalid`, each time anew."""
    canonical = handles.canonical(handle)
    return canonical, handles.key(canonical)
