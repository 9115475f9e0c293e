"""``GET /metrics``: on the socket, and where the settings say so on a TCP port that has nothing else.

Law: however often it is asked for, the figures are gathered once a second at most, beside the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from hubd import figures
from hubd.api.access import Level
from hubd.api.errors import problems
from hubd.api.inventory import Inventory
from hubd.api.routes import Route
from hubd.api.server import ApiServer
from hubd.fetching.fleet import Fleet
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.figures import Cache, Snapshot
from hubd.prefetching.keeper import Keeper

log = logging.getLogger(__name__)

_GATHER_SECONDS = 1.0
_LEASES_SECONDS = 10.0
TCP_CONNECTIONS = 16
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Sources:
    """Where the figures come from."""

    means: Means
    resolver: Resolver
    inventory: Inventory
    keeper: Keeper
    server: Callable[[], ApiServer]


class MetricsPage:
    """The page, as of a second ago at most."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._gathering = asyncio.Lock()
        self._page: tuple[float, bytes] | None = None
        self._leased: tuple[float, tuple[int, int]] | None = None
        path, summary = "/metrics", "Figures for Prometheus"
        self.routes: tuple[Route, ...] = (
            Route("GET", path, Level.USER, self.answer, summary, None, content_type="text/plain"),
        )

    async def answer(self, _: web.Request) -> web.StreamResponse:
        async with self._gathering:
            now = time.monotonic()
            if self._page is None or now - self._page[0] >= _GATHER_SECONDS:
                self._page = now, await self._gather()
            page = self._page[1]
        return web.Response(body=page, headers={"Content-Type": _CONTENT_TYPE, "Cache-Control": "no-store"})

    async def application(self) -> web.Application:
        """The page alone."""
        app = web.Application(middlewares=[problems])
        app.router.add_get("/metrics", self.answer)
        return app

    async def _gather(self) -> bytes:
        sources, means, server = self._sources, self._sources.means, self._sources.server()
        flights, config, health = sources.resolver.fetches(), sources.inventory.config, means.trees.health
        cache, warnings = await self._look()
        snapshot = Snapshot(
            counters=means.counters,
            durations=means.durations,
            damaged=health.damaged,
            repaired=health.repaired,
            fetches=Counter(flight.work.progress.state for flight in flights),
            waiters=sum(flight.urgent_waiters for flight in flights),
            connections=server.connections(),
            max_connections=server.max_connections,
            refused_connections=server.refused,
            warnings=warnings,
            config_loaded_at=config.loaded_at.timestamp() if config is not None else math.nan,
            config_is_taken=config is not None and config.problem is None,
            cache=cache,
            prefetch_files=Counter(file.state for file in sources.keeper.status()),
            fleet=_fleet(means.fleet) if means.fleet is not None else None,
        )
        return await asyncio.to_thread(_shown, snapshot)

    async def _look(self) -> tuple[Cache | None, int]:
        """The cache, and how many warnings there are; None when its disk cannot be asked, which is a warning too."""
        means, inventory = self._sources.means, self._sources.inventory
        try:
            status = await inventory.cache()
            warnings = len(await inventory.all_warnings(status))
            leased_trees, leased_bytes = await asyncio.to_thread(self._leases)
            cache = Cache(
                modules=len(means.records.catalog) - len(means.records.catalog.private()),
                used_bytes=status.used_bytes,
                capacity_bytes=means.room.capacity(),
                pinned_bytes=status.pinned_bytes,
                in_flight_bytes=status.in_flight_bytes,
                partial_bytes=status.partial_bytes,
                leased_bytes=leased_bytes,
                leased_trees=leased_trees,
                free_bytes=status.free_bytes,
                min_free_bytes=status.min_free_bytes,
                max_size_bytes=status.max_size_bytes,
            )
        except OSError as error:
            log.debug("the cache could not be looked at for the metrics: %s", error)
            return None, 1
        return cache, warnings

    def _leases(self) -> tuple[int, int]:
        """How many trees somebody holds, and their bytes on disk, as of some seconds ago: each is a file to open."""
        now = time.monotonic()
        if self._leased is None or now - self._leased[0] >= _LEASES_SECONDS:
            means = self._sources.means
            held = [tree.size_bytes for tree in means.evictor.candidates() if means.trees.is_held(tree.name)]
            self._leased = now, (len(held), sum(held))
        return self._leased[1]


def _fleet(fleet: Fleet) -> figures.Fleet | None:
    if fleet.tier is None:
        return None
    counted = fleet.tier.figures
    return figures.Fleet(
        state=fleet.tier.status.state,
        found=counted.found,
        claimed=counted.claimed,
        alone=counted.alone,
        waited=counted.waited,
        taken_over=counted.taken_over,
        uploaded=counted.uploaded,
        uploaded_bytes=counted.uploaded_bytes,
        failed_uploads=fleet.uploads.failures,
        uploads_under_way=len(fleet.uploads.under_way()),
    )


def _shown(snapshot: Snapshot) -> bytes:
    from hubd import metrics  # whom nobody scrapes does without it

    return metrics.text(snapshot)
