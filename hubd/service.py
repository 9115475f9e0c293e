"""The composition root: builds everything, owns the TaskGroup, and knows the order of starting and stopping.

Law: the cache is held before anything in it is touched, the socket appears last, and a stop answers every waiter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple

from hubclient.contract.errors import HubError
from hubd import allocator, systemd
from hubd.api.fetches import FetchRoutes
from hubd.api.inventory import Inventory
from hubd.api.listening import ListeningSocket
from hubd.api.routes import Api, application
from hubd.api.server import ApiServer, raise_file_limit
from hubd.api.upkeep import Upkeep
from hubd.api.verifying import Verifying
from hubd.api.watchdog import Watchdog
from hubd.config import Place, Settings
from hubd.fetching import clock
from hubd.fetching.chores import Chores
from hubd.fetching.counters import Counters
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.fetching.room import Room, limits_of
from hubd.fetching.slots import Slots
from hubd.fetching.users import Users
from hubd.fetching.verifier import Verifier
from hubd.fetching.watch import Watch
from hubd.network.credentials import MachineCredentials
from hubd.network.origins import Origins
from hubd.network.pace import Pace
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store import recovery
from hubd.store.adoption import adopt
from hubd.store.eviction import Evictor
from hubd.store.hold import CacheHold
from hubd.store.partials import Partials
from hubd.store.records import Records
from hubd.store.suspects import withdraw_suspects
from hubd.store.trees import Trees

log = logging.getLogger(__name__)

STOP_SECONDS = 4.5
_WATCH_SECONDS = 2.0
_MAX_FILES = 65536
_FILES_PER_FETCH = 32
_OTHER_FILES = 128
_OTHER_THREADS = 32


async def serve(settings: Settings, place: Place, passed: socket.socket | None = None) -> None:
    """Runs the daemon until it is told to stop, is idle for too long, or has lost its socket.

    `passed`: a socket that listens at the place's path already, and stays for the next daemon. Raises `CacheUnusable`,
    `SocketUnusable` and `ConfigError` before it serves.
    """
    machine = MachineCredentials(settings.credential)
    os.umask(0o022)
    # Whoever started this may ignore it, and then no child could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    allocator.keep_freed_memory()
    systemd.notify(f"STATUS=opening the cache {place.cache}")
    allow_network = settings.cache.allow_network_filesystem
    with adopt(place.cache, socket=place.socket, allow_network_filesystem=allow_network) as hold:
        trees = Trees(hold.layout)
        partials = Partials(hold.layout, trees.ledger, settings.cache.keep_partial)
        recovery.clear(hold.layout, partials)
        listening = ListeningSocket.at(place, hold.layout.root, passed)
        # An archive directory on a server that hangs keeps its threads; there are enough for all others.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_OTHER_THREADS, "other"))
        # Fetches never wait for a thread that something else keeps.
        threads = ThreadPoolExecutor(3 * settings.network.concurrent_fetches + 4, "fetch")
        try:
            async with Session(settings.network, settings.host, machine) as session:
                http = HttpSource(session, settings.kaggle.url)
                source = Origins(http, settings.mirror, offline=settings.network.offline)
                store = _Store(hold, trees, Records(hold.layout), partials)
                await _Service(settings, store, source, threads, listening).run()
        finally:
            listening.close()
            # The next daemon may have the cache only when nothing of this one works in it any more.
            await asyncio.to_thread(threads.shutdown)
            await asyncio.get_running_loop().shutdown_default_executor()
        try:
            hold.stop()
        except HubError as error:
            log.warning("the next start will take this for an unclean stop: %s", error)


class _Store(NamedTuple):
    """The parts of the cache that this daemon holds."""

    hold: CacheHold
    trees: Trees
    records: Records
    partials: Partials


class _Service:
    def __init__(
        self,
        settings: Settings,
        store: _Store,
        source: Origins,
        threads: Executor,
        listening: ListeningSocket,
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._stopping = asyncio.Event()
        self._reason = ""
        self._group = asyncio.TaskGroup()
        self._hold = store.hold
        trees, records, partials = store.trees, store.records, store.partials
        counters, users = Counters(), Users()
        evictor = Evictor(trees, records, partials)
        self._means = Means(
            settings=settings,
            trees=trees,
            records=records,
            partials=partials,
            source=source,
            verifier=Verifier(trees, records, self._spawn),
            threads=threads,
            slots=Slots(settings.network.concurrent_fetches),
            evictor=evictor,
            room=Room(limits_of(settings.cache, trees.layout.root), trees, evictor, counters, users),
            counters=counters,
            users=users,
            pace=Pace(settings.network.max_rate, settings.network.prefetch_max_rate),
        )
        self._resolver = Resolver(self._means, self._spawn)
        self._chores = Chores(self._means, self._hold, self._warn, is_busy=lambda: bool(self._resolver.fetches()))
        self._cache_watch = Watch(self._means, self._resolver, self._warn)
        self._inventory = Inventory(self._means, self._cache_watch, listening.path, lambda: self._server.connections())
        if listening.warning is not None:
            self._warn(listening.warning)
        for host in settings.host:
            if not host.verify:
                self._warn(f"the certificates of {host.name} are not verified: whoever is on the way can pose as it")
        others = (
            *FetchRoutes(self._resolver).routes,
            *Upkeep(self._means, self._inventory).routes,
            *Verifying(self._means, self._resolver).routes,
        )
        app = application(Api(self._resolver, self._inventory, others).routes, os.geteuid())
        self._server = ApiServer(app, listening, max_connections=self._most_connections())
        self._watchdog = Watchdog(listening.path, threads, self._in_short)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        means = self._means
        try:
            suspects = await asyncio.to_thread(withdraw_suspects, self._hold, means.trees, means.records)
            if suspects:
                log.warning("the last stop was not clean: %d modules are checked before they are served", len(suspects))
            async with self._group as group:
                await self._server.start()
                own = self._chores
                works = self._watchdog.run(self._ready), own.recover(suspects), own.tidy(), own.make_room(), own.close()
                others = self._cache_watch.run(), self._watch(), clock.follow(means)
                chores = [group.create_task(work) for work in (*works, *others)]
                await self._stopping.wait()
                log.info("stopping: %s", self._reason)
                systemd.notify("STOPPING=1", f"STATUS=stopping: {self._reason}")
                # What still runs after this has nobody to answer to, and nothing to lose: any kill is survived.
                loop.call_later(STOP_SECONDS, os._exit, 0)
                for chore in chores:
                    chore.cancel()
                self._resolver.stop()
                means.verifier.stop()
                await self._server.stop()
        finally:
            self._inventory.close()
            means.grace.release_all()
            means.verifier.close()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)  # who is impatient asks again; there is nothing left to stop

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(work)

    def _ready(self) -> None:
        log.info("ready on %s, cache %s", self._listening.path, self._means.trees.layout.root)

    def _in_short(self) -> str:
        """What ``systemctl status`` shows."""
        return f"{len(self._resolver.fetches())} fetches, {self._server.connections()} connections"

    def _stop(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._stopping.set()

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        self._inventory.warnings.append(text)

    async def _watch(self) -> None:
        """Ends the daemon when its socket is no longer its own, or when nobody needed it for long."""
        idle_exit = self._settings.api.idle_exit
        busy_at, activity = time.monotonic(), self._server.activity()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not self._listening.is_ours():
                self._stop(f"{self._listening.path} is not ours any more")
            if self._server.connections() or self._resolver.fetches() or self._server.activity() != activity:
                busy_at, activity = time.monotonic(), self._server.activity()
            elif idle_exit is not None and time.monotonic() - busy_at >= idle_exit:
                self._stop(f"idle for {idle_exit:.0f} s")

    def _most_connections(self) -> int:
        """As many as the settings say, but leaving files for fetches and leases: every connection is a file."""
        wanted = self._settings.api.connections
        others = _OTHER_FILES + _FILES_PER_FETCH * self._settings.network.concurrent_fetches
        possible = max(1, raise_file_limit(_MAX_FILES) - others)
        if possible < wanted:
            self._warn(f"api.connections is {wanted}, and the limit of open files allows {possible}")
        return min(wanted, possible)
