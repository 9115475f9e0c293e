"""Who used which module lately, as the kernel named the callers: for whoever must know who keeps the cache full.

Law: it is bounded, and nothing is decided by it; a restart forgets it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED_SECONDS = 86400.0
MAX_ENTRIES = 16384


class Users:
    """The uids by key, each for a day after its last use; the oldest go when there are too many. For one thread."""

    def __init__(
        self,
        *,
        seconds: float = REMEMBERED_SECONDS,
        max_entries: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._max_entries = max_entries
        self._clock = clock
        # In the order of their last use.
        self._seen: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._uids: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def saw(self, uid: int, key: str) -> None:
        """This user used the module of that key now."""
        self._seen.pop((key, uid), None)
        self._seen[key, uid] = self._clock()
        self._uids.setdefault(key, set()).add(uid)
        self._expire()

    def of(self, key: str) -> list[int]:
        """The uids, sorted."""
        self._expire()
        return sorted(self._uids.get(key, ()))

    def _expire(self) -> None:
        oldest = self._clock() - self._seconds
        while self._seen and (len(self._seen) > self._max_entries or next(iter(self._seen.values())) <= oldest):
            (key, uid), _ = self._seen.popitem(last=False)
            self._uids[key].discard(uid)
            if not self._uids[key]:
                del self._uids[key]
