"""The administrator's routes: what is removed, pinned and pruned.

Law: nothing is removed but what was named or chosen by the rules that the request states, and each removal is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from aiohttp import web

from hubclient.contract.errors import NotFound, RequestInvalid
from hubclient.contract.layout import is_digest
from hubd.api import messages
from hubd.api.access import Level
from hubd.api.inventory import Inventory
from hubd.api.routes import Route, answer, body, events
from hubd.fetching import happenings
from hubd.fetching.means import Means
from hubd.store.eviction import Victim
from hubd.store.records import Record

log = logging.getLogger(__name__)


class Upkeep:
    """The handlers."""

    def __init__(self, means: Means, inventory: Inventory) -> None:
        self._means = means
        self._inventory = inventory
        self.routes: tuple[Route, ...] = (
            Route(
                "DELETE",
                "/v1/modules/{key}",
                Level.ADMIN,
                self.remove,
                "Remove what is cached of a handle, and with the last handle its tree",
                messages.Removed,
                query=("force",),
            ),
            Route("PUT", "/v1/modules/{key}/pin", Level.ADMIN, self.pin, "Keep a module for good", messages.Module),
            Route("DELETE", "/v1/modules/{key}/pin", Level.ADMIN, self.unpin, "Let it go again", messages.Module),
            Route(
                "POST",
                "/v1/prune",
                Level.ADMIN,
                self.prune,
                "Remove what was not used for long, or down to a size; NDJSON",
                None,
                messages.PruneRequest,
                events=(messages.WaitingEvent, messages.PrunedEvent, messages.PruneDone, messages.FailedEvent),
            ),
        )

    async def remove(self, request: web.Request) -> web.StreamResponse:
        key, means = _key(request), self._means
        force = request.query.get("force", "false")
        if force not in ("true", "false"):
            raise RequestInvalid("force must be true or false")
        await means.room.scanned.wait()
        key = await means.meant(key, None)
        entry = means.records.catalog.get(key)
        if entry is not None and (inode := means.trees.lease_inode(entry.digest)) is not None:
            # Whoever was told the path in the last seconds and has no lease yet asks again: it is no user to wait for.
            means.grace.release(inode)
        removed = await means.to_its_end(lambda: means.evictor.remove(key, force=force == "true"))
        means.litter.set()
        log.info("removed %s, %d bytes", removed.entry.key, removed.freed_bytes)
        happenings.evicted(means.events, [removed.entry], removed.freed_bytes, "removed")
        return answer(
            messages.Removed(
                handle=removed.entry.handle,
                key=key,
                digest=removed.entry.digest,
                freed_bytes=removed.freed_bytes,
                shared_with=list(removed.shared_with),
            )
        )

    async def pin(self, request: web.Request) -> web.StreamResponse:
        return await self._set_pinned(request, pinned=True)

    async def unpin(self, request: web.Request) -> web.StreamResponse:
        return await self._set_pinned(request, pinned=False)

    async def _set_pinned(self, request: web.Request, *, pinned: bool) -> web.StreamResponse:
        key, means = _key(request), self._means

        def change(now: Record | None) -> Record | None:
            return now.model_copy(update={"pinned": pinned}) if now is not None else None

        key = await means.meant(key, None)
        if await means.to_its_end(lambda: means.amend(key, change, is_use=False)) is None:
            raise NotFound("the cache has no module of this key")
        return answer(await self._inventory.module(key, None))

    async def prune(self, request: web.Request) -> web.StreamResponse:
        asked = await body(request, messages.PruneRequest)
        if asked.older_than_seconds is None and asked.to_size_bytes is None:
            raise RequestInvalid("say what is to go: older_than_seconds, to_size_bytes, or both")
        await self._means.room.scanned.wait()
        return await events(request, self._pruned(asked))

    async def _pruned(self, asked: messages.PruneRequest) -> AsyncGenerator[messages.Answer]:
        means = self._means
        older_than = None if asked.older_than_seconds is None else time.time() - asked.older_than_seconds
        victims = iter(
            means.evictor.prune(older_than=older_than, to_size_bytes=asked.to_size_bytes, dry_run=asked.dry_run)
        )
        modules = freed_bytes = 0
        try:
            while (victim := await means.to_its_end(lambda: next(victims, None))) is not None:
                if victim.removed or (asked.dry_run and not victim.in_use):
                    modules += len(victim.handles)
                    freed_bytes += victim.disk_bytes
                if victim.removed:
                    means.counters.evicted += 1
                    means.counters.evicted_bytes += victim.disk_bytes
                    log.info("pruned %s, %d bytes", victim.name[:12], victim.disk_bytes)
                    happenings.evicted(means.events, victim.entries, victim.disk_bytes, "pruned")
                yield _pruned_event(victim)
        finally:
            means.litter.set()  # the client may have left in the middle
        kept = await asyncio.to_thread(means.evictor.kept)
        yield messages.PruneDone(
            modules=modules,
            freed_bytes=freed_bytes,
            used_bytes=means.trees.ledger.used_bytes,
            dry_run=asked.dry_run,
            pinned_bytes=kept.pinned_bytes,
            leased_bytes=kept.leased_bytes,
            in_flight_bytes=kept.in_flight_bytes,
        )


def _pruned_event(victim: Victim) -> messages.PrunedEvent:
    return messages.PrunedEvent(
        digest=victim.name,
        handles=list(victim.handles),
        size_bytes=victim.size_bytes,
        disk_bytes=victim.disk_bytes,
        last_used_at=datetime.fromtimestamp(victim.last_used, UTC),
        removed=victim.removed,
        reason="in-use" if victim.in_use else None,
    )


def _key(request: web.Request) -> str:
    key = request.match_info["key"]
    if not is_digest(key):
        raise RequestInvalid("a key is 64 hex digits")
    return key
