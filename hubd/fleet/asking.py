"""One question to the fleet: has it the module, or who fetches it?

Law: it ends, with what may be used at once: the record, the claim, or the word that this machine is alone. A claim
that it may have made and does not hand out is removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import Random
from typing import NamedTuple

from hubclient.contract.errors import HubError
from hubd.config_stores import FleetSettings
from hubd.failures import Busy, Refused
from hubd.fleet.breaker import BUSY_TIMEOUTS, BusyPatience
from hubd.fleet.bucket import Small
from hubd.fleet.claims import FIRST_WAIT_SECONDS, Alone, Claim, Create, TakeOver, Wait, Watch, decide, seen_claim
from hubd.fleet.records import FleetRecord, SeenRecord, claim_path, record_path, seen_record
from hubd.fleet.remote import Remote, WriteDenied
from hubd.fleet.turn import LETTING_GO_SECONDS, Clock, Hold, own_version
from hubd.network.patience import may_pass

log = logging.getLogger(__name__)

OnWait = Callable[[Claim | None], None]

_PASSING_SECONDS = 2.0  # a look that failed within so long is tried once more


class Want(NamedTuple):
    """What is asked for. `max_age_seconds`: an older record is stale; `damaged`: a record whose archive was found to be
    no good; `client_waits`: set while one does, None: one always does.
    """

    key: str
    max_age_seconds: float
    damaged: FleetRecord | None = None
    client_waits: asyncio.Event | None = None

    @property
    def is_urgent(self) -> bool:
        return self.client_waits is None or self.client_waits.is_set()

    def takes(self, seen: SeenRecord | None) -> bool:
        if seen is None or seen.record is None or seen.record == self.damaged:
            return False
        return seen.age_seconds <= self.max_age_seconds


class Won(NamedTuple):
    """This machine's turn. `seen`: what lies where the record belongs."""

    hold: Hold
    seen: SeenRecord | None
    is_takeover: bool  # of a machine that is gone, has failed or is in no hurry


