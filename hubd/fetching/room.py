"""Room in the cache for fetches: set aside before bytes arrive, made by eviction where there is none.

Law: nobody waits for room that cannot come. What could never fit, or what nothing may go for, is an error at once, and
it says what holds the space.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from hubclient.contract.errors import ArchiveTooLarge, CacheFull, HubError
from hubclient.contract.quantities import format_size
from hubd.config import CacheSettings
from hubd.config_values import GB
from hubd.events import Events
from hubd.fetching import happenings
from hubd.fetching.counters import Counters
from hubd.fetching.users import Users
from hubd.store.budget import Limits, capacity_bytes, excess_bytes
from hubd.store.eviction import Evictor
from hubd.store.trees import Trees

log = logging.getLogger(__name__)

_MIN_FREE_BYTES, _MIN_FREE_SHARE = 5 * GB, 0.05
_FIRST_STEP_BYTES = 1 << 20
_LARGEST_STEP_BYTES = 64 << 20
_ROUNDS = 3
_NAMED_UIDS = 20
# What each fetch takes beside spool and files: a few directories, notes of its own, the last block of the spool.
_BESIDE_BYTES = 32 << 10


def limits_of(cache: CacheSettings, root: str) -> Limits:
    """What the cache may take on the file system that it lies on."""
    disk = os.statvfs(root)
    usual_bytes = min(_MIN_FREE_BYTES, int(_MIN_FREE_SHARE * disk.f_blocks * disk.f_frsize))
    return Limits(
        max_size_bytes=cache.max_size,
        min_free_bytes=usual_bytes if cache.min_free is None else cache.min_free,
        high_water=cache.high_water,
        low_water=cache.low_water,
    )


class Room:
    """The budget of one cache. For the event loop alone; what blocks runs in threads.

    `scanned` is set once the ledger knows all that lay in the cache at start.
    """

    def __init__(
        self, limits: Limits, trees: Trees, evictor: Evictor, counters: Counters, users: Users, events: Events
    ) -> None:
        self.limits = limits
        self.scanned = asyncio.Event()
        #: asked before anybody is refused room: whether something went that nobody waits for
        self.give_way: Callable[[], Awaitable[bool]] = _nothing_goes
        #: how much that would free
        self.yielding_bytes: Callable[[], int] = lambda: 0
        #: set when the cache may have passed its high water mark
        self.pressed = asyncio.Event()
        self._trees = trees
        self._evictor = evictor
        self._counters = counters
        self._users = users
        self._events = events
        self._evicting = asyncio.Lock()

    def capacity(self) -> int:
        """What the cache may take in all, in bytes, as the disk is now."""
        ledger, disk = self._trees.ledger, os.statvfs(self._trees.layout.root)
        on_disk_bytes = ledger.used_bytes - ledger.unwritten_bytes
        return capacity_bytes(self.limits, on_disk_bytes=on_disk_bytes, free_bytes=disk.f_bavail * disk.f_frsize)

    async def reserve(self, path: str, total_bytes: int, *, wish_bytes: int = 0, announced_bytes: int = 0) -> int:
        """Have `total_bytes` set aside for the path in all, or `wish_bytes` if nothing has to go for them.

        What was set aside. Raises `ArchiveTooLarge` for what could never fit, be it only announced, and `CacheFull`.
        """
        await self._require_possible(max(total_bytes, announced_bytes))
        for wanted in (wish_bytes, total_bytes):
            if wanted >= total_bytes and self._missing(path, wanted) <= 0:
                return self._take(path, wanted)
        async with self._evicting:
            for _ in range(_ROUNDS):  # between the making of room and its taking, another fetch may be faster
                await self.scanned.wait()
                await asyncio.to_thread(self._trees.ledger.look_again)
                # In full: what nobody can have, however large it says it is, costs nobody a module.
                await self._make(lambda: self._missing(path, total_bytes), in_full=True)
                if self._missing(path, total_bytes) <= 0:
                    return self._take(path, total_bytes)
                await self._gives_way(lambda: self._missing(path, total_bytes))
        raise await self._full(path, total_bytes)

    async def is_free(self, path: str, total_bytes: int) -> bool:
        """Whether nothing has to go so that the path has so many bytes in all. Nothing goes, and nothing is set aside.

        Raises `ArchiveTooLarge` and `CacheFull` as `reserve` would.
        """
        await self._require_possible(total_bytes)
        if self._missing(path, total_bytes) <= 0:
            return True
        async with self._evicting:
            await self.scanned.wait()
            await asyncio.to_thread(self._trees.ledger.look_again)
            if self._missing(path, total_bytes) <= 0:
                return True
            for _ in range(2):
                if await asyncio.to_thread(self._evictor.could_make_room, lambda: self._missing(path, total_bytes)):
                    return False
                if not await self._gives_way(lambda: self._missing(path, total_bytes)):
                    break
        raise await self._full(path, total_bytes)

    async def _require_possible(self, total_bytes: int) -> None:
        if self.limits.max_size_bytes is not None:
            if total_bytes > self.limits.max_size_bytes:
                raise ArchiveTooLarge(
                    f"the module needs {format_size(total_bytes)} or more, and the whole cache may take "
                    f"{format_size(self.limits.max_size_bytes)} (cache.max_size)"
                )
            await self.scanned.wait()

    async def make_ahead(self) -> None:
        """Bring the cache down to its low water mark, if it is past the high one. Raises `HubError`s."""
        await self.scanned.wait()
        used_bytes, capacity = self._trees.ledger.used_bytes, self.capacity()
        if excess_bytes(self.limits, used_bytes=used_bytes, capacity=capacity) > 0:
            goal_bytes = int(self.limits.low_water * capacity)
            async with self._evicting:
                await self._make(lambda: self._trees.ledger.used_bytes - goal_bytes)

    async def _make(self, need_bytes: Callable[[], int], *, in_full: bool = False) -> None:
        for victim in await asyncio.to_thread(self._evictor.make_room, need_bytes, in_full=in_full):
            self._counters.evicted += 1
            self._counters.evicted_bytes += victim.disk_bytes
            log.info("evicted %s, %d bytes, for room", victim.name[:12], victim.disk_bytes)
            happenings.evicted(self._events, victim.entries, victim.disk_bytes, "room")

    async def _gives_way(self, need_bytes: Callable[[], int]) -> bool:
        """Whether something went; nothing does in vain."""
        yielding_bytes = self.yielding_bytes()
        is_enough = await asyncio.to_thread(self._evictor.could_make_room, lambda: need_bytes() - yielding_bytes)
        return is_enough and await self.give_way()

    def _missing(self, path: str, total_bytes: int) -> int:
        ledger = self._trees.ledger
        return ledger.used_bytes - ledger.bytes_of(path) + total_bytes - self.capacity()

    def _take(self, path: str, total_bytes: int) -> int:
        self._trees.ledger.reserve(path, total_bytes)
        self.pressed.set()
        return total_bytes

    async def _full(self, path: str, total_bytes: int) -> HubError:
        kept = await asyncio.to_thread(self._evictor.kept)
        others_bytes = kept.in_flight_bytes - self._trees.ledger.bytes_of(path)
        capacity = self.capacity()
        bound = "cache.max_size" if capacity == self.limits.max_size_bytes else "the disk, less cache.min_free,"
        uids = sorted({uid for key in kept.leased_keys for uid in self._users.of(key)})
        by = f" (by uid {', '.join(map(str, uids[:_NAMED_UIDS]))})" if uids else ""
        return CacheFull(
            f"there is no room for {format_size(total_bytes)}: {bound} allows {format_size(capacity)}, and of what the "
            f"cache has {format_size(kept.pinned_bytes)} are pinned, {format_size(kept.leased_bytes)} leased{by} and "
            f"{format_size(others_bytes)} in flight"
        )


class Reservation:
    """What one fetch has set aside: for its spool and for its tree."""

    def __init__(
        self, room: Room, trees: Trees, path: str, allow: Callable[[int], int | None] = lambda total_bytes: None
    ) -> None:
        """`path`: of its directory in ``staging/``, which has an account. `allow` says how much more than so many bytes
        it may have in all (None: any), or raises a `HubError` when that is too much already."""
        #: what is set aside, or being made room for
        self.reserved_bytes = 0
        self._allow = allow
        self._room = room
        self._ledger = trees.ledger
        self._path = path
        self._spool_bytes = 0
        self._tree_bytes = 0
        self._raising = asyncio.Lock()  # both parts grow at the same time, and are one account

    async def announced(self, size_bytes: int, received_bytes: int) -> None:
        """Room for a spool that is announced to have this size, if nothing has to go for it; else for what of it was
        received already, and the rest as it comes: a server may announce what it never sends."""
        total_bytes = size_bytes + self._tree_bytes + _BESIDE_BYTES
        self._allow(total_bytes)
        is_free = await self._room.is_free(self._path, total_bytes)
        await self._grow_spool(size_bytes if is_free else max(received_bytes, 1), 0)

    async def spool(self, size_bytes: int) -> None:
        """Room for a spool of this size, and for some more, so that few steps are taken."""
        if size_bytes > self._spool_bytes:
            await self._grow_spool(size_bytes, min(max(size_bytes, _FIRST_STEP_BYTES), _LARGEST_STEP_BYTES))

    async def _grow_spool(self, size_bytes: int, step_bytes: int) -> None:
        async with self._raising:
            self._spool_bytes = await self._reserve(size_bytes, self._tree_bytes, step_bytes, size_bytes)

    async def tree(self, size_bytes: int, announced_bytes: int = 0) -> int:
        """Room for a tree of this size, of which more is announced; the size that there is room for."""
        if size_bytes > self._tree_bytes:
            step_bytes = min(size_bytes // 8, _LARGEST_STEP_BYTES)
            async with self._raising:
                self._tree_bytes = await self._reserve(size_bytes, self._spool_bytes, step_bytes, announced_bytes)
        return self._tree_bytes

    def wrote(self, size_bytes: int) -> None:
        """So many bytes of both are on the disk by now."""
        self._ledger.wrote(self._path, size_bytes)

    async def _reserve(self, size_bytes: int, other_bytes: int, step_bytes: int, announced_bytes: int) -> int:
        other_bytes += _BESIDE_BYTES
        total_bytes = size_bytes + other_bytes
        left_bytes = self._allow(total_bytes)
        self.reserved_bytes = max(self.reserved_bytes, total_bytes)
        self.reserved_bytes = await self._room.reserve(
            self._path,
            total_bytes,
            wish_bytes=total_bytes + (step_bytes if left_bytes is None else min(step_bytes, left_bytes)),
            announced_bytes=announced_bytes + other_bytes,
        )
        return self.reserved_bytes - other_bytes


async def _nothing_goes() -> bool:
    return False
