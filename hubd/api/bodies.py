"""Turns for requests with large bodies.

Law: however many large bodies a user begins to send, few are in memory at a time, and other users do not wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

SMALL_BYTES = 1 << 16  # nearly all bodies are smaller
_LARGE_AT_ONCE = 8  # of one user


class Bodies:
    """Who may send how much at a time."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, uid: int, size_bytes: int | None) -> AsyncIterator[None]:
        """Waits until this user may send a body of this size (None: it is not said)."""
        if size_bytes is not None and size_bytes <= SMALL_BYTES:
            yield
            return
        turns = self._turns.setdefault(uid, asyncio.Semaphore(_LARGE_AT_ONCE))
        async with turns:
            yield