class Asking:
    """`run` is for once."""

    def __init__(
        self,
        remote: Remote,
        terms: FleetSettings,
        want: Want,
        *,
        clock: Clock,
        random: Random,
        on_wait: OnWait,
    ) -> None:
        self.has_waited = False
        self._remote = remote
        self._terms = terms
        self._want = want
        self._clock = clock
        self._random = random
        self._on_wait = on_wait
        self._watch = Watch(clock())
        self._patience = BusyPatience(terms.claim_timeout, clock, random.uniform)
        self._looked_at = clock()
        self._has_failed = False  # at the last look
        self._refused_since: float | None = None  # the claim, by a store that is too busy for it

    async def run(self) -> SeenRecord | Won | Alone:
        while True:
            self._looked_at = self._clock()
            try:
                found = await self._look()
                self._has_failed = False
            except Busy as error:
                found = self._when_busy(error)
            except HubError as error:
                found = self._when_failing(error)
            if not isinstance(found, Wait):
                return found
            await self._pause(found.seconds)

    async def _pause(self, seconds: float) -> None:
        """A client that comes to wait for what was a prefetch may have the turn: it is not kept waiting for so long."""
        client_waits = self._want.client_waits
        if client_waits is None or client_waits.is_set():
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await client_waits.wait()
                # They may come to all machines at one time.
                await asyncio.sleep(self._random.uniform(0.0, 2 * FIRST_WAIT_SECONDS))

    async def _look(self) -> SeenRecord | Won | Alone | Wait:
        """The record first; while another machine is at work only its claim, which goes when the record is there."""
        is_waiting = self._watch.version is not None
        if not is_waiting and (record := await self._wanted()) is not None:
            return record
        small = await self._read(claim_path(self._want.key))
        seen, now = seen_claim(small) if small is not None else None, self._clock()
        self._watch = self._watch.seeing(seen, now)
        may_write = self._terms.mode == "read-write"
        is_urgent, uniform = self._want.is_urgent, self._random.uniform
        decided = partial(decide, seen, self._watch, now, self._terms, is_urgent=is_urgent, uniform=uniform)
        decision = decided(may_write=may_write)
        if isinstance(decision, Create | TakeOver) and not self._remote.may_write():
            # Asked no sooner: where writes were denied, one that is to be made finds out whether they still are.
            decision = decided(may_write=False)
            if isinstance(decision, Alone) and (trouble := self._remote.trouble) is not None:
                decision = Alone(trouble)
        if not isinstance(decision, Create | TakeOver):
            self._refused_since = None
        if isinstance(decision, Wait):
            self.has_waited = True
            self._on_wait(seen.claim if seen is not None else None)
        elif is_waiting and (record := await self._wanted()) is not None:
            return record
        return await self._claim(decision) if isinstance(decision, Create | TakeOver) else decision

    async def _claim(self, decision: Create | TakeOver) -> SeenRecord | Won | Alone | Wait:
        path, claim = claim_path(self._want.key), Claim(holder=f"{self._random.getrandbits(64):016x}")
        at, version = self._clock(), None
        try:
            if isinstance(decision, Create):
                version = await self._remote.create(path, claim.body())
            else:
                version = await self._remote.replace(path, claim.body(), decision.version)
            if version is None:
                return Wait(FIRST_WAIT_SECONDS * self._random.uniform(0.5, 1.5))
            # The second look: between the first and the claim its last holder may have landed the module.
            record = await self._record()
        except (HubError, asyncio.CancelledError) as error:
            if version is not None or not isinstance(error, Busy | WriteDenied):
                await self._remove(claim.holder, at, is_made=version is not None)
            if version is None and isinstance(error, Busy):
                return self._when_refused(error)
            raise
        if record is not None and self._want.takes(record):
            await self._remove(claim.holder, at, is_made=True)
            return record
        return Won(Hold(claim, version, at), record, isinstance(decision, TakeOver))

    async def _remove(self, holder: str, at: float, *, is_made: bool) -> None:
        """Removes the claim, best effort. `is_made`: whether it is known to be there."""
        try:
            async with asyncio.timeout(LETTING_GO_SECONDS):
                is_own = is_made or await own_version(self._remote, self._want.key, holder) is not None
                # So young that nobody can have taken it over since.
                if is_own and self._clock() - at < self._terms.claim_timeout / 2:
                    await self._remote.remove(claim_path(self._want.key))
        except (HubError, TimeoutError) as error:
            log.debug("%s: a claim could not be removed: %s", self._want.key, error)

    async def _wanted(self) -> SeenRecord | None:
        record = await self._record()
        return record if self._want.takes(record) else None

    async def _record(self) -> SeenRecord | None:
        small = await self._read(record_path(self._want.key))
        return seen_record(self._want.key, small) if small is not None else None

    async def _read(self, path: str) -> Small | None:
        small = await self._remote.read(path)
        self._patience.answered()
        return small

    def _when_busy(self, error: Busy) -> Alone | Wait:
        seconds = self._patience.pause_seconds(error)
        self._watch = replace(self._watch, refusals=self._patience.refusals)
        # Who only finds out whether a store is well again does not wait for it.
        is_over = self._remote.is_doubted or self._clock() - self._watch.began >= self._terms.max_wait
        if seconds is None or is_over:
            return self._alone(error)
        self._on_wait(None)
        return Wait(seconds)

    def _when_refused(self, error: Busy) -> Alone | Wait:
        """What answers reads, as it has just done, may refuse to take anything for good."""
        now = self._clock()
        if self._refused_since is None:
            self._refused_since = now
        if self._remote.is_read_only or now - self._refused_since > BUSY_TIMEOUTS * self._terms.claim_timeout:
            self._remote.gave_up_writing(error)
            return Wait(0.0)  # and look again as one who only reads
        return self._when_busy(error)

    def _when_failing(self, error: HubError) -> Alone | Wait:
        if isinstance(error, WriteDenied):
            return Wait(0.0)  # and look again as one who only reads
        if isinstance(error, Refused):
            return Alone(error.detail)  # it is about one object, and the store is well
        is_first, self._has_failed = not self._has_failed, True
        if is_first and may_pass(error) and self._clock() - self._looked_at < _PASSING_SECONDS:
            return Wait(self._random.uniform(0.1, 0.5))
        return self._alone(error)

    def _alone(self, error: HubError) -> Alone:
        self._remote.gave_up(error)
        return Alone(error.detail)
