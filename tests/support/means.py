"""What fetches share, on a cache of a test's own, without a daemon around it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from hubd.config import NetworkSettings, Settings
from hubd.fetching.counters import Counters
from hubd.fetching.means import Means
from hubd.fetching.room import Room
from hubd.fetching.sources import HttpSource
from hubd.fetching.users import Users
from hubd.store.budget import Limits
from hubd.store.disk import Disk
from hubd.store.eviction import Evictor
from hubd.store.layout import StoreLayout
from hubd.store.partials import Partials
from hubd.store.records import Records
from hubd.store.trees import Trees

NETWORK = NetworkSettings(allow_http=True, allow_private_addresses=True)


def means_of(layout: StoreLayout, source: HttpSource, threads: Executor, partials_disk: Disk | None = None) -> Means:
    """All of it real; one fetch at a time."""
    trees, records, counters, users = Trees(layout), Records(layout), Counters(), Users()
    partials = Partials(layout, trees.ledger, 1000.0, partials_disk)
    evictor = Evictor(trees, records, partials)
    return Means(
        settings=Settings(network=NETWORK),
        trees=trees,
        records=records,
        partials=partials,
        source=source,
        threads=threads,
        slots=asyncio.Semaphore(1),
        evictor=evictor,
        room=Room(Limits(), trees, evictor, counters, users),
        counters=counters,
        users=users,
    )
