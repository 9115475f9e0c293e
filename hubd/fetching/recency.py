"""What follows from a module's use: it is recent, and its views are put right.

Law: nobody waits for it, and what a caller is told is right without. However many uses there are, it takes one thread,
so that fetches have theirs; and of one module one task, so that nothing piles up behind a slow disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from hubd.fetching.means import Means, lacks
from hubd.fetching.troubles import Troubles
from hubd.store.records import Record

log = logging.getLogger(__name__)


class Recency:
    """`spawn` starts a task in the group that owns all work."""

    def __init__(self, means: Means, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._means = means
        self._spawn = spawn
        self._troubles = Troubles(log)
        self._turn = asyncio.Lock()
        self._due: set[str] = set()  # keys of what is to be written

    def used(self, record: Record, spelling: str) -> None:
        """Recency, and views that are missing or wrong."""
        means, key = self._means, record.key
        means.records.touch(key)
        direct_until = means.direct_until(record)
        if lacks(record, spelling):
            self._behind(key, lambda: means.add_spelling(key, spelling))
        elif not means.records.views_are_right(record, direct_until=direct_until):
            self._behind(key, lambda: means.records.mend_views(record, direct_until=direct_until))

    def _behind(self, key: str, write: Callable[[], object]) -> None:
        if key in self._due:
            return  # a later use finds what is still to be done

        async def written() -> None:
            async with self._turn:
                with self._troubles.told("the cache could not be written to"):
                    await self._means.to_its_end(write)

        self._due.add(key)
        self._spawn(written()).add_done_callback(lambda _: self._due.discard(key))
