"""All origins, by the settings that hold now.

Law: new settings are for what is opened after them. What is open goes on by those that it began with, and their
connections end when nothing uses them any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from hubclient.contract.errors import Offline
from hubd.config import Settings
from hubd.network.bucket import StoreBucket
from hubd.network.credentials import MachineCredentials
from hubd.network.formats import AnyFormat
from hubd.network.objects import ObjectSource
from hubd.network.origins import Origins
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, Delivery, HttpSource
from hubd.objects.standard_places import StandardPlaces
from hubd.objects.stores import Stores
from hubd.objects.urls import ObjectUrl


class Upstream:
    """`Origins` that can be exchanged. An async context manager, which owns the connections."""

    def __init__(self, settings: Settings, standard: StandardPlaces | None = None) -> None:
        """Reads files of certificates and credentials. Raises `ConfigError` for one that cannot be used.

        `standard`: of a user's own daemon, where that user's credentials for object stores are.
        """
        self._standard = standard
        self._now = Generation(settings, standard)
        self._closing = asyncio.TaskGroup()

    def offline(self, handle: str, *, demanded: bool) -> Offline | None:
        """See `Origins.offline`."""
        return self._now.origins.offline(handle, demanded=demanded)

    @asynccontextmanager
    async def open(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """See `Origins.open`."""
        async with self._now.use() as origins, origins.open(request) as delivery:
            yield delivery

    @asynccontextmanager
    async def bucket(self) -> AsyncIterator[StoreBucket | None]:
        """What the fleet shares, to be used within the block; None where the settings name nothing."""
        generation = self._now
        async with generation.use():
            yield generation.bucket()

    async def prepare(self, settings: Settings) -> Generation:
        """What `exchange` takes. Raises `ConfigError` for a file of certificates or credentials that cannot be used."""
        prepared = await asyncio.to_thread(Generation, settings, self._standard)
        await prepared.start()
        return prepared

    def exchange(self, prepared: Generation) -> None:
        """From now on, what is opened is opened by the settings that were prepared."""
        before, self._now = self._now, prepared
        self._closing.create_task(before.close())

    async def __aenter__(self) -> Self:
        await self._closing.__aenter__()
        await self._now.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._now.close()
        await self._closing.__aexit__(kind, error, trace)


class Generation:
    """Origins by the settings of one time."""

    def __init__(self, settings: Settings, standard: StandardPlaces | None = None) -> None:
        self._session = Session(settings.network, settings.host, MachineCredentials(settings.credential))
        self._stores = self._stores_of(settings, standard)
        objects = self._objects(settings, self._stores)
        # Where an origin leads, only what the settings have for a bucket is shown to it, and nothing that is a user's.
        led_to = objects if standard is None else self._objects(settings, self._stores_of(settings, None))
        archives = HttpSource(self._session, settings.kaggle.url)
        http = AnyFormat(archives, self._session, settings.host, led_to.open_directory)
        self.fleet = settings.fleet
        self.origins = Origins(http, settings.mirror, objects=objects, offline=settings.network.offline)
        self._open = AsyncExitStack()
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def _stores_of(self, settings: Settings, standard: StandardPlaces | None) -> Stores:
        return Stores(settings.object_store, settings.credential, self._session, settings.network, standard)

    def _objects(self, settings: Settings, stores: Stores) -> ObjectSource:
        return ObjectSource(self._session, stores, settings.limits, settings.network.connections_per_fetch)

    async def start(self) -> None:
        await self._open.enter_async_context(self._session)

    def bucket(self) -> StoreBucket | None:
        """See `Upstream.bucket`. Raises `HandleForbidden` when there is no way to it."""
        if self.fleet.store is None:
            return None
        url = ObjectUrl.parse(self.fleet.store)
        return StoreBucket(self._session, self._stores.of(url), url)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Origins]:
        self._users += 1
        self._unused.clear()
        try:
            yield self.origins
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Waits until nothing uses it."""
        await self._unused.wait()
        await self._open.aclose()
