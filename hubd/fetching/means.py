"""What all fetches share, and what follows from the settings for a record."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from hubclient.contract import handles
from hubclient.contract.errors import Offline
from hubclient.contract.lease import Lease
from hubd.config import Settings
from hubd.events import Events
from hubd.fetching.counters import Counters
from hubd.fetching.durations import Durations
from hubd.fetching.fleet import Fleet
from hubd.fetching.grace import GraceLeases
from hubd.fetching.room import Room
from hubd.fetching.slots import Slots
from hubd.fetching.tallies import Tallies
from hubd.fetching.threads import to_its_end
from hubd.fetching.users import Users
from hubd.fetching.verifier import Verifier
from hubd.network.pace import Pace
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.store.catalog import Entry
from hubd.store.eviction import Evictor
from hubd.store.partials import Partials
from hubd.store.records import MAX_SPELLINGS, Record, Records
from hubd.store.trees import Trees
from hubd.unpacking.supervisor import UnpackLimits

T = TypeVar("T")

# Looking at so many files costs less than a thread would.
_QUICK_FILES = 64
_ASKING_AT_ONCE = 64
_TOUCHED_AT_ONCE = 64
_SHORTEST_GRANT, _LONGEST_GRANT = 60.0, 10 * 365 * 86400.0  # seconds
_CLOCK_SECONDS = 60.0  # clocks are set by less now and then


class Source(Protocol):
    """Where archives come from."""

    def offline(self, handle: str, *, demanded: bool) -> Offline | None:
        """See `Origins.offline`."""

    def open(self, request: ArchiveRequest) -> AbstractAsyncContextManager[Delivery]:
        """See `Origins.open`."""


@dataclass(eq=False)
class Means:
    """`settings` are those that hold now, so they are to be read when they are needed. `threads` run what fetches do to
    the disk: nothing else may keep them from it."""

    settings: Settings
    trees: Trees
    records: Records
    partials: Partials
    source: Source
    verifier: Verifier
    threads: Executor
    slots: Slots
    evictor: Evictor
    room: Room
    counters: Counters
    users: Users
    pace: Pace = field(default_factory=Pace)
    grace: GraceLeases = field(default_factory=GraceLeases)
    durations: Durations = field(default_factory=Durations)
    events: Events = field(default_factory=Events)
    # Trees that a handle moved on from; they go as soon as nobody uses them.
    orphans: set[str] = field(default_factory=set)
    litter: asyncio.Event = field(default_factory=asyncio.Event)
    asking: Slots = field(default_factory=lambda: Slots(_ASKING_AT_ONCE))
    tallies: Tallies = field(default_factory=Tallies)
    fleet: Fleet | None = None

    def direct_until(self, record: Record) -> float:
        """Until when (Unix seconds) a record is answered without its origin, and from its views without the daemon."""
        if record.immutable and record.reader is None:
            return math.inf
        fetched_at = record.fetched_at.timestamp()
        if fetched_at > time.time() + _CLOCK_SECONDS:
            return 0.0  # of a clock that was wrong: nobody knows how old the copy is
        until = fetched_at + self.settings.network.revalidate_after
        if record.reader is not None:
            # A version does not change, but who may have it does.
            return min(until, record.granted_until.timestamp() if record.granted_until is not None else 0.0)
        return until

    def is_fresh(self, record: Record) -> bool:
        return time.time() < self.direct_until(record)

    def is_ready(self, record: Record, digest: str | None = None) -> bool:
        """Whether a look at its tree is all that is needed by whoever demands this digest (None: whatever is fresh).

        A suspect's check takes long, and that can be watched.
        """
        if self.trees.is_suspect(record.digest):
            return False
        if digest is not None:
            # What has the demanded content is not too old; else the origin may have it by now, but for a version.
            return digest == record.digest or record.immutable
        return self.is_fresh(record)

    def is_quick(self, record: Record) -> bool:
        """Whether the event loop may look at the record's tree itself."""
        return 0 < record.file_count <= _QUICK_FILES

    async def find(self, record: Record) -> Lease | None:
        """A lease on the record's tree if it is whole: a suspect after its deep check. Raises `HubError`s."""
        if (lease := await self._find(record)) is not None or not self.trees.is_suspect(record.digest):
            return lease
        await self.verifier.check(record.digest)
        return await self._find(record)

    async def _find(self, record: Record) -> Lease | None:
        if self.is_quick(record):
            return self.trees.find(record.digest)
        found: list[Lease | None] = []
        try:
            await self.to_its_end(lambda: found.append(self.trees.find(record.digest)))
        except asyncio.CancelledError:
            if found and found[0] is not None:
                found[0].release()
            raise
        return found[0]

    def amend(
        self, key: str, change: Callable[[Record | None], Record | None], *, is_use: bool = True
    ) -> Record | None:
        """Changes what is recorded of a handle, in one step."""
        return self.records.amend(key, change, self.direct_until, is_use=is_use)

    def record_for(self, key: str, uid: int | None) -> Record | None:
        """What is recorded of a handle for this user: everyone's record, else the user's own while it is granted."""
        if (record := self.records.get(key)) is not None and record.reader is None:
            return record
        own_key = self.records.own_key(key, uid) if uid is not None else None
        own = self.records.get(own_key) if own_key is not None else None
        return own if own is not None and self.is_fresh(own) else None

    def is_seen_by(self, entry: Entry, uid: int | None) -> bool:
        """Whether this user may know of the record; None: an administrator, who may know of all."""
        return uid is None or entry.is_seen_by(uid)

    async def meant(self, key: str, uid: int | None) -> str:
        """The key of the record that a user means by a handle's key: everyone's, else the user's own.

        For an administrator (None) the newest private one of the handle, if there is no other; `key` where there is
        none at all.
        """
        catalog = self.records.catalog
        if self.records.get(key) is not None:
            return key
        await self.room.scanned.wait()
        if uid is not None:
            own_key = self.records.own_key(key, uid)
            return own_key if own_key is not None and catalog.get(own_key) is not None else key
        private = [entry for entry in catalog.private() if handles.key(entry.handle) == key]
        return max(private, key=lambda entry: entry.fetched_at).key if private else key

    def grant_until(self) -> datetime:
        """Until when a user may open what the origin let that user have now: a while at least, since who was told a
        path opens its files one after the other."""
        seconds = self.settings.network.revalidate_after
        return datetime.now(UTC) + timedelta(seconds=min(max(seconds, _SHORTEST_GRANT), _LONGEST_GRANT))

    def add_spelling(self, key: str, spelling: str) -> None:
        """Records that the handle was asked for in this spelling, so that tensorflow_hub finds it under it."""

        def change(now: Record | None) -> Record | None:
            return now.with_spelling(spelling) if now is not None and lacks(now, spelling) else now

        self.amend(key, change)

    async def used_by(self, uid: int, keys: Sequence[str]) -> int:
        """Notes that this user used modules now; how many of the keys the cache has."""
        counted = 0
        for number, key in enumerate(dict.fromkeys(keys), 1):
            # What is private is never used without asking: a report of it is a guess.
            known = self.records.catalog.get(key) or self.records.get(key)
            if known is not None and known.reader is None and self.records.touch(key):
                self.users.saw(uid, key)
                counted += 1
            if number % _TOUCHED_AT_ONCE == 0:
                await asyncio.sleep(0)  # others need the event loop too
        self.counters.uses += counted
        self.tallies.used(uid, counted)
        return counted

    async def to_its_end(self, function: Callable[[], T]) -> T:
        """Runs it in a thread; a cancellation waits until it is done."""
        return await to_its_end(self.threads, function)

    @property
    def unpack_limits(self) -> UnpackLimits:
        limits = self.settings.limits
        return UnpackLimits(
            module_bytes=limits.module,
            files=limits.files,
            depth=limits.depth,
            path_bytes=limits.path,
            memory_bytes=limits.unpack_memory,
            time_seconds=limits.unpack_time,
        )


def lacks(record: Record, spelling: str) -> bool:
    """Whether a record should get this spelling; the first ones stay, so that nobody can push them out."""
    return spelling not in record.spellings and len(record.spellings) < MAX_SPELLINGS
