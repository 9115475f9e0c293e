"""What is in the cache and how the daemon is, for listings and status. Reads; changes nothing."""

from __future__ import annotations

import asyncio
import heapq
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from hubclient.contract.errors import NotFound, RequestInvalid
from hubclient.contract.layout import LAYOUT_VERSION, is_digest
from hubclient.contract.quantities import format_size
from hubd import __version__
from hubd.api import messages
from hubd.api.directories import Directories
from hubd.api.filters import parse_all
from hubd.api.fleet_status import fleet_message
from hubd.api.users import access_status, user_statuses
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.fetching.watch import Watch
from hubd.prefetching.duties import FileStatus
from hubd.prefetching.keeper import Keeper
from hubd.store.catalog import Entry

T = TypeVar("T")

_MEASURE_SECONDS = 1.0
_MOSTLY_PINNED = 0.9


class Inventory:
    """Answers from the catalog, records and manifests, in a thread: a large cache has many."""

    def __init__(self, means: Means, watch: Watch, keeper: Keeper, socket: str, connections: Callable[[], int]) -> None:
        self._means = means
        self._keeper = keeper
        self._layout = means.trees.layout
        # One thread: however many ask for listings, the others are free for what cannot wait.
        self._thread = ThreadPoolExecutor(1, "inventory")
        self._watch = watch
        self._measured: tuple[float, messages.CacheStatus] | None = None
        self._directories = Directories(means, socket)
        self._socket = socket
        self._connections = connections
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self.config: messages.ConfigStatus | None = None
        self.warnings: list[str] = []
        self.config_warnings: list[str] = []

    async def modules(self, after: str, limit: int, filters: Sequence[str], viewer: int | None) -> messages.Modules:
        """A page: at most `limit` modules whose keys come after `after`, that pass all filters, and that the viewer may
        know of (a uid; None: an administrator)."""
        if after and not is_digest(after):
            raise RequestInvalid("after must be a key: 64 hex digits")
        passes = parse_all(filters)
        await self._means.room.scanned.wait()
        return await self._in_thread(lambda: self._modules(after, limit, passes, viewer))

    def _modules(
        self, after: str, limit: int, passes: Callable[[messages.Module, float], bool], viewer: int | None
    ) -> messages.Modules:
        page: list[messages.Module] = []
        now = time.time()
        entries = (entry for entry in self._seen_by(viewer) if entry.key > after)
        for entry in sorted(entries, key=lambda entry: entry.key):
            if passes(module := self._module(entry, viewer), now):
                if len(page) == limit:
                    return messages.Modules(modules=page, next=page[-1].key)
                page.append(module)
        return messages.Modules(modules=page, next=None)

    async def recently_used(self, limit: int, viewer: int | None) -> tuple[list[messages.Module], int]:
        """The modules that were used last, the last one first, at most so many, and how many there are in all, of those
        that the viewer may know of."""

        def look() -> tuple[list[messages.Module], int]:
            seen = self._seen_by(viewer)
            last = heapq.nlargest(limit, seen, key=lambda entry: entry.last_used)
            return [self._module(entry, viewer) for entry in last], len(seen)

        return await self._in_thread(look)

    async def module(self, key: str, viewer: int | None) -> messages.Signatures:
        """One module with its signatures; `NotFound` when there is none of that key that the viewer may know of."""
        if not is_digest(key):
            raise RequestInvalid("a key is 64 hex digits")
        key = await self._means.meant(key, viewer)
        users = self._means.users.of(key)
        return await self._in_thread(lambda: self._signatures(key, users, viewer))

    def _signatures(self, key: str, users: list[int], viewer: int | None) -> messages.Signatures:
        record = self._means.records.load(key)
        manifest = self._means.trees.manifest(record.digest) if record is not None else None
        entry = self._means.records.catalog.get(key)
        if record is None or manifest is None or entry is None or not self._means.is_seen_by(entry, viewer):
            raise NotFound("the cache has no module of this key")
        return messages.Signatures(
            **self._module(entry, viewer).model_dump(),
            origin=record.final_host,
            etag=record.etag,
            spellings=list(record.spellings),
            users=users,
            archive_bytes=manifest.archive_bytes,
            content_digest=manifest.content_digest,
            format=manifest.format,
            files={path: entry.model_dump() for path, entry in manifest.files.items()},
            meta_graphs=manifest.meta_graphs,
        )

    def _seen_by(self, viewer: int | None) -> list[Entry]:
        return [entry for entry in self._means.records.catalog.entries() if self._means.is_seen_by(entry, viewer)]

    def _module(self, entry: Entry, viewer: int | None) -> messages.Module:
        trees, same = self._means.trees, self._means.records.catalog.of_digest(entry.digest)
        return messages.Module(
            handle=entry.handle,
            key=entry.key,
            digest=entry.digest,
            path=self._layout.module(entry.digest),
            size_bytes=entry.size_bytes,
            immutable=entry.immutable,
            fetched_at=datetime.fromtimestamp(entry.fetched_at, UTC),
            last_used_at=datetime.fromtimestamp(entry.last_used, UTC),
            pinned=self._means.evictor.is_pinned(entry),
            pinned_by=list(self._means.evictor.pins.of(entry.key)),
            disk_bytes=trees.ledger.bytes_of(self._layout.tree(entry.digest)),
            leased=trees.is_held(entry.digest),
            shared_with=[one.handle for one in same if one.key != entry.key and self._means.is_seen_by(one, viewer)],
            reader=entry.reader,
        )

    async def status(self, resolver: Resolver, viewer: int | None) -> messages.Status:
        counters, health = self._means.counters, self._means.trees.health
        flights = resolver.fetches(viewer)
        cache = await self._in_thread(lambda: self._as_seen_by(viewer, self._measure()))
        return messages.Status(
            version=__version__,
            pid=os.getpid(),
            uid=os.geteuid(),
            socket=self._socket,
            started_at=self._started_at,
            uptime_seconds=time.monotonic() - self._started,
            cache=cache,
            fetches=len(flights),
            waiters=sum(flight.waiters for flight in flights),
            connections=self._connections(),
            counters=messages.Counters(**vars(counters), damaged=health.damaged, repaired=health.repaired),
            config=self.config,
            warnings=await self.all_warnings(cache),
            prefetch=[_prefetch_file(file, viewer) for file in self._keeper.status()],
            offline=self._means.settings.network.offline,
            queue=self._means.slots.waiting,
            fleet=fleet_message(self._means),
            access=access_status(self._means, viewer),
            users=user_statuses(self._means, resolver, viewer),
        )

    async def cache(self) -> messages.CacheStatus:
        """As administrators see it, as of a moment ago. Raises `OSError` where the disk cannot be asked."""
        return await self._in_thread(self._measure)

    async def all_warnings(self, cache: messages.CacheStatus) -> list[str]:
        """What somebody should look after, with the cache as it is."""
        directory_warnings = await self._in_thread(self._directories.warnings)
        own = *self.warnings, *self.config_warnings, *_shortages(cache)
        return [*own, *directory_warnings, *_troubles(self._keeper)]

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _as_seen_by(self, viewer: int | None, cache: messages.CacheStatus) -> messages.CacheStatus:
        """Without what others have for themselves; what the disk holds in all, everybody can see there."""
        if viewer is None or not self._means.records.catalog.private():
            return cache
        seen = self._seen_by(viewer)
        sizes = {entry.digest: entry.size_bytes for entry in seen}
        return cache.model_copy(update={"modules": len(seen), "size_bytes": sum(sizes.values())})

    def _measure(self) -> messages.CacheStatus:
        """Those who ask within a moment share an answer."""
        now = time.monotonic()
        if self._measured is not None and now - self._measured[0] < _MEASURE_SECONDS:
            return self._measured[1]
        means, ledger, limits = self._means, self._means.trees.ledger, self._means.room.limits
        disk = os.statvfs(self._layout.root)
        trees = list(means.records.catalog.by_digest())
        partial_bytes = sum(partial.size_bytes for partial in means.partials.all())
        measured = messages.CacheStatus(
            dir=self._layout.root,
            layout=LAYOUT_VERSION,
            modules=sum(len(entries) for _, entries in trees),
            size_bytes=sum(entries[0].size_bytes for _, entries in trees),
            free_bytes=disk.f_bavail * disk.f_frsize,
            watch=self._watch.mode,
            scanned=means.room.scanned.is_set(),
            used_bytes=ledger.used_bytes,
            max_size_bytes=limits.max_size_bytes,
            min_free_bytes=limits.min_free_bytes,
            pinned_bytes=sum(
                ledger.bytes_of(self._layout.tree(digest))
                for digest, entries in trees
                if any(means.evictor.is_pinned(entry) for entry in entries)
            ),
            in_flight_bytes=ledger.bytes_below(self._layout.staging) - partial_bytes,
            partial_bytes=partial_bytes,
        )
        self._measured = now, measured
        return measured


