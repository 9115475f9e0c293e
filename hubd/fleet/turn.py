"""A machine's turn to fetch a module for all: its claim from the first write to its end.

Law: the claim is extended only while bytes move, and removed only when nobody can have taken it over: after a write of
its own that is younger than half of `claim_timeout`, and did not say that there is no hurry. A turn that was lost goes
on, and touches the claim no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from hubclient.contract.errors import DigestMismatch, HubError
from hubd.config_stores import FleetSettings
from hubd.fleet.bucket import Version
from hubd.fleet.claims import Claim, seen_claim
from hubd.fleet.counters import Figures
from hubd.fleet.records import FleetRecord, SeenRecord, claim_path
from hubd.fleet.remote import Remote
from hubd.fleet.uploading import Archive, Shared, in_tries, is_there, upload, write_record

log = logging.getLogger(__name__)

_FIRST_BEAT_SECONDS = 1.0  # early, so that those who wait soon know how long it will take
#: To let a claim go may take so long, however slow the store is: a daemon that is stopped waits for it, and may need as
#: long for all else on a busy machine.
LETTING_GO_SECONDS = 2.0

Clock = Callable[[], float]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(frozen=True)
class Hold:
    """A claim that was won. `written_at`: by this machine's clock, not later than the store did."""

    claim: Claim
    version: Version
    written_at: float


