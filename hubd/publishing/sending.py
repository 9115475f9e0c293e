"""Bytes of a file to a client, by sendfile(2).

Law: while a file is sent nothing else writes to the connection, and a client that takes next to nothing is not waited
for.

asyncio's own `loop.sendfile` sends once when there is room, and waits: on a busy machine for its turn, each
time. This goes on as long as there is room, as web servers do.
"""

from __future__ import annotations

import asyncio
import os
from typing import BinaryIO

_AT_ONCE_BYTES = 4 << 20  # then others have their turn
_LOOK_SECONDS = 60.0
_LEAST_BYTES = 64 * 1024  # between two looks


async def send_file(
    transport: asyncio.BaseTransport | None,
    file: BinaryIO,
    start: int,
    end: int,
    *,
    look_seconds: float = _LOOK_SECONDS,
) -> None:
    """Send the bytes ``[start, end)`` over the connection, whose own buffer is empty.

    Raises `ConnectionError` when the client leaves, takes less than 64 KB in `look_seconds`, or the file was cut short;
    then the connection is of no use any more.
    """
    if not isinstance(transport, asyncio.Transport) or transport.is_closing() or transport.get_write_buffer_size():
        raise ConnectionResetError("the client has left")
    sending = _Sending(transport, file, start, end)
    try:
        before = start
        while not await sending.is_over(look_seconds):
            if sending.at - before < _LEAST_BYTES:
                raise ConnectionResetError(f"the client took next to nothing in {look_seconds:.0f} s")
            before = sending.at
    except BaseException:
        transport.abort()  # what the client has is no archive, and must not look like one
        raise
    finally:
        sending.close()


class _Sending:
    """One file on its way."""

    def __init__(self, transport: asyncio.Transport, file: BinaryIO, start: int, end: int) -> None:
        self.at = start
        self._end = end
        self._file = file.fileno()
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        # A number of our own: the event loop lets nobody else wait for that of a transport.
        self._socket = os.dup(transport.get_extra_info("socket").fileno())
        self._loop.add_writer(self._socket, self._go_on)

    async def is_over(self, timeout_seconds: float) -> bool:
        """Whether all is sent; waits that long for it. Raises `ConnectionError`."""
        await asyncio.wait({self._over}, timeout=timeout_seconds)
        return self._over.done() and self._over.result() is None

    def close(self) -> None:
        self._loop.remove_writer(self._socket)
        os.close(self._socket)
        self._over.cancel()

    def _go_on(self) -> None:
        if self._over.done():
            return
        until = min(self._end, self.at + _AT_ONCE_BYTES)
        try:
            while self.at < until:
                sent_bytes = os.sendfile(self._socket, self._file, self.at, until - self.at)
                if not sent_bytes:
                    raise ConnectionResetError("the file was cut short")
                self.at += sent_bytes
        except BlockingIOError:
            return
        except OSError as error:
            lost = error if isinstance(error, ConnectionError) else ConnectionResetError(str(error))
            self._over.set_exception(lost)
            return
        if self.at == self._end:
            self._over.set_result(None)
