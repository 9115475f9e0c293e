"""What happens in the daemon, told to whoever watches at that moment.

Law: who watches holds nobody up. A watcher has room for so many events; one who reads too slowly loses those that come
then, and is told how many they were.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hubclient.contract.errors import TooBusy

MAX_PENDING = 512
MAX_WATCHERS = 256
MAX_WATCHERS_PER_USER = 16
LOST = "lost"


def everyone(uid: int) -> bool:
    return True


def administrators_alone(uid: int) -> bool:
    return False


@dataclass(frozen=True)
class Event:
    """`fields` are members of its line, which JSON can tell. `is_for`: whether this user may know of it, asked when it
    is passed on; administrators are told of all."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_for: Callable[[int], bool] = everyone
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Watcher:
    """An iterator over the events from now on, which ends with the daemon. For the event loop."""

    def __init__(self, viewer: int | None) -> None:
        self.viewer = viewer
        self.loop = asyncio.get_running_loop()
        self._pending: deque[Event] = deque()
        self._lost = 0
        self._is_closed = False
        self._news = asyncio.Event()

    def offer(self, event: Event) -> None:
        if self.viewer is not None and not event.is_for(self.viewer):
            return
        # Until what was lost is told, all that follows is lost too: what is told stays in its order.
        if self._lost or len(self._pending) >= MAX_PENDING:
            self._lost += 1
        else:
            self._pending.append(event)
        self._news.set()

    def close(self) -> None:
        self._is_closed = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._pending and not self._lost:
            if self._is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._pending:
            return self._pending.popleft()
        lost, self._lost = self._lost, 0
        return Event(LOST, {"events": lost})


class Events:
    """Passes on what is published."""

    def __init__(self) -> None:
        self._watchers: list[Watcher] = []
        self._is_closed = False

    def publish(self, event: Event) -> None:
        """Tells whoever watches and may know of it. Thread-safe, and costs nothing while nobody watches."""
        for watcher in tuple(self._watchers):
            watcher.loop.call_soon_threadsafe(watcher.offer, event)

    @contextmanager
    def watching(self, viewer: int | None) -> Iterator[Watcher]:
        """Watch for the block, with the eyes of a user, or of an administrator (None). Raises `TooBusy`."""
        of_viewer = sum(watcher.viewer == viewer for watcher in self._watchers)
        if len(self._watchers) >= MAX_WATCHERS or (viewer is not None and of_viewer >= MAX_WATCHERS_PER_USER):
            raise TooBusy("too many watch the events of hubd already")
        watcher = Watcher(viewer)
        if self._is_closed:
            watcher.close()
        self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)

    def dismiss(self) -> None:
        """Whoever watches now is told the rest, and then that it is over: it may ask anew, and may not have leave."""
        for watcher in self._watchers:
            watcher.close()

    def close(self) -> None:
        """The same, for good."""
        self._is_closed = True
        self.dismiss()
