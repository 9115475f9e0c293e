"""What a fetch comes to: a module under a handle, published or found to be still the one.

Law: tree, then record, then views; and a version keeps its content as long as an intact copy of it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from hubclient.contract import handles
from hubclient.contract.errors import DigestMismatch, HubError
from hubclient.contract.lease import Lease
from hubd.fetching.counters import Outcome
from hubd.fetching.means import Means, lacks
from hubd.network.conditions import Validators
from hubd.network.sources import Delivery, TierName
from hubd.network.terms import Received
from hubd.store.manifest import FileEntry, Manifest, content_digest
from hubd.store.records import Record
from hubd.unpacking.supervisor import UnpackReport

_LONGEST_AGE_SECONDS = 10 * 365 * 86400.0
_MANIFEST_BYTES = 64 * 1024
_MANIFEST_BYTES_PER_FILE = 256


@dataclass(frozen=True)
class Landed:
    """What a fetch came to: a record whose tree is whole, and leased by the daemon for a while.

    `found` is ``hit`` (it was there), ``confirmed`` (by the origin), ``fetched``, ``joined`` (another user's fetch
    brought it), or ``stale`` (the origin could not be asked, and the copy that was there is served). `tier`: where the
    content came from.
    """

    record: Record
    found: Literal["hit", "confirmed", "fetched", "joined", "stale"]
    warnings: tuple[str, ...] = ()
    error: HubError | None = None  # why it is stale
    tier: TierName = "local"

    def outcome(self, joined: bool) -> Outcome:
        """What a caller is told, who joined the flight or had it started."""
        match self.found:
            case "fetched":
                return "joined" if joined else "fetched"
            case "joined":
                return "joined"
            case "stale":
                return "stale"
            case _:
                return "hit"


@dataclass(frozen=True)
class Landing:
    """Where an archive that came is published: under a handle, beside what is recorded of it. For a thread.

    `is_whole`: the tree of the record `before` is there, undamaged. `demands`: the digests that those who wait want,
    None for any. `readers`: who may read a tree of this digest, None for everyone. `marked`: the record with what it
    says of its readers.
    """

    means: Means
    handle: str
    key: str
    spelling: str
    before: Record | None
    is_whole: bool
    demands: Sequence[str | None]
    readers: Callable[[str], frozenset[int] | None]
    marked: Callable[[Record, Delivery], Record]

    def confirm(self, validators: Validators, age_seconds: float = 0.0) -> Landed:
        """The origin says that what is recorded is still so, or said it so long ago."""
        before = self.before
        assert before is not None
        changes = {
            "fetched_at": _ago(age_seconds),
            "etag": validators.etag,
            "last_modified": validators.last_modified,
        }
        # A record that has moved on meanwhile is newer than this answer.
        confirmed = self.means.amend(
            self.key,
            lambda now: _confirmed(now, changes) if now is not None and now.digest == before.digest else now,
        )
        return Landed(confirmed if confirmed is not None else before, "confirmed")

    def publish(self, delivery: Delivery, tree: str, brought: Manifest, leases: list[Lease]) -> Landed:
        """Tree, then record, then views. The lease on the tree goes into `leases` at once."""
        immutable = handles.is_immutable(self.handle)
        manifest, warnings = self._settle(brought, immutable=immutable)
        digest = manifest.digest
        if digest == brought.digest or not self.is_whole:
            leases.append(self.means.trees.publish(tree, digest, manifest, self.readers(digest)))
        left: list[str] = []

        def change(now: Record | None) -> Record:
            if now is not None and now.digest != digest:
                left.append(now.digest)
            record = Record(
                handle=self.handle,
                spellings=now.spellings if now is not None else (self.spelling,),
                digest=digest,
                size_bytes=manifest.size_bytes,
                file_count=len(manifest.files),
                etag=delivery.validators.etag,
                last_modified=delivery.validators.last_modified,
                final_host=delivery.final_host or None,
                fetched_at=_ago(delivery.age_seconds),
                immutable=immutable,
                pinned=now is not None and now.pinned,
            )
            record = self.marked(record, delivery)
            return record.with_spelling(self.spelling) if lacks(record, self.spelling) else record

        try:
            record = self.means.amend(self.key, change)
        except BaseException:
            self.means.orphans.add(digest)  # as long as no record names it, no eviction would find it
            raise
        assert record is not None
        self.means.orphans.update(left)
        if not leases:
            return Landed(record, "confirmed", tuple(warnings))
        return Landed(record, "fetched", tuple(warnings), tier=delivery.tier)

    def _settle(self, manifest: Manifest, *, immutable: bool) -> tuple[Manifest, list[str]]:
        """Which tree the handle names when its archive has other bytes than before, and a warning.

        Immutable means content, not bytes: hosts that pack on the fly send other gzip bytes for equal content. Where
        it is the content of a damaged tree, that one is repaired, so that its holders' paths work again. Other content
        takes a version's place only where no intact tree is there, and only for somebody who demands no digest.
        """
        before = self.before
        if before is None or before.digest == manifest.digest or (self.is_whole and not immutable):
            return manifest, []
        old = self.means.trees.manifest(before.digest)
        if old is not None and old.content_digest == manifest.content_digest:
            return manifest.model_copy(update={"digest": before.digest}), []
        if old is not None and self.is_whole:
            raise DigestMismatch(
                f"the origin now sends other content under this version ({manifest.content_digest[:12]}, not "
                f"{old.content_digest[:12]}); the copy that is here stays"
            )
        if not immutable:
            return manifest, []
        if self.demands and all(digest not in (None, manifest.digest) for digest in self.demands):
            raise DigestMismatch(f"the module's digest is {manifest.digest}, and {self.demands[0]} was demanded")
        return manifest, [f"this version's archive is not the one that was fetched {before.fetched_at:%F}"]


def _confirmed(now: Record, changes: dict[str, Any]) -> Record:
    """What is known already may be newer than what is told now."""
    return now if now.fetched_at >= changes["fetched_at"] else now.model_copy(update=changes)


def _ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=min(max(seconds, 0.0), _LONGEST_AGE_SECONDS))


def bytes_beside(report: UnpackReport) -> int:
    """About what manifest and listing will take on disk, rather more than less."""
    return _MANIFEST_BYTES + sum(_MANIFEST_BYTES_PER_FILE + 2 * len(file.path.encode()) for file in report.files)


def manifest_of(received: Received, report: UnpackReport, *, is_tree: bool) -> Manifest:
    """Of the tree that was unpacked. `is_tree`: it came as a directory, which has no digest but that of its content."""
    files = {file.path: FileEntry(size_bytes=file.size_bytes, sha256=file.sha256) for file in report.files}
    of_content = content_digest(files)
    return Manifest(
        digest=of_content if is_tree else received.digest,
        content_digest=of_content,
        archive_bytes=received.size_bytes,
        size_bytes=report.size_bytes,
        format=report.format,
        files=files,
        meta_graphs=report.meta_graphs,
    )
