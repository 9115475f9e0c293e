"""One fetch: from a handle to a published tree.

Law: whatever ends a fetch (an error, its last waiter leaving, a shutdown) leaves nothing in ``staging/`` but what a
later fetch can go on from, and publishing is never interrupted half-way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from hubclient.contract.errors import DigestMismatch, HubError, Internal, UpstreamTimeout, UpstreamUnavailable
from hubclient.contract.lease import Lease
from hubd.fetching.keeping import Keeping
from hubd.fetching.landing import Landed, Landing, bytes_beside, manifest_of
from hubd.fetching.means import Means
from hubd.fetching.progress import Progress
from hubd.fetching.report import Report
from hubd.fetching.room import Reservation
from hubd.fetching.shares import Shares
from hubd.network.conditions import RangeRefused, Resume, Validators
from hubd.network.credentials import Credential
from hubd.network.patience import Patience
from hubd.network.segments import Ranges
from hubd.network.sources import ArchiveRequest, Delivery
from hubd.network.terms import Changed, Hooks, Received, Terms, check_announced
from hubd.network.transfer import Transfer
from hubd.network.waiting_line import User
from hubd.store.disk import from_os_error
from hubd.store.partials import Partial
from hubd.store.records import Record
from hubd.store.staging import Staging
from hubd.unpacking.supervisor import Unpacker, UnpackReport

log = logging.getLogger(__name__)


class Fetch:
    """The work of a flight, for everyone; `PrivateFetch` is the one for a user alone."""

    reader: int | None = None  # the uid that it is for; None: everyone

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
        self.is_urgent = is_urgent
        self.progress = Progress(handle, key)
        self._partial_key = key
        self.askers: set[int | None] = set()
        self.is_prefetch = True  # until somebody waits for it
        self.starter: User = None
        self.starter_uid: int | None = None
        self.started_as_prefetch = False
        self._shares: Shares | None = None
        self._reservation: Reservation | None = None
        self._waiting: Counter[User] = Counter()
        self._prefetching: Counter[User] = Counter()
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
        self._demands: list[str | None] = []

    def demand(self, digest: str | None) -> None:
        """One more waits for it, who wants an archive of this digest; None: whatever there is."""
        self._demands.append(digest)

    @property
    def waited(self) -> int:
        """How many have waited for it, those that left included."""
        return len(self._demands)

    def start_for(self, user: User, uid: int | None, shares: Shares, *, is_prefetch: bool) -> None:
        """It counts as this user's, of this uid; to be said before it runs."""
        self.starter, self.starter_uid, self._shares, self.started_as_prefetch = user, uid, shares, is_prefetch

    @contextmanager
    def waited_for_by(self, user: User, *, is_prefetch: bool) -> Iterator[None]:
        """For the block this user waits for it."""
        waiting = self._prefetching if is_prefetch else self._waiting
        waiting[user] += 1
        try:
            yield
        finally:
            waiting[user] -= 1
            if not waiting[user]:
                del waiting[user]

    def users(self) -> Collection[User]:
        """Whose turn it is to take now: that of the clients that wait for it, else of who wants it ahead of need."""
        return self._waiting.keys() or self._prefetching.keys()

    @property
    def reserved_bytes(self) -> int:
        """What is set aside for it on the disk."""
        return self._reservation.reserved_bytes if self._reservation is not None else 0

    def is_seen_by(self, uid: int) -> bool:
        """Whether this user may know of it: who asked for it, and everyone once the origin gives it to anyone.

        Only what unpacks is given: to whom it denies a private module, a host may send a page to sign in.
        """
        is_given = self.progress.unpacked_bytes > 0 or self.progress.state == "publishing"
        return uid in self.askers or (self.reader is None and is_given)

    async def run(self) -> Landed:
        """Raises nothing but `HubError`s."""
        report = Report(self._means, self)
        try:
            landed = await self._run()
        except HubError as error:
            report.failed(error)
            raise
        except asyncio.CancelledError:
            report.cancelled()
            raise
        report.landed(landed)
        return landed

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
        if before is not None and self._whole and not self._refresh and self._means.is_fresh(before):
            return Landed(before, "hit")
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

    async def _ask(self) -> Landed:
        """Asks the origin: for the archive, or whether the copy that is there is still the one."""
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
            async with means.asking.turn(self.is_urgent, self.users), self._open(known) as delivery:
                if delivery.body is None:
                    return await means.to_its_end(lambda: self._landing.confirm(delivery.validators))
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
        async with means.slots.turn(self.is_urgent, self.users):
            while True:
                try:
                    async with self._open(known, means.partials.claim(self._partial_key)) as delivery:
                        return await (unchanged(delivery) if delivery.body is None else self._take(delivery))
                except (UpstreamUnavailable, UpstreamTimeout) as error:
                    pause_seconds = self._pause_seconds(error)
                    self.progress.on_pause(error, pause_seconds)
                await asyncio.sleep(pause_seconds)

    async def _confirmed(self, delivery: Delivery) -> Landed:
        return await self._means.to_its_end(lambda: self._landing.confirm(delivery.validators))

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
    async def _open(self, known: Validators | None, partial: Partial | None = None) -> AsyncIterator[Delivery]:
        """Asks for the archive, or for what the partial lacks of it."""
        self.progress.enter("connecting")
        open_at_origin = self._means.source.open
        self._partial = partial
        try:
            async with AsyncExitStack() as stack:
                try:
                    delivery = await stack.enter_async_context(open_at_origin(self._request(known, _resume(partial))))
                except RangeRefused as refused:
                    log.info("%s: the rest was asked for, and the answer came %s", self.progress.loggable, refused)
                    await self._drop_partial()
                    delivery = await stack.enter_async_context(open_at_origin(self._request(known, None)))
                if not delivery.from_bytes:
                    await self._drop_partial()  # the origin has another archive by now
                self.progress.host = delivery.final_host
                yield delivery
        finally:
            if self._partial is not None:
                self._means.partials.give_back(self._partial)

    def _request(self, known: Validators | None, resume: Resume | None) -> ArchiveRequest:
        handle, credential = self.progress.handle, self._credential
        return ArchiveRequest(handle, known, resume, self.is_urgent, credential, users=self.users)

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
            received, report = await self._receive_and_unpack(delivery, staging, tree, keeping, reservation)
            self.progress.enter("publishing")
            await reservation.tree(bytes_beside(report) + await reservation.tree(0))
            leases: list[Lease] = []
            try:
                return await self._means.to_its_end(lambda: self._publish(delivery, tree, received, report, leases))
            finally:
                for lease in leases:
                    self._means.grace.keep(lease)

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

    async def _receive_and_unpack(
        self,
        delivery: Delivery,
        staging: Staging,
        tree: str,
        keeping: Keeping,
        reservation: Reservation,
    ) -> tuple[Received, UnpackReport]:
        progress = self.progress
        self._goes_on = delivery.part is not None
        progress.enter("transferring")
        progress.total_bytes = delivery.total_bytes
        progress.resumed_bytes = progress.received_bytes = delivery.from_bytes
        if delivery.from_bytes:
            self._means.counters.resumed += 1
            log.info("%s: goes on from byte %d of %s", progress.loggable, delivery.from_bytes, delivery.total_bytes)
        async with Unpacker(staging.archive, tree, self._means.unpack_limits, reservation.tree) as unpacker:
            progress.unpacker = unpacker
            if self._means.pace.gives_way:
                unpacker.be_nice()

            def on_written(written: Ranges) -> None:
                progress.on_received(written.size_bytes)
                reservation.wrote(written.size_bytes + unpacker.unpacked_bytes)
                unpacker.feed(written.frontier_bytes)
                keeping.on_frontier(written.frontier_bytes)

            hooks = Hooks(
                on_written,
                make_room=reservation.spool,
                is_starving=lambda: unpacker.is_idle,
                before_holes=functools.partial(self._means.to_its_end, keeping.before_holes),
                pace=functools.partial(self._pace, delivery),
                on_pause=progress.on_pause,
            )
            transfer = Transfer(delivery, staging.archive, self._terms, hooks, self._patience, self._means.threads)

            async def receive() -> Received:
                received = await transfer.run()
                progress.enter("unpacking")
                unpacker.finish(received.size_bytes)
                return received

            try:
                async with asyncio.TaskGroup() as group:
                    # Whichever fails first ends the other: a bad first megabyte saves the rest of the transfer.
                    receiving = group.create_task(receive())
                    unpacking = group.create_task(unpacker.result())
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            finally:
                self._means.counters.received_bytes += transfer.received_bytes
                progress.transferred_bytes += transfer.received_bytes
                progress.connections = max(progress.connections, transfer.most_connections)
            return receiving.result(), unpacking.result()

    @property
    def _terms(self) -> Terms:
        network = self._means.settings.network
        return Terms(
            self._means.settings.limits.archive,
            connections=network.connections_per_fetch,
            min_rate=network.min_rate,
            window_seconds=network.stall_timeout,
        )

    async def _pace(self, delivery: Delivery, size_bytes: int) -> float:
        if delivery.is_local:
            return 0.0
        return await self._means.pace.take(size_bytes, prefetch=lambda: not self.is_urgent())

    def _publish(
        self, delivery: Delivery, tree: str, received: Received, report: UnpackReport, leases: list[Lease]
    ) -> Landed:
        """In a thread."""
        landed = self._landing.publish(delivery, tree, manifest_of(received, report), leases)
        self._published = True
        return landed

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


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell of: a group's first, looking into groups within."""
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
