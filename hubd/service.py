"""The composition root: builds everything, owns the TaskGroup, and knows the order of starting and stopping.

Law: the cache is held before anything in it is touched, the socket appears last, and a stop answers every waiter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import time
from collections.abc import Coroutine
from typing import Any

from hubd.api.inventory import Inventory
from hubd.api.routes import Api, application
from hubd.api.server import ApiServer, ListeningSocket
from hubd.config import Place, Settings
from hubd.fetching.grace import GraceLeases
from hubd.fetching.means import Means
from hubd.fetching.progress import Counters
from hubd.fetching.resolver import Resolver
from hubd.fetching.sources import HttpSource
from hubd.store import recovery
from hubd.store.adoption import adopt
from hubd.store.layout import StoreLayout
from hubd.store.records import Records
from hubd.store.trees import Trees

log = logging.getLogger(__name__)

STOP_SECONDS = 4.5
_WATCH_SECONDS = 2.0


async def serve(settings: Settings, place: Place) -> None:
    """Runs the daemon until it is told to stop, is idle for too long, or has lost its socket.

    Raises `CacheUnusable` and `SocketUnusable` before it serves.
    """
    _raise_file_limit()
    os.umask(0o022)
    with adopt(
        place.cache, socket=place.socket, allow_network_filesystem=settings.cache.allow_network_filesystem
    ) as hold:
        layout = hold.layout
        recovery.clear(layout)
        listening = ListeningSocket(place.socket, layout.root, mode=0o600 if place.user else 0o666)
        try:
            async with HttpSource(settings.network) as source:
                await _Service(settings, layout, source, listening).run()
        finally:
            listening.close()


class _Service:
    def __init__(self, settings: Settings, layout: StoreLayout, source: HttpSource, listening: ListeningSocket) -> None:
        self._settings = settings
        self._listening = listening
        self._stopping = asyncio.Event()
        self._reason = ""
        self._last_busy = time.monotonic()
        self._group = asyncio.TaskGroup()
        self._means = Means(
            settings=settings,
            trees=Trees(layout),
            records=Records(layout),
            source=source,
            grace=GraceLeases(),
            slots=asyncio.Semaphore(settings.network.concurrent_fetches),
            counters=Counters(),
        )
        self._resolver = Resolver(self._means, layout, self._spawn)
        inventory = Inventory(self._means, layout, listening.path, lambda: self._server.connections())
        if listening.warning is not None:
            log.warning("%s", listening.warning)
            inventory.warnings.append(listening.warning)
        app = application(Api(self._resolver, inventory).routes, os.geteuid())
        self._server = ApiServer(app, listening, max_connections=settings.api.connections)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        try:
            async with self._group as group:
                await self._server.start()
                log.info("ready on %s, cache %s", self._listening.path, self._means.trees.layout.root)
                mending = group.create_task(self._mend())
                watching = group.create_task(self._watch())
                await self._stopping.wait()
                log.info("stopping: %s", self._reason)
                # What still runs after this has nobody to answer to, and nothing to lose: any kill is survived.
                loop.call_later(STOP_SECONDS, os._exit, 0)
                mending.cancel()
                watching.cancel()
                self._resolver.stop()
                await self._server.stop()
        finally:
            self._means.grace.release_all()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)  # who is impatient asks again; there is nothing left to stop

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(work)

    def _stop(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._stopping.set()

    async def _mend(self) -> None:
        """Recovery's slow part, behind the serving daemon."""
        try:
            report = await asyncio.to_thread(
                recovery.mend, self._means.trees, self._means.records, self._means.direct_until
            )
        except Exception:
            log.exception("recovery did not finish; the next start tries again")
        else:
            log.info("recovery: %s", report)

    async def _watch(self) -> None:
        """Ends the daemon when its socket is no longer its own, or when nobody needed it for long."""
        idle_exit = self._settings.api.idle_exit
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not self._listening.is_ours():
                self._stop(f"{self._listening.path} is not ours any more")
            if self._server.connections() or self._resolver.fetches():
                self._last_busy = time.monotonic()
            elif idle_exit is not None and time.monotonic() - self._last_busy >= idle_exit:
                self._stop(f"idle for {idle_exit:.0f} s")


def _raise_file_limit() -> None:
    """Every connection, lease and transfer is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
