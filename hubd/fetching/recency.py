"""What follows from a module's use: it is recent, and its views are put right.

Law: nobody waits for it, and what a caller is told is right without. However many uses there are, it takes one thread,
so that fetches have theirs; and of one module one task, so that nothing piles up behind a slow disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from hubd.fetching.means import Means, lacks
from hubd.fetching.troubles import Troubles
from hubd.store.records import MAX_SPELLINGS, Record

log = logging.getLogger(__name__)

_NOTED_SECONDS = 1.0
_MOST_NOTED = 1024


class Recency:
    """`spawn` starts a task in the group that owns all work."""

    def __init__(
        self,
        means: Means,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._means = means
        self._spawn = spawn
        self._clock = clock
        self._troubles = Troubles(log)
        self._turn = asyncio.Lock()
        self._noted: dict[tuple[str, str, str], float] = {}  # when a use was last written down, the oldest first
        self._due: dict[str, list[str]] = {}  # keys of what is to be written, and the spellings to be added

    def hit(self, record: Record, spelling: str) -> None:
        """`used`, of what was found: of hits that follow one another fast, the disk is told, and its views are looked
        at, only now and then."""
        use, now = (record.key, record.digest, spelling), self._clock()
        if now - self._noted.get(use, float("-inf")) < _NOTED_SECONDS:
            self._means.records.catalog.touch(record.key, time.time())
            return
        self._noted.pop(use, None)
        self._noted[use] = now
        if len(self._noted) > _MOST_NOTED:
            del self._noted[next(iter(self._noted))]
        self.used(record, spelling)

    def used(self, record: Record, spelling: str) -> None:
        """Recency, and views that are missing or wrong."""
        means, key = self._means, record.key
        means.records.touch(key)
        if lacks(record, spelling):
            self._behind(key, spelling)
        elif not means.records.views_are_right(record, direct_until=means.direct_until(record)):
            self._behind(key, None)

    def _behind(self, key: str, spelling: str | None) -> None:
        is_due, due = key in self._due, self._due.setdefault(key, [])
        if spelling is not None and spelling not in due and len(due) < MAX_SPELLINGS:
            due.append(spelling)
        if not is_due:
            self._spawn(self._write_all(key)).add_done_callback(lambda _: self._due.pop(key))

    async def _write_all(self, key: str) -> None:
        async with self._turn:
            while True:
                spellings, self._due[key] = self._due[key], []
                with self._troubles.told("the cache could not be written to"):
                    await self._means.to_its_end(partial(self._write, key, spellings))
                if not self._due[key]:  # nor has any come meanwhile
                    return

    def _write(self, key: str, spellings: Sequence[str]) -> None:
        means = self._means
        for spelling in spellings:
            means.add_spelling(key, spelling)
        if not spellings and (record := means.records.get(key)) is not None:
            means.records.mend_views(record, direct_until=means.direct_until(record))
