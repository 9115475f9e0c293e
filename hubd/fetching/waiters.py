"""Who waits for which fetch, so that waiters can be told to leave.

Law: a waiter that is withdrawn leaves its flight as one that hangs up does; only that it hears why.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hubclient.contract.errors import FetchCancelled


class Waiters:
    """Of all fetches under way, by their ids."""

    def __init__(self) -> None:
        # What ends the waiting, and the uid that waits, if it is known.
        self._waiting: defaultdict[str, dict[asyncio.Timeout, int | None]] = defaultdict(dict)

    @asynccontextmanager
    async def waiting(self, fetch_id: str, uid: int | None) -> AsyncIterator[None]:
        """Be one for the block, which ends with `FetchCancelled` if it is withdrawn."""
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._waiting[fetch_id][scope] = uid
                try:
                    yield
                finally:
                    self._forget(fetch_id, scope)
        except TimeoutError:
            if not scope.expired():
                raise
            raise FetchCancelled("the fetch was cancelled while you waited for it") from None

    def uids(self, fetch_id: str, viewer: int | None = None) -> list[int]:
        """Who waits for it, sorted; with a viewer, of these itself alone."""
        uids = {uid for uid in self._waiting.get(fetch_id, {}).values() if uid is not None}
        return sorted(uids if viewer is None else uids & {viewer})

    def withdraw(self, fetch_id: str, uid: int | None = None) -> int:
        """Tells the user's waiters (None: all) to leave; how many there were."""
        waiting = self._waiting.get(fetch_id, {})
        chosen = [scope for scope, owner in waiting.items() if uid is None or owner == uid]
        for scope in chosen:
            self._forget(fetch_id, scope)
            scope.reschedule(asyncio.get_running_loop().time())
        return len(chosen)

    def _forget(self, fetch_id: str, scope: asyncio.Timeout) -> None:
        self._waiting[fetch_id].pop(scope, None)
        if not self._waiting[fetch_id]:
            del self._waiting[fetch_id]
