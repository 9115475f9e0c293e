"""Fetches whose outcome nobody awaits: who asks for one is told its id, and leaves.

Law: however often the same is asked for, it is waited for once, as long as that is under way: nothing piles up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from hubclient.contract.errors import HubError

log = logging.getLogger(__name__)

#: Waits for a fetch, and tells its id when that is known.
Fetching = Callable[[Callable[[str], None]], Coroutine[Any, Any, object]]


class Prefetches:
    """Those under way, by what is wanted and by whom. `spawn` starts a task in the group that owns all work."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._spawn = spawn
        self._started: dict[Hashable, asyncio.Future[str | None]] = {}

    async def start(self, wanted: Hashable, fetching: Fetching) -> str | None:
        """The id of the fetch; None when it took none. Raises `HubError`s of a fetch that could not begin."""
        if (started := self._started.get(wanted)) is None:
            started = self._started[wanted] = asyncio.get_running_loop().create_future()
            # An error that nobody waits for any more is no news.
            started.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())
            self._spawn(_wait(fetching, started)).add_done_callback(lambda _: self._started.pop(wanted))
        return await asyncio.shield(started)


async def _wait(fetching: Fetching, started: asyncio.Future[str | None]) -> None:
    def told(fetch_id: str) -> None:
        if not started.done():
            started.set_result(fetch_id)

    try:
        await fetching(told)
    except Exception as error:
        if not isinstance(error, HubError):
            log.exception("a prefetch failed for a reason of our own")
        if not started.done():
            started.set_exception(error)
    finally:
        if not started.done():
            started.set_result(None)
