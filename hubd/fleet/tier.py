"""The fleet's tier: what many machines share through one bucket, so that an origin sends a module once.

Law: the tier never makes a machine worse than alone. Whatever the store does, `ask` ends, and what it gives is verified
by whoever uses it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from hubclient.contract.errors import ArchiveCorrupt, UpstreamTimeout, UpstreamUnavailable
from hubd.config_stores import FleetSettings
from hubd.failures import Busy, Refused
from hubd.fleet.asking import Asking, OnWait, Want
from hubd.fleet.breaker import BusyPatience
from hubd.fleet.claims import Alone
from hubd.fleet.counters import Figures
from hubd.fleet.probing import probe
from hubd.fleet.records import FleetRecord, SeenRecord, archive_path
from hubd.fleet.remote import Reach, Remote, State, WriteDenied
from hubd.fleet.retention import Module, Old, Removed, Totals, modules, prune
from hubd.fleet.turn import Clock, Spawn, Turn
from hubd.fleet.uploading import is_there
from hubd.network.digests import Expected, Stated
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.network.terms import Changed

FOR_EVER = float("inf")


def since_boot() -> float:
    """Monotonic seconds, those that the machine was suspended for included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Status(NamedTuple):
    """How the store is, as far as this machine knows. `trouble`: what it said last, if that was no good."""

    state: State
    trouble: str | None
    retry_in_seconds: float
    is_read_only: bool  # the store denies writes


@dataclass(frozen=True)
class Found:
    """The fleet has the module."""

    record: FleetRecord
    age_seconds: float
    _remote: Remote
    _patience: Callable[[], BusyPatience]

    @asynccontextmanager
    async def open(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """Its archive, for the block, which must have the record's digest.

        Raises as `HttpSource.open`, `UpstreamNotFound` where only the record is left of it, and `ArchiveCorrupt` for
        one of another size.
        """
        record = self.record
        try:
            async with AsyncExitStack() as stack:
                delivery = await self._opened(stack, request)
                if delivery.body is not None and delivery.total_bytes not in (None, record.archive_bytes):
                    raise ArchiveCorrupt(
                        f"the fleet's archive has {delivery.total_bytes} bytes, and its record says "
                        f"{record.archive_bytes}"
                    )
                demanded = Stated("the fleet's record", "sha256", bytes.fromhex(record.digest))
                yield replace(delivery, expected=Expected((*delivery.expected.digests, demanded)))
        except (Refused, Changed):
            raise  # it is about one object, and the store is well
        except (UpstreamUnavailable, UpstreamTimeout) as error:
            self._remote.gave_up(error)
            raise

    async def _opened(self, stack: AsyncExitStack, request: ArchiveRequest) -> Delivery:
        """A store that has too much to do is left alone for a while, as in `Asking`: the origin has it no better."""
        patience = self._patience()
        while True:
            try:
                return await stack.enter_async_context(self._remote.open(archive_path(self.record.digest), request))
            except Busy as error:
                if (seconds := patience.pause_seconds(error)) is None:
                    raise
            await asyncio.sleep(seconds)


class Tier:
    """`reach` gives the bucket, and `terms` the settings, that hold now; `spawn` starts a task in the group that owns
    all work. `clock` gives monotonic seconds, in which sleep counts: a holder that was suspended has lost its turn.
    """

    def __init__(
        self,
        reach: Reach,
        terms: Callable[[], FleetSettings],
        spawn: Spawn,
        *,
        clock: Clock = since_boot,
        random: Random | None = None,
    ) -> None:
        self.figures = Figures()
        self._terms = terms
        self._spawn = spawn
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - for jitter, and for names that need only differ
        self._remote = Remote(reach, self._clock, self._random.uniform)

    @property
    def status(self) -> Status:
        remote, is_off = self._remote, self._terms().store is None
        state: State = "off" if is_off else remote.state
        return Status(state, None if is_off else remote.trouble, remote.retry_in_seconds, remote.is_read_only)

    async def ask(
        self,
        key: str,
        *,
        is_immutable: bool,
        max_age_seconds: float = FOR_EVER,
        damaged: FleetRecord | None = None,
        on_wait: OnWait = lambda claim: None,
        client_waits: asyncio.Event | None = None,
        is_held_back: Callable[[], bool] = lambda: False,
    ) -> Found | Turn | Alone:
        """Whether the fleet has the module of the handle of this key; else this machine's turn to fetch it for all, or
        the word that it is to fetch it for itself.

        Waits, for `max_wait` at most, for another machine that fetches it; `on_wait` is told of its claim (None: it
        cannot be read) again and again. `damaged`: a record whose archive was found to be no good: another one is
        wanted, or the turn to upload it anew. `client_waits`: set while one does, None: one always does;
        `is_held_back`: whether this machine's fetch is slower for want of one. Raises nothing but `CancelledError`,
        after which no claim is left.
        """
        if self._terms().store is None:
            return Alone("no [fleet] store is configured")
        if not self._remote.admits():
            again = f"asked again in {self._remote.retry_in_seconds:.0f} s"
            return self._alone(Alone(f"{self._remote.trouble} ({again})"))
        want = Want(key, max_age_seconds, damaged, client_waits)
        asking = Asking(self._remote, self._terms(), want, clock=self._clock, random=self._random, on_wait=on_wait)
        try:
            found = await asking.run()
        finally:
            self.figures.waited += asking.has_waited
        if isinstance(found, Alone):
            return self._alone(found)
        if isinstance(found, SeenRecord):
            assert found.record is not None
            self.figures.found += 1
            return self._found(found.record, found.age_seconds)
        self.figures.claimed += 1
        self.figures.taken_over += found.is_takeover
        return Turn(
            self._remote,
            self._terms(),
            key,
            found.hold,
            found.seen,
            is_immutable=is_immutable,
            is_repair=found.seen is not None and found.seen.record is not None and found.seen.record == damaged,
            is_held_back=is_held_back,
            clock=self._clock,
            random=self._random,
            spawn=self._spawn,
            figures=self.figures,
        )

    async def probe(self) -> None:
        """Finds out whether the store is there, and may be read; `status` tells. Raises nothing."""
        await probe(self._remote, self._random)

    async def has_archive(self, record: FleetRecord) -> bool:
        """Whether the archive that a record names is there. Raises upstream-* errors."""
        return await is_there(self._remote, record)

    def holding(self, record: FleetRecord) -> Found:
        """What a turn has as `stale`, now that the origin says that it is still the one."""
        return self._found(record, 0.0)

    def modules(self) -> AsyncIterator[Module | Totals]:
        """See `retention.modules`."""
        return modules(self._remote)

    def prune(self, older_than_seconds: float, *, dry_run: bool) -> AsyncIterator[Old | Removed]:
        """See `retention.prune`."""
        if not dry_run:
            self._require_writing()
        terms = self._terms()
        return prune(
            self._remote,
            older_than_seconds,
            terms.claim_timeout,
            self._random,
            dry_run=dry_run,
            may_write=terms.mode == "read-write",
        )

    def _found(self, record: FleetRecord, age_seconds: float) -> Found:
        def patience() -> BusyPatience:
            return BusyPatience(self._terms().claim_timeout, self._clock, self._random.uniform)

        return Found(record, age_seconds, self._remote, patience)

    def _require_writing(self) -> None:
        if self._terms().mode != "read-write":
            raise WriteDenied("this machine only reads from the fleet's store (fleet.mode)")

    def _alone(self, alone: Alone) -> Alone:
        self.figures.alone += 1
        return alone
