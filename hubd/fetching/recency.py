"""What follows from a module's use: it is recent, and its views are put right.

Law: nobody waits for it. What a caller is told is right without.
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

    def used(self, record: Record, spelling: str) -> None:
        """Recency, and views that are missing or wrong."""
        means, key = self._means, record.key
        means.records.touch(key)
        direct_until = means.direct_until(record)
        if lacks(record, spelling):
            self._behind(lambda: means.add_spelling(key, spelling))
        elif not means.records.views_are_right(record, direct_until=direct_until):
            self._behind(lambda: means.records.mend_views(record, direct_until=direct_until))

    def _behind(self, write: Callable[[], object]) -> None:
        async def written() -> None:
            with self._troubles.told("the cache could not be written to"):
                await self._means.to_its_end(write)

        self._spawn(written())
