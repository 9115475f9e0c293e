"""What is in the cache and how the daemon is, for listings and status. Reads; changes nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from hubclient.contract.errors import NotFound, RequestInvalid
from hubclient.contract.layout import LAYOUT_VERSION, is_digest
from hubd import __version__
from hubd.api import messages
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.fetching.watch import Watch
from hubd.store.records import Record

T = TypeVar("T")

_MEASURE_SECONDS = 1.0


class Inventory:
    """Answers from records and manifests, in threads: a large cache has many."""

    def __init__(self, means: Means, watch: Watch, socket: str, connections: Callable[[], int]) -> None:
        self._means = means
        self._layout = means.trees.layout
        # One thread: however many ask for listings, the others are free for what cannot wait.
        self._thread = ThreadPoolExecutor(1, "inventory")
        self._measured: tuple[float, tuple[int, int, int]] | None = None
        self._watch = watch
        self._socket = socket
        self._connections = connections
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self.warnings: list[str] = []

    async def modules(self, after: str, limit: int) -> messages.Modules:
        """A page: at most `limit` modules whose keys come after `after`."""
        if after and not is_digest(after):
            raise RequestInvalid("after must be a key: 64 hex digits")
        return await self._in_thread(lambda: self._modules(after, limit))

    def _modules(self, after: str, limit: int) -> messages.Modules:
        page: list[messages.Module] = []
        for key in sorted(filter(after.__lt__, self._means.records.keys())):
            if len(page) == limit:
                return messages.Modules(modules=page, next=page[-1].key)
            if (record := self._means.records.get(key)) is not None:
                page.append(self._module(key, record))
        return messages.Modules(modules=page, next=None)

    async def module(self, key: str) -> messages.Signatures:
        """One module with its signatures; `NotFound` when the cache has none of that key."""
        if not is_digest(key):
            raise RequestInvalid("a key is 64 hex digits")
        return await self._in_thread(lambda: self._signatures(key))

    def _signatures(self, key: str) -> messages.Signatures:
        record = self._means.records.get(key)
        manifest = self._means.trees.manifest(record.digest) if record is not None else None
        if record is None or manifest is None:
            raise NotFound("the cache has no module of this key")
        return messages.Signatures(
            **self._module(key, record).model_dump(),
            content_digest=manifest.content_digest,
            format=manifest.format,
            files={path: entry.model_dump() for path, entry in manifest.files.items()},
            meta_graphs=manifest.meta_graphs,
        )

    def _module(self, key: str, record: Record) -> messages.Module:
        last_used = self._means.records.last_used(key)
        return messages.Module(
            handle=record.handle,
            key=key,
            digest=record.digest,
            path=self._layout.module(record.digest),
            size_bytes=record.size_bytes,
            immutable=record.immutable,
            fetched_at=record.fetched_at,
            last_used_at=datetime.fromtimestamp(last_used, UTC) if last_used is not None else record.fetched_at,
            pinned=record.pinned,
        )

    async def status(self, resolver: Resolver) -> messages.Status:
        modules, size_bytes, free_bytes = await self._in_thread(self._measure)
        counters, health = self._means.counters, self._means.trees.health
        flights = resolver.fetches()
        return messages.Status(
            version=__version__,
            pid=os.getpid(),
            uid=os.geteuid(),
            socket=self._socket,
            started_at=self._started_at,
            uptime_seconds=time.monotonic() - self._started,
            cache=messages.CacheStatus(
                dir=self._layout.root,
                layout=LAYOUT_VERSION,
                modules=modules,
                size_bytes=size_bytes,
                free_bytes=free_bytes,
                watch=self._watch.mode,
            ),
            fetches=len(flights),
            waiters=sum(flight.waiters for flight in flights),
            connections=self._connections(),
            counters=messages.Counters(**vars(counters), damaged=health.damaged, repaired=health.repaired),
            warnings=self.warnings,
        )

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _measure(self) -> tuple[int, int, int]:
        """Modules, the bytes of their trees (each counted once), and the bytes that are free.

        Those who ask within a moment share an answer.
        """
        now = time.monotonic()
        if self._measured is not None and now - self._measured[0] < _MEASURE_SECONDS:
            return self._measured[1]
        sizes: dict[str, int] = {}
        modules = 0
        for _, record in self._means.records.all():
            modules += 1
            sizes[record.digest] = record.size_bytes
        disk = os.statvfs(self._layout.root)
        measured = modules, sum(sizes.values()), disk.f_bavail * disk.f_frsize
        self._measured = now, measured
        return measured