class Turn:
    """It is to be ended by one of `landed`, `renew`, `failed` and `abandoned`; none of these but `landed` raises
    `HubError`s. `stale`: what the fleet has, too old to be used unasked; `renew` makes it fresh again.
    """

    def __init__(
        self,
        remote: Remote,
        terms: FleetSettings,
        key: str,
        hold: Hold,
        seen: SeenRecord | None,
        *,
        is_immutable: bool,
        is_repair: bool,
        is_held_back: Callable[[], bool],
        clock: Clock,
        random: Random,
        spawn: Spawn,
        figures: Figures,
    ) -> None:
        self.key = key
        self.stale = seen.record if seen is not None and not is_repair else None
        self.is_lost = False  #: whether another machine has the claim now
        self.received_bytes = 0  #: of the phase: from the origin, or to the store
        self.total_bytes: int | None = None
        self.is_uploading = False
        self._remote = remote
        self._terms = terms
        self._hold = hold
        self._seen = seen
        self._is_immutable = is_immutable
        self._is_repair = is_repair
        self._is_held_back = is_held_back
        self._was_in_no_hurry = False  # by what it has said in the claim
        self._clock = clock
        self._random = random
        self._spawn = spawn
        self._figures = figures
        self._told_bytes = 0
        self._phase_began = clock()
        self._is_ended = False
        self._writing = asyncio.Lock()
        self._beating = spawn(self._beat(_FIRST_BEAT_SECONDS))

    def moved(self, received_bytes: int, total_bytes: int | None) -> None:
        """So much of the archive has come from the origin."""
        if not self.is_uploading:
            self.received_bytes, self.total_bytes = received_bytes, total_bytes

    def found_damaged(self) -> None:
        """The archive of `stale` is no good: what lands is uploaded in its place, though it be of the same name."""
        self._is_repair = True

    async def landed(self, record: FleetRecord, archive: Archive) -> Shared:
        """The module is here, whole: share it. Raises what the store does, and `DigestMismatch` as `write_record`.

        Cancelled, it ends at once: the claim is `abandoned`'s to remove then.
        """
        try:
            shared = await self._share(record, archive)
        except HubError as error:
            # Where the store does not take it, those who wait would fetch it one after the other, all for nothing.
            await (self._let_go() if isinstance(error, DigestMismatch) else self.failed(error.code))
            raise
        except Exception:  # of this machine alone
            await self._let_go()
            raise
        await self._let_go()
        return shared

    async def renew(self, record: FleetRecord | None = None) -> None:
        """The origin says that `stale` is still what it has; `record`: the same with validators that it sent now."""
        try:
            if (record := record or self.stale) is not None:
                await write_record(self._remote, record, self._seen, is_immutable=self._is_immutable)
        except HubError as error:
            log.info("%s: the fleet's record could not be renewed: %s", self.key, error)
        finally:
            await self._let_go()

    async def failed(self, code: str) -> None:
        """It did not get the module: those who wait are told so by the claim, which stays."""
        claim = self._next().model_copy(update={"phase": "failed", "code": code})
        await self._end(lambda: self._replace(claim))

    async def abandoned(self) -> None:
        """Nobody wants the module any more, or the daemon ends: another machine may fetch it at once."""
        await self._let_go()

    async def _share(self, record: FleetRecord, archive: Archive) -> Shared:
        remote, random = self._remote, self._random
        if self._is_repair or not await in_tries(self.key, random, lambda: is_there(remote, record)):
            await self._upload(record, archive)
        told = record.model_copy(update={"upload": f"{random.getrandbits(64):016x}"})
        terms = {"is_immutable": self._is_immutable, "is_repair": self._is_repair}
        return await in_tries(self.key, random, lambda: write_record(remote, told, self._seen, **terms))

    async def _upload(self, record: FleetRecord, archive: Archive) -> None:
        self.is_uploading, self._phase_began = True, self._clock()
        self.received_bytes, self.total_bytes, self._told_bytes = 0, record.archive_bytes, 0
        self._stop_beating()
        self._beating = self._spawn(self._beat(0.0))

        def sent(sent_bytes: int) -> None:
            self.received_bytes = sent_bytes

        await upload(self._remote, record, archive, sent, self._random)
        self._figures.uploaded += 1
        self._figures.uploaded_bytes += record.archive_bytes

    async def _beat(self, pause_seconds: float) -> None:
        is_due = pause_seconds == 0.0  # the phase has changed
        while not self.is_lost:
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(max(_FIRST_BEAT_SECONDS, 2 * pause_seconds), self._terms.claim_timeout / 3)
            if not is_due and self.received_bytes == self._told_bytes:
                continue
            try:
                received_bytes = self.received_bytes
                # Not before the first bytes: what is here within a second is taken over by nobody.
                is_held_back = not self.is_uploading and self._is_held_back()
                await self._replace(self._next(prefetch=is_held_back))
                self._told_bytes, is_due = received_bytes, False
            except HubError as error:
                log.debug("%s: the claim could not be extended: %s", self.key, error)

    def _next(self, *, prefetch: bool = False) -> Claim:
        return self._hold.claim.model_copy(
            update={
                "beat": self._hold.claim.beat + 1,
                "phase": "uploading" if self.is_uploading else "fetching",
                "received_bytes": self.received_bytes,
                "total_bytes": self.total_bytes,
                "elapsed_seconds": round(self._clock() - self._phase_began, 3),
                "prefetch": prefetch,
            }
        )

    async def _replace(self, claim: Claim) -> bool:
        """Whether it is still this machine's, and says this now."""
        path, body = claim_path(self.key), claim.body()
        async with self._writing:
            at = self._clock()
            self._was_in_no_hurry |= claim.prefetch  # whether or not the answer comes
            version = await self._remote.replace(path, body, self._hold.version)
            if version is None and (mine := await own_version(self._remote, self.key, claim.holder)) is not None:
                # A write whose answer was lost.
                version = await self._remote.replace(path, body, mine)
            if version is None:
                if not self.is_lost:
                    level = logging.INFO if self._was_in_no_hurry else logging.WARNING
                    log.log(level, "%s: another machine has taken the fetch over; this one goes on", self.key)
                self.is_lost = True
                return False
            self._hold = Hold(claim, version, at)
            return True

    async def _let_go(self) -> None:
        await self._end(self._remove)

    async def _remove(self) -> None:
        # After such a write nobody can take it over for `claim_timeout`: what is removed is one's own.
        is_young = self._clock() - self._hold.written_at < self._terms.claim_timeout / 2
        if (is_young and not self._was_in_no_hurry) or await self._replace(self._next()):
            await self._remote.remove(claim_path(self.key))

    async def _end(self, last: Callable[[], Awaitable[object]]) -> None:
        """With what is done last to the claim, once, and only while it is this machine's."""
        self._stop_beating()
        if self.is_lost or self._is_ended:
            return
        self._is_ended = True
        try:
            async with asyncio.timeout(LETTING_GO_SECONDS):
                await last()
        except (HubError, TimeoutError) as error:
            log.info("%s: the claim stays, and will be taken over: %s", self.key, str(error) or "no answer in time")
        except asyncio.CancelledError:
            self._is_ended = False  # it may be there still, for `abandoned`
            raise

    def _stop_beating(self) -> None:
        self._beating.cancel()


async def own_version(remote: Remote, key: str, holder: str) -> Version | None:
    """The version of the claim that is there, if it is this holder's."""
    small = await remote.read(claim_path(key))
    seen = seen_claim(small) if small is not None else None
    return seen.version if seen is not None and seen.claim is not None and seen.claim.holder == holder else None
