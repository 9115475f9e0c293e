"""Tells the service manager that the daemon serves, and goes on telling while that is true.

Law: no sign of life without a proof: a request over the daemon's own socket was answered, as a client's is, and one of
the threads that fetches need came round. A loop that hangs, a door that is closed, threads that are stuck: all end in
silence, and silence in a restart. To be busy, or to have all connections taken, delays a proof and does not deny it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from concurrent.futures import Executor

from hubd import systemd

log = logging.getLogger(__name__)

# What every user may ask, and what is answered without waiting for a disk.
_REQUEST = b"GET /v1/fetches HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 "
_QUEUE_FULL_SECONDS = 0.02
_AGAIN_SECONDS = 1.0
_PIECE_BYTES = 1 << 16
_PROOFS = 4  # within the time that the service manager waits: one that fails is not the end


class Watchdog:
    """`path`: the daemon's own socket. `say`: what it does now, for ``systemctl status``."""

    def __init__(self, path: str, threads: Executor, say: Callable[[], str]) -> None:
        self._path = path
        self._threads = threads
        self._say = say

    async def prove(self) -> None:
        """Returns when the daemon has shown that it serves. Raises `OSError` when it answers, but otherwise."""
        turn = asyncio.get_running_loop().run_in_executor(self._threads, _turn)
        try:
            await self._ask()
            await turn
        finally:
            turn.cancel()

    async def run(self, ready: Callable[[], None]) -> None:
        """`ready` is called once the daemon serves, and the service manager told then."""
        every_seconds = (systemd.watchdog_seconds() or 0.0) / _PROOFS
        await self._proved(every_seconds or None)
        ready()
        systemd.notify("READY=1", f"STATUS={self._say()}")
        while every_seconds:
            systemd.notify("WATCHDOG=1", f"STATUS={self._say()}")
            await asyncio.sleep(every_seconds)
            await self._proved(every_seconds)

    async def _proved(self, try_seconds: float | None) -> None:
        while True:
            try:
                async with asyncio.timeout(try_seconds):
                    return await self.prove()
            except (OSError, TimeoutError) as error:
                # Silence tells the service manager something, too.
                log.warning("this daemon does not serve itself: %s", str(error) or f"not within {try_seconds:.1f} s")
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _ask(self) -> None:
        with await self._connected() as connection:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, _REQUEST)
            head = await loop.sock_recv(connection, _PIECE_BYTES)
            while await loop.sock_recv(connection, _PIECE_BYTES):
                pass
        if not head.startswith(_ANSWER):
            raise OSError(f"{head[:40]!r} is not what {_REQUEST[:15]!r} is answered with")

    async def _connected(self) -> socket.socket:
        """A new connection. Where many wait to be let in, it is tried until it is one of them: only the loop and its
        door empty the queue."""
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                connection.connect(self._path)  # at once, or not at all: unix(7)
            except BlockingIOError:
                connection.close()
            except BaseException:
                connection.close()
                raise
            else:
                return connection
            await asyncio.sleep(_QUEUE_FULL_SECONDS)


def _turn() -> None:
    """What a thread does to show that it can."""
