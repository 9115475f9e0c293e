"""The bodies of requests, read within limits.

Law: however many large bodies a user begins to send, few are in memory at a time, and other users do not wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from aiohttp import web

from hubclient.contract.errors import RequestInvalid, RequestTooLarge

MAX_BODY_BYTES = 1 << 20
_SMALL_BYTES = 1 << 16  # nearly all bodies are smaller
_LARGE_AT_ONCE = 8  # of one user
_TIMEOUT_SECONDS = 30.0


class Bodies:
    """Who may send how much at a time."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    async def read(self, request: web.Request, uid: int) -> bytes:
        """The body of this user's request. One that does not come in time costs its sender the connection.

        Raises `RequestTooLarge`, `RequestInvalid`.
        """
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
        try:
            if request.content.is_eof():
                return await request.read()  # it came with its head, and there is nothing to wait for
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._turn(uid, request.content_length):
                return await request.read()
        except web.RequestPayloadError:
            raise RequestInvalid("the body is not encoded as its headers say") from None
        except TimeoutError:
            raise RequestInvalid(f"the body did not arrive within {_TIMEOUT_SECONDS:.0f} s") from None

    @asynccontextmanager
    async def _turn(self, uid: int, size_bytes: int | None) -> AsyncIterator[None]:
        """Waits until this user may send a body of this size (None: it is not said)."""
        if size_bytes is not None and size_bytes <= _SMALL_BYTES:
            yield
            return
        async with self._turns.setdefault(uid, asyncio.Semaphore(_LARGE_AT_ONCE)):
            yield
