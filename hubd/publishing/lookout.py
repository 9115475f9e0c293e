"""What the dashboard shows, gathered with the eyes of nobody in particular.

Law: however many look, it is gathered once a second at most; and what is not for everybody is not in it, so that
whatever shows it cannot tell it. Where only some users may ask for modules, it is figures alone.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from hubclient.contract.errors import TooBusy
from hubd.api import messages
from hubd.api.inventory import Inventory
from hubd.api.progress import fetch_message
from hubd.config import WebSettings
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.publishing.history import History, Totals, totals_of
from hubd.publishing.lately import NOBODY, Failure, Lately, Tally

MOST_MODULES = 100
WEB_CONNECTIONS = 64  # a quarter of them for those who only look
_MOST_FETCHES = 50
_GATHER_SECONDS = 1.0
_SAMPLE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Overview:
    """The daemon at one moment. `modules` and `fetches` are the first ones of `module_count` and `fetch_count`."""

    at: datetime
    status: messages.Status
    capacity_bytes: int  # what the cache may take, as full as the disk is now
    is_restricted: bool
    minutes: tuple[Totals, ...]
    fetches: tuple[messages.Fetch, ...]
    fetch_count: int
    modules: tuple[messages.Module, ...]
    module_count: int
    warnings: tuple[str, ...]
    failures: tuple[Failure, ...]
    tallies: tuple[Tally, ...]


class Lookout:
    """`run` it, so that it knows what was before anybody looked."""

    def __init__(self, means: Means, resolver: Resolver, inventory: Inventory) -> None:
        self._means = means
        self._resolver = resolver
        self._inventory = inventory
        self._history = History()
        self._lately = Lately()
        self._gathering = asyncio.Lock()
        self._seen: tuple[float, Overview] | None = None

    @property
    def settings(self) -> WebSettings:
        """Those that hold now."""
        return self._means.settings.web

    async def now(self) -> Overview:
        """As of a second ago at most. Raises `OSError` where the disk cannot be asked."""
        async with self._gathering:
            now = time.monotonic()
            if self._seen is None or now - self._seen[0] >= _GATHER_SECONDS:
                self._seen = now, await self._gather()
            return self._seen[1]

    async def run(self) -> None:
        """Never ends by itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sample())
            group.create_task(self._listen())

    async def application(self) -> web.Application:
        """The dashboard over what is seen here."""
        return await asyncio.to_thread(_dashboard, self)

    async def _sample(self) -> None:
        while True:
            self._observe()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _listen(self) -> None:
        while True:
            with suppress(TooBusy), self._means.events.watching(NOBODY) as events:
                async for event in events:
                    self._lately.noticed(event)
            # Dismissed, since who may know of what has changed; or as many watch as may.
            await asyncio.sleep(_PAUSE_SECONDS)

    def _observe(self) -> None:
        self._history.observe(totals_of(self._means.counters))
        self._lately.observe(self._means.counters.errors)

    async def _gather(self) -> Overview:
        self._observe()
        means = self._means
        is_restricted = means.settings.access.is_restricted
        status = await self._inventory.status(self._resolver, NOBODY)
        capacity_bytes = await asyncio.to_thread(means.room.capacity)
        modules, module_count = await self._inventory.recently_used(0 if is_restricted else MOST_MODULES, NOBODY)
        flights = [] if is_restricted else self._resolver.fetches(NOBODY)
        return Overview(
            at=datetime.now(UTC),
            status=status,
            capacity_bytes=capacity_bytes,
            is_restricted=is_restricted,
            minutes=self._history.minutes(),
            fetches=tuple(fetch_message(flight, self._resolver, NOBODY) for flight in flights[:_MOST_FETCHES]),
            fetch_count=len(self._resolver.fetches()),
            modules=tuple(modules),
            module_count=module_count,
            warnings=() if is_restricted else tuple(status.warnings),
            failures=() if is_restricted else tuple(self._lately.failures()),
            tallies=tuple(self._lately.tallies()),
        )


def _dashboard(lookout: Lookout) -> web.Application:
    from hubd.publishing.dashboard import Dashboard  # who shows no page does without templates

    return Dashboard(lookout).application()
