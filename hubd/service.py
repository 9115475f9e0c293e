"""The composition root: builds everything, owns the TaskGroup, and knows the order of starting and stopping.

Law: the cache is held before anything in it is touched, the socket appears last, and a stop answers every waiter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from hubclient.contract.errors import HubError
from hubd import allocator, systemd
from hubd.api.access import Gate, Policy
from hubd.api.events import EventRoutes
from hubd.api.fetches import FetchRoutes
from hubd.api.fleet import FleetRoutes
from hubd.api.inventory import Inventory
from hubd.api.listening import ListeningSocket
from hubd.api.metrics import TCP_CONNECTIONS, MetricsPage, Sources
from hubd.api.routes import Api, application
from hubd.api.server import ApiServer
from hubd.api.tcp_port import TcpPort
from hubd.api.upkeep import Upkeep
from hubd.api.verifying import Verifying
from hubd.api.watchdog import Watchdog
from hubd.applying import Applying, most_connections, threads_for
from hubd.config import Place, Settings
from hubd.ending import Ending
from hubd.events import Events
from hubd.fetching import clock, happenings
from hubd.fetching.chores import Chores
from hubd.fetching.counters import Counters
from hubd.fetching.fleet import Fleet
from hubd.fetching.means import Means
from hubd.fetching.pushing import Pushes
from hubd.fetching.resolver import Resolver
from hubd.fetching.room import Room, limits_of
from hubd.fetching.slots import Slots
from hubd.fetching.threads import GrowingPool
from hubd.fetching.users import Users
from hubd.fetching.verifier import Verifier
from hubd.fetching.watch import Watch
from hubd.network.pace import Pace
from hubd.network.upstream import Upstream
from hubd.objects.standard_places import StandardPlaces
from hubd.prefetching.keeper import Keeper
from hubd.publishing.lookout import WEB_CONNECTIONS, Lookout
from hubd.reload import Reloader, Source
from hubd.store import entrance, recovery
from hubd.store.adoption import adopt
from hubd.store.eviction import Evictor
from hubd.store.hold import CacheHold
from hubd.store.partials import Partials
from hubd.store.records import Records
from hubd.store.suspects import withdraw_suspects
from hubd.store.trees import Trees
from hubd.unpacking.kernel import take_turns

log = logging.getLogger(__name__)

STOP_SECONDS = 4.5
_OTHER_THREADS = 32
_TURN_SECONDS = 0.0001  # the shortest that there is: a hit does not wait until those who unpack have had theirs


async def serve(source: Source, settings: Settings, place: Place, passed: socket.socket | None = None) -> None:
    """Runs the daemon until it is told to stop, is idle for too long, or has lost its socket.

    `passed`: a socket that listens at the place's path already, and stays for the next daemon. Raises `CacheUnusable`,
    `SocketUnusable` and `ConfigError` before it serves.
    """
    upstream = Upstream(settings, StandardPlaces(source.environ) if place.user else None)
    os.umask(0o022)
    # Whoever started this may ignore it, and then no child could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    allocator.keep_freed_memory()
    take_turns(_TURN_SECONDS)
    systemd.notify(f"STATUS=opening the cache {place.cache}")
    allow_network = settings.cache.allow_network_filesystem
    # What a user's own credentials opened is that user's. Another directory may be meant to be read by others.
    is_private = place.user and place.is_usual
    with adopt(place.cache, socket=place.socket, allow_network_filesystem=allow_network, is_private=is_private) as hold:
        entrance.settle(hold.layout.root, settings.access)
        trees = Trees(hold.layout)
        partials = Partials(hold.layout, trees.ledger, settings.cache.keep_partial)
        recovery.clear(hold.layout, partials)
        listening = ListeningSocket.at(place, hold.layout.root, passed)
        # An archive directory on a server that hangs keeps its threads; there are enough for all others.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_OTHER_THREADS, "other"))
        threads = GrowingPool(threads_for(settings), "fetch")
        try:
            async with upstream:
                store = _Store(hold, trees, Records(hold.layout), partials)
                service = _Service(settings, store, upstream, threads, listening, is_private=place.user)
                await service.run(Reloader(source, settings, place, service.applying.apply, service.applying.told))
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
        upstream: Upstream,
        threads: GrowingPool,
        listening: ListeningSocket,
        *,
        is_private: bool,
    ) -> None:
        self._listening = listening
        self._group = asyncio.TaskGroup()
        self._hold = store.hold
        trees, records, partials = store.trees, store.records, store.partials
        counters, users, events = Counters(), Users(), Events()
        evictor = Evictor(trees, records, partials)
        self._means = Means(
            settings=settings,
            trees=trees,
            records=records,
            partials=partials,
            source=upstream,
            verifier=Verifier(trees, records, self._spawn),
            threads=threads,
            slots=Slots(settings.network.concurrent_fetches),
            evictor=evictor,
            room=Room(limits_of(settings.cache, trees.layout.root), trees, evictor, counters, users, events),
            counters=counters,
            users=users,
            events=events,
            pace=Pace(settings.network.max_rate, settings.network.prefetch_max_rate),
            fleet=(fleet := Fleet(upstream.bucket, self._spawn, litter := asyncio.Event())),
            litter=litter,
        )
        self._means.room.give_way, self._means.room.yielding_bytes = fleet.uploads.give_way, fleet.uploads.total_bytes
        self._fleet, self._pushes = fleet, Pushes(self._means, self._spawn)
        trees.health.tell = partial(happenings.of_tree, events, records.catalog)
        self._resolver = Resolver(self._means, self._spawn, self._pushes)
        self._chores = Chores(self._means, self._hold, self._warn, is_busy=lambda: bool(self._resolver.fetches()))
        self._cache_watch = Watch(self._means, self._resolver, self._warn)
        self._keeper = Keeper(self._means, self._resolver)
        self._inventory = Inventory(
            self._means, self._cache_watch, self._keeper, listening.path, lambda: self._server.connections()
        )
        if listening.warning is not None:
            self._warn(listening.warning)
        page = MetricsPage(Sources(self._means, self._resolver, self._inventory, self._keeper, lambda: self._server))
        self._metrics_port = TcpPort("metrics.listen", page.application, TCP_CONNECTIONS)
        self._lookout = Lookout(self._means, self._resolver, self._inventory)
        self._web_port = TcpPort("web.listen", self._lookout.application, WEB_CONNECTIONS)
        others = (
            *page.routes,
            *FetchRoutes(self._resolver).routes,
            *EventRoutes(events).routes,
            *Upkeep(self._means, self._inventory).routes,
            *Verifying(self._means, self._resolver).routes,
            *FleetRoutes(self._means, self._pushes).routes,
        )
        gate = Gate(lambda: Policy(self._means.settings.access, os.geteuid(), is_private))
        app = application(Api(self._resolver, self._inventory, others).routes, gate)
        self._server = ApiServer(app, listening, max_connections=most_connections(settings))
        parts = self._server, self._inventory, self._chores, self._resolver, self._metrics_port, self._web_port
        self.applying = Applying(self._means, upstream, threads, *parts)
        self._watchdog = Watchdog(listening.path, threads, self._in_short)
        self._ending = Ending(self._means, self._resolver, self._server, listening)

    async def run(self, reloader: Reloader) -> None:
        await self._metrics_port.listen(self._means.settings.metrics.listen)
        self.applying.told(reloader.state)
        self._ending.heed_signals(reloader.ask)
        means = self._means
        try:
            suspects = await asyncio.to_thread(withdraw_suspects, self._hold, means.trees, means.records)
            if suspects:
                log.warning("the last stop was not clean: %d modules are checked before they are served", len(suspects))
            await self._keeper.look()  # what it pins is not to be evicted
            async with self._group as group:
                await self._server.start()
                self._fleet.apply(means.settings)
                own = self._chores
                works = own.recover(suspects), own.tidy(), own.make_room(), own.close(), own.mend_views()
                watches = self._watchdog.run(self._ready), reloader.run(), self._cache_watch.run(), self._ending.watch()
                others = self._keeper.run(), clock.follow(means), self._lookout.run(), self._open_page(reloader)
                chores = [group.create_task(work) for work in (*works, *watches, *others)]
                reason = await self._ending.wait()
                log.info("stopping: %s", reason)
                systemd.notify("STOPPING=1", f"STATUS=stopping: {reason}")
                # What still runs after this has nobody to answer to, and nothing to lose: any kill is survived.
                asyncio.get_running_loop().call_later(STOP_SECONDS, os._exit, 0)
                for chore in chores:
                    chore.cancel()
                self._resolver.stop()
                self._pushes.stop()
                means.verifier.stop()
                means.events.close()
                group.create_task(self._fleet.stop())  # beside the rest: the store may take its time
                await self._server.stop()
                await self._metrics_port.stop()
                await self._web_port.stop()
        finally:
            self._inventory.close()
            means.grace.release_all()
            means.verifier.close()
            self._ending.ignore_signals()

    async def _open_page(self, reloader: Reloader) -> None:
        """Beside all else: what draws it takes a while to load, and clients are not to wait for that."""
        await self._web_port.listen(self._means.settings.web.listen)
        self.applying.told(reloader.state)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(work)

    def _ready(self) -> None:
        log.info("ready on %s, cache %s", self._listening.path, self._means.trees.layout.root)

    def _in_short(self) -> str:
        """What ``systemctl status`` shows."""
        return f"{len(self._resolver.fetches())} fetches, {self._server.connections()} connections"

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        self._inventory.warnings.append(text)
