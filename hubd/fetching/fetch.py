"""One fetch: from a handle to a published tree.

Law: whatever ends a fetch (an error, its last waiter leaving, a shutdown) leaves nothing in ``staging/``, and
publishing is never interrupted half-way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from hubclient.contract import handles
from hubclient.contract.errors import DigestMismatch, HubError
from hubclient.contract.lease import Lease
from hubd.fetching.means import Means
from hubd.fetching.progress import Progress
from hubd.fetching.sources import Delivery, Validators
from hubd.fetching.transfer import Received, receive
from hubd.store.disk import from_os_error
from hubd.store.manifest import FileEntry, Manifest, content_digest
from hubd.store.records import Record
from hubd.store.trees import Staging
from hubd.unpacking.supervisor import Unpacker, UnpackReport

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Landed:
    """What a fetch came to: a record whose tree is whole, and leased by the daemon for a while.

    `found` is ``hit`` (it was there), ``confirmed`` (by the origin), ``fetched``, or ``stale`` (the origin could
    not be asked, and the copy that was there is served).
    """

    record: Record
    found: Literal["hit", "confirmed", "fetched", "stale"]
    warnings: tuple[str, ...] = ()
    error: HubError | None = None  # why it is stale


class Fetch:
    """The work of a flight."""

    def __init__(self, means: Means, handle: str, key: str, *, spelling: str, refresh: bool) -> None:
        self.progress = Progress(handle, key)
        self._means = means
        self._spelling = spelling
        self._refresh = refresh
        self._record: Record | None = None  # what was known of this handle before
        self._whole = False  # and whether its tree is there, undamaged

    async def run(self) -> Landed:
        """Raises nothing but `HubError`s."""
        means = self._means
        async with means.slots:
            # The second look: since the caller's, another flight may have landed what this one would fetch.
            self._record = record = means.records.get(self.progress.key)
            lease = means.trees.find(record.digest) if record is not None else None
            if record is not None and lease is not None:
                means.grace.keep(lease)
                self._whole = True
                if record.fetched_at > self.progress.started_at or (means.is_fresh(record) and not self._refresh):
                    return Landed(record, "hit")
            try:
                landed = await self._ask()
            except HubError as error:
                if record is None or not self._whole or isinstance(error, DigestMismatch):
                    log.info("%s: %s: %s", self.progress.loggable, error.code, error)
                    for note in getattr(error, "__notes__", ()):
                        log.error("%s: %s", self.progress.loggable, note)
                    raise
                landed = Landed(record, "stale", (f"this copy may be old: {error}",), error)
            except OSError as error:
                raise from_os_error(error, "fetching") from error
            finally:
                means.counters.received_bytes += self.progress.received_bytes
        self._log(landed)
        return landed

    async def _ask(self) -> Landed:
        """Asks the origin: for the archive, or whether the copy that is there is still the one."""
        known = None
        if self._record is not None and self._whole:
            known = Validators(self._record.etag, self._record.last_modified)
            if not known.headers():
                if self._record.immutable:
                    # Nobody may force downloads of what cannot change, and there is nothing to ask with.
                    return Landed(self._record, "hit", ("the origin gave no validator to ask for changes with",))
                known = None
        self.progress.state = "connecting"
        async with self._means.source.open(self.progress.handle, known) as delivery:
            if delivery.body is None:
                return await _to_its_end(lambda: self._confirm(delivery.validators))
            async with self._staging() as staging:
                tree = staging.attempt_tree(1)
                received, report = await self._receive_and_unpack(delivery, staging, tree)
                self.progress.state = "publishing"
                leases: list[Lease] = []
                try:
                    return await _to_its_end(lambda: self._publish(delivery, tree, received, report, leases))
                finally:
                    for lease in leases:
                        self._means.grace.keep(lease)

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[Staging]:
        made: list[Staging] = []
        try:
            await _to_its_end(lambda: made.append(self._means.trees.stage()))
            yield made[0]
        finally:
            # Also when the cancellation struck while it was being made.
            for staging in made:
                await _to_its_end(staging.discard)

    def _confirm(self, validators: Validators) -> Landed:
        assert self._record is not None
        confirmed = self._record.model_copy(
            update={
                "fetched_at": datetime.now(UTC),
                "etag": validators.etag,
                "last_modified": validators.last_modified,
            }
        )
        self._means.put(confirmed)
        return Landed(confirmed, "confirmed")

    async def _receive_and_unpack(
        self, delivery: Delivery, staging: Staging, tree: str
    ) -> tuple[Received, UnpackReport]:
        body, progress, limits = delivery.body, self.progress, self._means.settings.limits
        assert body is not None
        progress.state = "transferring"
        progress.total_bytes = delivery.total_bytes
        async with Unpacker(staging.archive, tree, self._means.unpack_limits) as unpacker:
            progress.unpacker = unpacker

            def on_frontier(frontier_bytes: int) -> None:
                progress.on_frontier(frontier_bytes)
                unpacker.feed(frontier_bytes)

            async def transfer() -> Received:
                received = await receive(
                    body,
                    staging.archive,
                    total_bytes=delivery.total_bytes,
                    limit_bytes=limits.archive,
                    on_frontier=on_frontier,
                )
                progress.state = "unpacking"
                unpacker.finish(received.size_bytes)
                return received

            try:
                async with asyncio.TaskGroup() as group:
                    # Whichever fails first ends the other: a bad first megabyte saves the rest of the transfer.
                    receiving = group.create_task(transfer())
                    unpacking = group.create_task(unpacker.result())
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            return receiving.result(), unpacking.result()

    def _publish(
        self, delivery: Delivery, tree: str, received: Received, report: UnpackReport, leases: list[Lease]
    ) -> Landed:
        """In a thread: tree, then record, then views. The lease on the tree goes into `leases` at once."""
        trees, before = self._means.trees, self._record
        manifest = _manifest(received, report)
        immutable = handles.is_immutable(self.progress.handle)
        digest, warnings = received.digest, list[str]()
        if before is not None and immutable and before.digest != digest:
            digest, warnings = self._settle(before, manifest)
        if digest == received.digest:
            leases.append(trees.publish(tree, digest, manifest))
        record = Record(
            handle=self.progress.handle,
            spellings=before.spellings if before is not None else (),
            digest=digest,
            size_bytes=manifest.size_bytes,
            etag=delivery.validators.etag,
            last_modified=delivery.validators.last_modified,
            final_host=delivery.final_host,
            fetched_at=datetime.now(UTC),
            immutable=immutable,
            pinned=before is not None and before.pinned,
            readers=before.readers if before is not None else (),
        ).with_spelling(self._spelling)
        self._means.put(record)
        if before is not None and before.digest != digest:
            self._drop_if_orphan(before.digest)
        return Landed(record, "fetched" if leases else "confirmed", tuple(warnings))

    def _settle(self, before: Record, manifest: Manifest) -> tuple[str, list[str]]:
        """Which tree an immutable handle names when its archive has other bytes than before, and a warning.

        Immutable means content, not bytes: hosts that pack on the fly send other gzip bytes for equal content.
        """
        old = self._means.trees.manifest(before.digest) if self._whole else None
        if old is None:
            return manifest.digest, [f"this version's archive is not the one that was fetched {before.fetched_at:%F}"]
        if old.content_digest != manifest.content_digest:
            raise DigestMismatch(
                f"the origin now sends other content under this version ({manifest.content_digest[:12]}, not "
                f"{old.content_digest[:12]}); the copy that is here stays"
            )
        return before.digest, []

    def _drop_if_orphan(self, digest: str) -> None:
        """Removes the tree that a handle moved on from, unless another record names it or someone uses it."""
        if all(record.digest != digest for _, record in self._means.records.all()):
            try:
                self._means.trees.evict(digest)
                self._means.trees.empty_trash()
            except (HubError, OSError) as error:
                log.info("tree %s, which no handle names any more, stays for now: %s", digest[:12], error)

    def _log(self, landed: Landed) -> None:
        progress = self.progress
        log.info(
            "%s: %s, %d bytes in %.2f s, digest %s",
            progress.loggable,
            landed.found,
            progress.received_bytes,
            (datetime.now(UTC) - progress.started_at).total_seconds(),
            landed.record.digest[:12],
        )
        for warning in landed.warnings:
            log.warning("%s: %s", progress.loggable, warning)


async def _to_its_end(function: Callable[[], T]) -> T:
    """Runs it in a thread; a cancellation waits until it is done."""
    running = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue
        raise


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell of: a group's first, looking into groups within."""
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _manifest(received: Received, report: UnpackReport) -> Manifest:
    files = {file.path: FileEntry(size_bytes=file.size_bytes, sha256=file.sha256) for file in report.files}
    return Manifest(
        digest=received.digest,
        content_digest=content_digest(files),
        archive_bytes=received.size_bytes,
        size_bytes=report.size_bytes,
        format=report.format,
        files=files,
        meta_graphs=report.meta_graphs,
    )
