"""What one fetch has of its fleet, and owes to it.

Law: a turn to fetch for all ends once, however the fetch does; and nobody who waits for the module waits for that end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hubclient.contract import handles
from hubclient.contract.errors import (
    ArchiveCorrupt,
    ArchiveUnsafe,
    HubError,
    NotAModule,
    UpstreamNotFound,
)
from hubd.fetching.errands import Errand, record_of, renewed
from hubd.fetching.keeping import Keeping
from hubd.fetching.progress import Progress
from hubd.fetching.slots import Slot
from hubd.fetching.uploads import Upload, Uploads
from hubd.fleet.claims import Alone, Claim
from hubd.fleet.records import FleetRecord
from hubd.fleet.tier import FOR_EVER, Found, Tier
from hubd.fleet.turn import Turn
from hubd.network.conditions import Validators
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.store.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger(__name__)

#: What is wrong with an archive itself: another one is wanted in its place.
_DAMAGE = (ArchiveCorrupt, ArchiveUnsafe, NotAModule, UpstreamNotFound)
# To the others the origin is closed, as far as this machine may tell: who waits asks it with a credential of its own.
_NOT_FOR_OTHERS = "upstream-denied"

Background = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
Open = Callable[[ArchiveRequest], AbstractAsyncContextManager[Delivery]]


@dataclass(frozen=True)
class Rules:
    """What holds for one fetch. `max_age_seconds`: so long ago the origin may have been asked, if it is no version."""

    max_age_seconds: float
    shares_credentialed: bool


class Sharing:
    """`progress` is the fetch's, and so is `client_waits`, set while one does. `spawn` starts a task in the group that
    owns all work; `look` is called when something may have been learnt of the store."""

    def __init__(
        self,
        tier: Tier,
        uploads: Uploads,
        rules: Rules,
        progress: Progress,
        client_waits: asyncio.Event,
        spawn: Background,
        look: Callable[[], None],
    ) -> None:
        self._tier = tier
        self._uploads = uploads
        self._rules = rules
        self._progress = progress
        self._client_waits = client_waits
        self._spawn = spawn
        self._look = look
        self._is_immutable = handles.is_immutable(progress.handle)
        self._is_asked = False
        self._found: Found | None = None
        self._turn: Turn | None = None
        self._unwanted: FleetRecord | None = None
        self._was_renewed = False
        self.errand: Errand | None = None  #: what came of the archive, as soon as it is to be uploaded
        self.alone: str | None = None  #: why the fleet has no part in it
        self.kept: FleetRecord | None = None  #: what the fleet has, and the origin confirmed

    async def ask(self, slot: Slot) -> Found | None:
        """What the fleet has of the module; None when it is to come from its origin. `slot` is given back while another
        machine fetches it. Asked again, it says the same, until `refuse`.
        """
        if self._is_asked:
            return self._found
        self._is_asked = True
        progress = self._progress

        def on_wait(claim: Claim | None) -> None:
            slot.pause()
            progress.waits(claim.received_bytes if claim else 0, claim.total_bytes if claim else None)

        progress.enter("connecting")
        try:
            answer = await self._tier.ask(
                progress.key,
                is_immutable=self._is_immutable,
                max_age_seconds=FOR_EVER if self._is_immutable else self._rules.max_age_seconds,
                damaged=self._unwanted,
                on_wait=on_wait,
                client_waits=self._client_waits,
                is_held_back=lambda: not self._client_waits.is_set() and self._uploads.pace.slows_prefetches,
            )
        except Exception:  # a mistake of our own there costs nobody the module
            log.exception("%s: the fleet could not be asked", progress.loggable)
            answer = Alone("hubd failed; its log has the reason")
        self._look()
        if isinstance(answer, Turn):
            self._turn = answer
        elif isinstance(answer, Found):
            self._found = answer
        else:
            self.alone = answer.reason
            log.debug("%s: without the fleet: %s", progress.loggable, answer.reason)
        if progress.state == "waiting":
            progress.waits(0, None)
            progress.enter("queued")
        await slot.resume()
        return self._found

    def refuse(self, error: HubError | None = None) -> None:
        """What was found is no good, for this reason, or not what is wanted (None): the next `ask` is for another one.

        Where it is the store that failed, or that was refused before, the next one comes from the origin.
        """
        self._look()
        if self._turn is not None and isinstance(error, _DAMAGE):
            self._turn.found_damaged()
        found, self._found = self._found, None
        is_worth = error is None or isinstance(error, _DAMAGE)
        if found is not None and is_worth and self._unwanted is None:
            self._unwanted, self._is_asked = found.record, False

    async def has_archive(self, found: Found) -> bool:
        """Whether the archive itself is there. Raises upstream-* errors."""
        return await self._tier.has_archive(found.record)

    @property
    def was_refused(self) -> bool:
        """Whether something was, as not good or not wanted."""
        return self._unwanted is not None

    def opening(self, found: Found) -> Open:
        """Opens what was found, as the origin would have sent it."""

        @asynccontextmanager
        async def opened(request: ArchiveRequest) -> AsyncIterator[Delivery]:
            record = found.record
            async with found.open(request) as delivery:
                yield replace(
                    delivery,
                    validators=Validators(record.etag, record.last_modified),
                    final_host=record.final_host or "",
                    tier="fleet",
                    age_seconds=found.age_seconds,
                )

        return opened

    @property
    def stale(self) -> FleetRecord | None:
        """What the fleet has, too old: an origin that says it is still that spares all of them a transfer."""
        return self._turn.stale if self._turn is not None and not self._was_renewed else None

    def renewed(self, validators: Validators) -> Found:
        """The stale one, which the origin says is still what it has: it may be taken, and is `confirmed` then."""
        assert self._turn is not None
        assert self._turn.stale is not None
        self._was_renewed = True
        return self._tier.holding(renewed(self._turn.stale, validators))

    def moved(self, received_bytes: int, total_bytes: int | None) -> None:
        """So much has come from the origin."""
        if self._turn is not None:
            self._turn.moved(received_bytes, total_bytes)

    def confirmed(self, digest: str, validators: Validators) -> None:
        """The origin says that this is still what it has."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if turn.stale is None or turn.stale.digest != digest:
            self._spawn(turn.abandoned())
            return
        self.kept = renewed(turn.stale, validators)
        self._spawn(turn.renew(self.kept))

    def landed(self, delivery: Delivery, brought: Manifest, keeping: Keeping) -> None:
        """It came from the origin, and is published. Its archive may be uploaded, from the place of `keeping`."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if delivery.is_credentialed and not self._rules.shares_credentialed:
            self.alone = "this machine's credential was shown for it, and fleet.share_credentialed says no"
            log.debug("%s: not for the fleet: %s", self._progress.loggable, self.alone)
            self._spawn(turn.failed(_NOT_FOR_OTHERS))
            return
        if delivery.is_tree:
            # It has no archive, and each machine reaches it where this one did: nobody is to wait for a turn.
            self.alone = "its origin leads to a directory of an object store"
            log.debug("%s: not for the fleet: %s", self._progress.loggable, self.alone)
            self._spawn(turn.failed(_NOT_FOR_OTHERS))
            return
        progress = self._progress
        if (record := record_of(progress.handle, delivery, brought)) is None:
            self._spawn(turn.abandoned())
            return
        self.errand = Errand(turn, record)
        upload = Upload(progress.handle, progress.key, brought.archive_bytes)
        if not self._uploads.start(upload, self.errand, keeping):
            log.info("%s: not for the fleet: too many archives are to be uploaded already", progress.loggable)
            self._spawn(self.errand.drop())

    def end(self, error: HubError | None = None) -> None:
        """The fetch is over. By this error the others need not hope for the module either."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self._spawn(turn.abandoned() if error is None else turn.failed(error.code))
