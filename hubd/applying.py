"""What a new configuration changes in a daemon that serves, and what there is to say of the one that holds.

Law: whatever can fail comes first, and changes nothing; then all of it holds, within one step of the event loop.
"""

from __future__ import annotations

import asyncio
import logging

from hubd import logs
from hubd.api import messages
from hubd.api.inventory import Inventory
from hubd.api.server import ApiServer, raise_file_limit
from hubd.api.tcp_port import TcpPort
from hubd.config import Settings
from hubd.events import Event, administrators_alone
from hubd.fetching.chores import Chores
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.fetching.room import limits_of
from hubd.fetching.threads import GrowingPool
from hubd.network.upstream import Upstream
from hubd.publishing.lookout import WEB_CONNECTIONS
from hubd.reload import ConfigState
from hubd.store import entrance

log = logging.getLogger(__name__)

MAX_FILES = 65536
_FILES_PER_FETCH = 32
_OTHER_FILES = 128


class Applying:
    """Has the parts of one daemon, each of which takes its new settings by a method of its own."""

    def __init__(
        self,
        means: Means,
        upstream: Upstream,
        threads: GrowingPool,
        server: ApiServer,
        inventory: Inventory,
        chores: Chores,
        resolver: Resolver,
        metrics_port: TcpPort,
        web_port: TcpPort,
    ) -> None:
        self._means = means
        self._upstream = upstream
        self._threads = threads
        self._server = server
        self._inventory = inventory
        self._chores = chores
        self._resolver = resolver
        self._metrics_port, self._web_port = metrics_port, web_port

    async def apply(self, settings: Settings) -> None:
        """Makes the settings hold, as far as they can while the daemon serves. Raises `ConfigError`."""
        means = self._means
        limits = await asyncio.to_thread(limits_of, settings.cache, means.trees.layout.root)
        prepared = await self._upstream.prepare(settings)
        try:
            await asyncio.to_thread(entrance.settle, means.trees.layout.root, settings.access)
        except BaseException:
            await prepared.close()
            raise
        before, means.settings = means.settings, settings
        self._upstream.exchange(prepared)
        means.room.limits = limits
        means.room.pressed.set()
        means.partials.keep_seconds = settings.cache.keep_partial
        means.litter.set()
        self._threads.grow(threads_for(settings))
        means.slots.resize(settings.network.concurrent_fetches)
        means.pace.change(settings.network.max_rate, settings.network.prefetch_max_rate)
        if means.fleet is not None:
            means.fleet.apply(settings)
        self._server.max_connections = most_connections(settings)
        self._resolver.failures.clear()  # by these settings they may go well
        logs.apply(settings.log)
        if before.access != settings.access:
            means.events.dismiss()
        if before.network.revalidate_after != settings.network.revalidate_after:
            self._chores.views_are_old.set()
        await self._metrics_port.listen(settings.metrics.listen)  # what goes wrong with these is a doubt, no more
        await self._web_port.listen(settings.web.listen)

    def told(self, state: ConfigState) -> None:
        """Of how a reload went, or the start: what status and its warnings say from now on."""
        inventory, doubts, counters = self._inventory, self._doubts(), self._means.counters
        if state.reloads + state.failures > counters.reloads + counters.reload_failures:
            fields = {"problem": state.problem, "restart_needed": list(state.restart_needed)}
            self._means.events.publish(Event("reloaded", fields, administrators_alone))
        counters.reloads, counters.reload_failures = state.reloads, state.failures
        inventory.config = messages.ConfigStatus(
            file=state.file,
            loaded_at=state.loaded_at,
            problem=state.problem,
            restart_needed=list(state.restart_needed),
        )
        for text in doubts:
            if text not in inventory.config_warnings:
                log.warning("%s", text)
        inventory.config_warnings = [*state.warnings(), *doubts]

    def _doubts(self) -> list[str]:
        """What is asked for, and had better not be, or cannot be had."""
        settings, most = self._means.settings, self._server.max_connections
        found = [
            f"the certificates of {host.name} are not verified: whoever is on the way can pose as it"
            for host in settings.host
            if not host.verify
        ]
        if most < (wanted := settings.api.connections):
            found.append(f"api.connections is {wanted}, and the limit of open files allows {most}")
        ports = self._metrics_port, self._web_port
        return [*found, *(port.problem for port in ports if port.problem is not None)]


def threads_for(settings: Settings) -> int:
    """So many that fetches never wait for a thread that something else keeps."""
    return 3 * settings.network.concurrent_fetches + 4


def most_connections(settings: Settings) -> int:
    """As many as the settings say, but leaving files for fetches and leases: every connection is a file."""
    others = _OTHER_FILES + _FILES_PER_FETCH * settings.network.concurrent_fetches
    others += WEB_CONNECTIONS if settings.web.listen is not None else 0
    return min(settings.api.connections, max(1, raise_file_limit(MAX_FILES) - others))
