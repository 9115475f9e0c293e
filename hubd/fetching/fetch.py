"""One fetch: from a handle to a published tree.

Law: whatever ends a fetch (an error, its last waiter leaving, a shutdown) leaves nothing in ``staging/`` but what a
later fetch can go on from, and publishing is never interrupted half-way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from hubclient.contract import handles
from hubclient.contract.errors import (
    CacheFull,
    DigestMismatch,
    DiskFull,
    HubError,
    Internal,
    TooBusy,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from hubclient.contract.lease import Lease
from hubd.fetching.attended import Attended
from hubd.fetching.keeping import Keeping
from hubd.fetching.landing import Landed, Landing, bytes_beside, manifest_of
from hubd.fetching.means import Means
from hubd.fetching.progress import Progress
from hubd.fetching.receiving import Receiving
from hubd.fetching.report import Report
from hubd.fetching.room import Reservation
from hubd.fetching.slots import Slot
from hubd.network.conditions import RangeRefused, Resume, Validators
from hubd.network.credentials import Credential
from hubd.network.patience import Patience
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.network.terms import Changed, Received, check_announced
from hubd.store.disk import from_os_error
from hubd.store.manifest import Manifest
from hubd.store.partials import Partial
from hubd.store.records import Record
from hubd.store.staging import Staging
from hubd.unpacking.supervisor import UnpackReport

if TYPE_CHECKING:
    from hubd.fetching.sharing import Open, Sharing
    from hubd.fleet.tier import Found

log = logging.getLogger(__name__)

_FLEET_RETRIES = 1  # there is an origin to ask instead


class Fetch(Attended):
    """The work of a flight, for everyone; `PrivateFetch` is the one for a user alone."""

    def __init__(
        self,
        means: Means,
        handle: str,
        key: str,
        *,
        spelling: str,
        refresh: bool,
        credential: Credential | None = None,
        is_urgent: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_urgent`: whether a client waits for it, at this moment; else it is a prefetch."""
        super().__init__(Progress(handle, key), is_urgent)
        self._partial_key = key
        self._means = means
        self._spelling = spelling
        self._refresh = refresh
        self._credential = credential
        self._before: Record | None = None  # what is recorded of this handle
        self._whole = False  # and whether its tree is there, undamaged
        self._published = False
        self._patience = Patience(means.settings.network.retries)
        self._goes_on: bool | None = None  # whether the transfer under way goes on by itself after a cut
        self._partial: Partial | None = None  # what an earlier fetch left, while nothing is done to it
        self._sharing: Sharing | None = None  # in the fleet

    async def run(self) -> Landed:
        """Raises nothing but `HubError`s."""
        report = Report(self._means, self)
        try:
            landed = await self._run()
        except HubError as error:
            self._part_with_fleet(error)
            report.failed(error)
            raise
        except asyncio.CancelledError:
            self._part_with_fleet()
            report.cancelled()
            raise
        self._part_with_fleet(landed.error)
        report.landed(landed)
        return landed

    def _part_with_fleet(self, error: HubError | None = None) -> None:
        if self._sharing is not None:
            self._sharing.end(error)

    async def _run(self) -> Landed:
        # The second look: since the caller's, another flight may have landed what this one would fetch.
        self._before = before = self._means.records.get(self.progress.key)
        lease = await self._means.find(before) if before is not None else None
        try:
            self._whole = lease is not None
            return await self._land()
        finally:
            if lease is not None:
                # Held until now, and for a while after the answer, however long the origin took.
                self._means.grace.keep(lease)

    async def _land(self) -> Landed:
        before, progress = self._before, self.progress
        if before is not None and self._whole and self._is_enough(before):
            return Landed(before, "hit")
        if self._sharing is None and self._means.fleet is not None and self._may_share():
            self._sharing = self._means.fleet.sharing(progress, self.client_waits)
        try:
            return await self._ask()
        except HubError as caught:
            error = caught
        except OSError as caught:
            error = from_os_error(caught, "fetching")
        except Exception:
            log.exception("%s: failed for a reason of our own", progress.loggable)
            error = Internal("hubd failed; its log has the reason")
        if before is not None and self._whole and self._goes_on_after(error, before):
            return Landed(before, "stale", (f"this copy may be old: {error}",), error)
        for note in getattr(error, "__notes__", ()):
            log.error("%s: %s", progress.loggable, note)
        raise error

    def _is_enough(self, before: Record) -> bool:
        """Whether the copy that is here will do, and nobody need be asked."""
        return not self._refresh and self._means.is_fresh(before)

    def _may_share(self) -> bool:
        """Whether the fleet is asked: not for what is a user's own, nor by whoever wants the origin's word. A digest is
        as good from there."""
        if self.reader is not None or self._credential is not None:
            return False
        wants_word = self._refresh and all(digest is None for digest in self._demands)
        return not wants_word or (not self._whole and handles.is_immutable(self.progress.handle))

    async def _ask(self) -> Landed:
        """Asks the fleet, then the origin: for the archive, or whether the copy that is there is still the one."""
        means, before = self._means, self._before
        known = None
        if before is not None and self._whole:
            known = Validators(before.etag, before.last_modified)
            if not known.headers():
                if before.immutable:
                    # Nobody may force downloads of what cannot change, and there is nothing to ask with.
                    return Landed(before, "hit", ("the origin gave no validator to ask for changes with",))
                known = None
        if known is not None and not means.slots.has_turn_for(self.is_urgent, self.users):
            # A question takes nobody's turn; only an answer with a new archive waits for its own.
            async with means.asking.turn(self.is_urgent, self.users) as slot:
                found = await self._ask_fleet(slot)
                if isinstance(found, Landed):
                    return found
                if found is None:
                    async with self._open(known) as delivery:
                        if delivery.body is None:
                            return await self._confirmed(delivery)
        landed = await self._ask_in_turn(known, self._confirmed)
        assert landed is not None
        return landed

    async def _ask_in_turn(
        self, known: Validators | None, unchanged: Callable[[Delivery], Awaitable[Landed | None]]
    ) -> Landed | None:
        """Asks when its turn has come, again and again while there is patience. An answer that there is nothing new is
        `unchanged`'s to judge.
        """
        means = self._means
        async with means.slots.turn(self.is_urgent, self.users) as slot:
            if (landed := await self._take_from_fleet(slot)) is not None:
                return landed
            while True:
                fleets = self._sharing.stale if self._sharing is not None and not self._whole else None
                asked = known if fleets is None else Validators(fleets.etag, fleets.last_modified)
                try:
                    async with self._open(asked, self._origins_partial()) as delivery:
                        if delivery.body is not None:
                            return await self._take(delivery)
                        if fleets is None:
                            return await unchanged(delivery)
                    if (landed := await self._take_renewed(delivery.validators)) is not None:
                        return landed
                    continue
                except (UpstreamUnavailable, UpstreamTimeout) as error:
                    pause_seconds = self._pause_seconds(error)
                    self.progress.on_pause(error, pause_seconds)
                await asyncio.sleep(pause_seconds)

    async def _confirmed(self, delivery: Delivery) -> Landed:
        landed = await self._means.to_its_end(lambda: self._landing.confirm(delivery.validators))
        if self._sharing is not None:
            self._sharing.confirmed(landed.record.digest, delivery.validators)
        return landed

    async def _ask_fleet(self, slot: Slot) -> Landed | Found | None:
        """What the fleet has, or the copy that is here where it is the same; None: the module is the origin's to send.

        Raises `DigestMismatch` where it is not what all who wait demand.
        """
        before, sharing = self._before, self._sharing
        while sharing is not None and (found := await sharing.ask(slot)) is not None:
            record = found.record
            if not self._demands or any(digest in (None, record.digest) for digest in self._demands):
                if before is None or not self._whole or before.digest != record.digest:
                    return found
                return await self._confirmed_by(found)
            if sharing.was_refused or handles.is_immutable(self.progress.handle):
                raise DigestMismatch(
                    f"the fleet's archive has the sha256 {record.digest}, and {self._demands[0]} was demanded"
                )
            sharing.refuse()  # the origin may have what is demanded by now
        return None

    async def _confirmed_by(self, found: Found) -> Landed:
        validators = Validators(found.record.etag, found.record.last_modified)
        return await self._means.to_its_end(lambda: self._landing.confirm(validators, found.age_seconds))

    async def _take_from_fleet(self, slot: Slot) -> Landed | None:
        """None: the module is the origin's to send."""
        while (found := await self._ask_fleet(slot)) is not None:
            landed = found if isinstance(found, Landed) else await self._take_found(found)
            if landed is not None:
                return landed
        return None

    async def _take_renewed(self, validators: Validators) -> Landed | None:
        """What the fleet has, and the origin says is still the one; None: it cannot be had from there."""
        assert self._sharing is not None
        found = self._sharing.renewed(validators)
        if (landed := await self._take_found(found)) is not None:
            self._sharing.confirmed(found.record.digest, validators)
        return landed

    async def _take_found(self, found: Found) -> Landed | None:
        assert self._sharing is not None
        partial = self._means.partials.claim(self._partial_key)
        try:
            async with self._open(None, partial, self._sharing.opening(found)) as delivery:
                return await self._take(delivery)
        except DigestMismatch:
            raise  # other content than that of an intact copy
        except (CacheFull, DiskFull, TooBusy):
            raise  # the origin's would find no more room here
        except HubError as error:
            log.warning("%s: the fleet's archive cannot be used: %s", self.progress.loggable, error)
            self._sharing.refuse(error)
            self._goes_on = None
            return None

    def _pause_seconds(self, error: HubError) -> float:
        """How long to wait before all is begun anew. Raises the error when it is not to be."""
        goes_on, self._goes_on = self._goes_on, None
        if (goes_on and not isinstance(error, Changed)) or (goes_on is None and self._whole):
            raise error  # it has been patient itself; or nobody needs to be, for there is a copy
        return self._patience.pause_seconds(error, self.progress.received_bytes if goes_on is not None else 0)

    def _goes_on_after(self, error: HubError, before: Record) -> bool:
        """Whether the copy that is there is served although the origin could not be asked."""
        return not isinstance(error, DigestMismatch)

    def _readers(self, digest: str) -> frozenset[int] | None:
        """Who may read a tree that is published now; None: everyone."""
        return None

    def _marked(self, record: Record, delivery: Delivery) -> Record:
        """The record with what it says of its readers."""
        return record

    @asynccontextmanager
    async def _open(
        self, known: Validators | None, partial: Partial | None = None, at: Open | None = None
    ) -> AsyncIterator[Delivery]:
        """Asks for the archive, or for what the partial lacks of it; at its origin, if nothing else is said."""
        self.progress.enter("connecting")
        opening = at or self._means.source.open
        self._partial = partial
        try:
            async with AsyncExitStack() as stack:
                try:
                    delivery = await stack.enter_async_context(opening(self._request(known, _resume(partial))))
                except RangeRefused as refused:
                    log.info("%s: the rest was asked for, and the answer came %s", self.progress.loggable, refused)
                    await self._drop_partial()
                    delivery = await stack.enter_async_context(opening(self._request(known, None)))
                if not delivery.from_bytes:
                    await self._drop_partial()  # the origin has another archive by now
                sender = delivery.url.raw_host if delivery.url is not None else None
                self.progress.host, self.progress.tier = sender or delivery.final_host, delivery.tier
                yield delivery
        finally:
            if self._partial is not None:
                self._means.partials.give_back(self._partial)

    def _request(self, known: Validators | None, resume: Resume | None) -> ArchiveRequest:
        handle, credential = self.progress.handle, self._credential
        return ArchiveRequest(handle, known, resume, self.is_urgent, credential, users=self.users)

    def _origins_partial(self) -> Partial | None:
        """What an earlier fetch left that came from the origin. What came from the fleet's store had a digest to be
        compared with, and the origin need not send one: that goes, though both may call the version by one name.
        """
        partials = self._means.partials
        partial = partials.claim(self._partial_key)
        if partial is not None and partial.transfer.of_fleet:
            partials.discard(partial)
            self._means.litter.set()
            return None
        return partial

    async def _drop_partial(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            await self._means.to_its_end(lambda: self._means.partials.discard(partial))
            self._means.litter.set()

    async def _take(self, delivery: Delivery) -> Landed:
        async with self._staging(delivery) as (staging, keeping):
            check_announced(delivery.total_bytes, self._means.settings.limits.archive)
            reservation = Reservation(self._means.room, self._means.trees, staging.path, self._allow)
            self._reservation = reservation
            await reservation.announced(delivery.total_bytes or delivery.from_bytes or 1, delivery.from_bytes)
            tree = staging.attempt_tree(1)
            self._goes_on = delivery.part is not None
            receiving = self._receiving(delivery)
            received, report = await receiving.run(delivery, staging.archive, tree, keeping, reservation)
            self.progress.enter("publishing")
            await reservation.tree(bytes_beside(report) + await reservation.tree(0))
            leases: list[Lease] = []
            try:
                landed, brought = await self._means.to_its_end(
                    lambda: self._publish(delivery, tree, received, report, leases)
                )
            finally:
                for lease in leases:
                    self._means.grace.keep(lease)
            if self._sharing is not None and delivery.tier != "fleet":
                self._sharing.landed(delivery, brought, keeping)
            return landed

    def _receiving(self, delivery: Delivery) -> Receiving:
        means, progress = self._means, self.progress
        if delivery.tier == "fleet":
            patience = Patience(_FLEET_RETRIES, waits_after_stalls=False)
            return Receiving(means, progress, patience, self.is_urgent)
        moved = self._sharing.moved if self._sharing is not None else None
        return Receiving(means, progress, self._patience, self.is_urgent, moved)

    def _allow(self, total_bytes: int) -> int | None:
        return self._shares.require_bytes(self, total_bytes) if self._shares is not None else None

    @asynccontextmanager
    async def _staging(self, delivery: Delivery) -> AsyncIterator[tuple[Staging, Keeping]]:
        made: list[tuple[Staging, Keeping]] = []
        ended_by: BaseException | None = None
        try:
            await self._means.to_its_end(lambda: made.append(self._stage(delivery)))
            yield made[0]
        except BaseException as error:
            ended_by = error if not self._published else None
            raise
        finally:
            # Also when the cancellation struck while it was being made.
            for _, keeping in made:
                await self._means.to_its_end(functools.partial(keeping.leave, ended_by))
            self._reservation = None
            self._means.litter.set()

    def _stage(self, delivery: Delivery) -> tuple[Staging, Keeping]:
        """In a thread: where to fetch into, a new place or the partial's."""
        partials, partial = self._means.partials, self._partial
        staging = partials.staging(partial) if partial is not None else self._means.trees.stage()
        keeping = Keeping(self._means, self.progress.handle, delivery, staging, self.reader)
        self._partial = None
        return staging, keeping

    def _publish(
        self, delivery: Delivery, tree: str, received: Received, report: UnpackReport, leases: list[Lease]
    ) -> tuple[Landed, Manifest]:
        """In a thread. The manifest is that of the archive that came."""
        brought = manifest_of(received, report, is_tree=delivery.is_tree)
        landed = self._landing.publish(delivery, tree, brought, leases)
        self._published = True
        return landed, brought

    @property
    def _landing(self) -> Landing:
        progress = self.progress
        return Landing(
            self._means,
            progress.handle,
            progress.key,
            self._spelling,
            self._before,
            is_whole=self._whole,
            demands=self._demands,
            readers=self._readers,
            marked=self._marked,
        )


def _resume(partial: Partial | None) -> Resume | None:
    if partial is None:
        return None
    transfer = partial.transfer
    return Resume(partial.resume_bytes, transfer.total_bytes, Validators(transfer.etag, transfer.last_modified))