def _troubles(keeper: Keeper) -> list[str]:
    return [f"prefetch files: {keeper.problem}"] if keeper.problem is not None else []


def _prefetch_file(file: FileStatus, viewer: int | None) -> messages.PrefetchFileStatus:
    """What is wrong may say what is in the file, which is for administrators."""
    shown = file if viewer is None else file._replace(problem=None, failure=None)
    next_run_at = datetime.fromtimestamp(file.next_run_at, UTC) if file.next_run_at is not None else None
    return messages.PrefetchFileStatus(**{**shown._asdict(), "next_run_at": next_run_at})


def _shortages(cache: messages.CacheStatus) -> list[str]:
    """What keeps new modules from coming, though nothing is broken."""
    found = []
    if cache.free_bytes <= cache.min_free_bytes:
        found.append(
            f"the disk is full: {format_size(cache.free_bytes)} are free, and cache.min_free is "
            f"{format_size(cache.min_free_bytes)}; what is cached is served, and what is not may find no room"
        )
    if cache.max_size_bytes is not None and cache.pinned_bytes >= _MOSTLY_PINNED * cache.max_size_bytes:
        found.append(
            f"{format_size(cache.pinned_bytes)} of the {format_size(cache.max_size_bytes)} that the cache may take are "
            "pinned, and little is left for others: `hubctl unpin`, or a larger cache.max_size"
        )
    return found
