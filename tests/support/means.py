"""What fetches share, on a cache of a test's own, without a daemon around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any

from hubd.config import NetworkSettings, Settings
from hubd.events import Events
from hubd.fetching.counters import Counters
from hubd.fetching.means import Means
from hubd.fetching.room import Room
from hubd.fetching.slots import Slots
from hubd.fetching.users import Users
from hubd.fetching.verifier import Verifier
from hubd.network.origins import Origins
from hubd.network.sources import HttpSource
from hubd.store.budget import Limits
from hubd.store.disk import Disk
from hubd.store.eviction import Evictor
from hubd.store.layout import StoreLayout
from hubd.store.partials import Partials
from hubd.store.records import Records
from hubd.store.trees import Trees

NETWORK = NetworkSettings(allow_http=True, allow_private_addresses=True, retries=0)


Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


def means_of(
    layout: StoreLayout,
    source: HttpSource,
    threads: Executor,
    partials_disk: Disk | None = None,
    spawn: Spawn = asyncio.ensure_future,
) -> Means:
    """All of it real; one fetch at a time, no limits, and start-up is over."""
    trees, records, counters, users = Trees(layout), Records(layout), Counters(), Users()
    partials = Partials(layout, trees.ledger, 1000.0, partials_disk)
    evictor = Evictor(trees, records, partials)
    room = Room(Limits(), trees, evictor, counters, users, events := Events())
    room.scanned.set()
    return Means(
        settings=Settings(network=NETWORK),
        trees=trees,
        records=records,
        partials=partials,
        source=Origins(source),
        verifier=Verifier(trees, records, spawn),
        threads=threads,
        slots=Slots(1),
        evictor=evictor,
        room=room,
        counters=counters,
        users=users,
        events=events,
    )
