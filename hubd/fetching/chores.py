"""What a daemon does beside the fetches: it finishes recovery, makes room ahead of need, and clears away.

Law: each of them goes on after a failure, says so in the log, and keeps no fetch waiting.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from hubd import allocator
from hubd.fetching import clean_point
from hubd.fetching.means import Means
from hubd.fetching.troubles import Troubles
from hubd.store import recovery
from hubd.store.cleaning import clean
from hubd.store.hold import CacheHold

log = logging.getLogger(__name__)

_TIDY_SECONDS = 15.0
_ROOM_SECONDS = 30.0
_CLOSE_SECONDS = 30.0


class Chores:
    """Each to run in a task of its own, for as long as the daemon serves."""

    def __init__(
        self, means: Means, hold: CacheHold, warn: Callable[[str], None], *, is_busy: Callable[[], bool]
    ) -> None:
        """`warn` tells the administrator; `is_busy`: whether a fetch is under way."""
        self._means = means
        self._hold = hold
        self._warn = warn
        self._is_busy = is_busy
        self._troubles = Troubles(log)
        #: set when settings changed that decide until when clients may answer themselves
        self.views_are_old = asyncio.Event()

    async def recover(self, suspects: Collection[str]) -> None:
        """Recovery's slow part, behind the serving daemon; the clean point moves on behind it for good."""
        means = self._means
        try:
            report = await asyncio.to_thread(recovery.mend, means.trees, means.records, means.direct_until)
        except Exception:
            log.exception("recovery did not finish; the next start tries again")
            self._warn("recovery did not finish: what the cache takes on disk is not fully known; see the log")
        else:
            log.info("recovery: %s", report)
            means.orphans.update(report.trees_in_use)
            if report.warning is not None:
                self._warn(report.warning)
        means.room.scanned.set()
        # Not before: what is being checked is held, and what has no record is to go.
        await clean_point.keep(means, self._hold, suspects)

    async def mend_views(self) -> None:
        """Makes clients ask when the settings that hold now say so."""
        means = self._means
        await means.room.scanned.wait()
        while True:
            await self.views_are_old.wait()
            self.views_are_old.clear()
            digests = {entry.digest for entry in means.records.catalog.entries() if not entry.immutable}
            with self._troubles.told("the views could not be brought in line with network.revalidate_after"):
                await asyncio.to_thread(recovery.mend_views, means.records, digests, means.direct_until)

    async def make_room(self) -> None:
        """Evicts ahead of need, when the cache has grown and when others took of the disk."""
        room = self._means.room
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_ROOM_SECONDS):
                    await room.pressed.wait()
            room.pressed.clear()
            with self._troubles.told("no room could be made ahead of need"):
                await room.make_ahead()

    async def close(self) -> None:
        """Closes trees to users whose grants have expired, when they do."""
        records, closed_at = self._means.records, 0.0
        await self._means.room.scanned.wait()
        while True:
            now = time.time()
            closed_at = min(closed_at, now)  # the clock may have been set back
            private = records.catalog.private()
            with self._troubles.told("what is private could not be closed; it is tried again"):
                for digest in {entry.digest for entry in private if closed_at < entry.granted_until <= now}:
                    await asyncio.to_thread(records.admit, digest)
                closed_at = now
            # A grant lasts longer than that: no new one is missed.
            ahead = [entry.granted_until - now for entry in private if entry.granted_until > now]
            await asyncio.sleep(min([_CLOSE_SECONDS, *ahead]))

    async def tidy(self) -> None:
        """Clears away what fetches leave, soon after them, and what was still in use then, when it is not."""
        means = self._means
        await means.room.scanned.wait()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TIDY_SECONDS if means.orphans or means.partials else None):
                    await means.litter.wait()
            means.litter.clear()
            with self._troubles.told("the cache could not be tidied"):
                await asyncio.to_thread(means.partials.expire)
                await asyncio.to_thread(clean, means.trees, means.records, means.orphans)
                if not self._is_busy():
                    await asyncio.to_thread(allocator.give_memory_back)
