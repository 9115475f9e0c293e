"""One client's connection: what it may leave unread and unsaid, and what becomes of bytes that are no HTTP.

Law: nothing of a client's that does not read, or does not finish what it began, is kept longer than a stated time; and
whatever it sends is answered by a problem that names a code, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

from aiohttp import web

from hubclient.contract.errors import Internal
from hubd.api.access import Caller
from hubd.api.errors import as_hub_error, no_http, problem_answer

log = logging.getLogger(__name__)

_MAX_HEADERS = 64
_MAX_LINE_BYTES = 8190  # of a request's line, and of each header
_READ_BYTES = 1 << 16  # of a body that come before anybody reads them


class Patience(NamedTuple):
    """How long a client may take."""

    unread_seconds: float = 30.0  # to read what it was sent
    idle_seconds: float = 75.0  # between requests, and to finish the head of one

    def options(self) -> dict[str, Any]:
        """For aiohttp's part of a connection."""
        return {
            "access_log": None,
            "keepalive_timeout": self.idle_seconds,
            "tcp_keepalive": False,
            "max_headers": _MAX_HEADERS,
            "max_field_size": _MAX_LINE_BYTES,
            "max_line_size": _MAX_LINE_BYTES,
            "read_bufsize": _READ_BYTES,
        }


class Connection(web.RequestHandler):
    """Reads requests and writes answers, as aiohttp does, for a client that may be slow, broken or hostile.

    A client that closes its sending side alone (`shutdown(SHUT_WR)`) has left: on a Unix socket reading cannot tell the
    two apart, and whoever waits for a fetch is counted by the connection.
    """

    __slots__ = ("_unread", "_unread_seconds", "_wire", "caller")

    def __init__(self, server: web.Server, patience: Patience, caller: Caller) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **patience.options())
        self.caller = caller
        self._unread_seconds = patience.unread_seconds
        self._unread: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport  # aiohttp forgets its own when it closes, which waits for the client to read
        # Writing pauses when a byte is left over, and resumes when none is: an answer ends when the client has taken
        # it, and of requests that came together the next is served then.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._loop.call_later(self._unread_seconds, self._give_up)

    def resume_writing(self) -> None:
        self._all_is_read()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all_is_read()
        self._wire = None
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is answered to bytes that are no request, and where a handler failed; the connection ends with it."""
        if isinstance(exc, ConnectionError):
            raise exc  # it has left
        if status >= 500:
            log.error("a request failed for a reason of our own", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        # Garbage is not logged: its sender could fill the log.
        answer = problem_answer(no_http() if status < 500 else Internal("hubd failed; its log has the reason"))
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # What aiohttp refuses before it looks for a route, as an Expect that it does not know.
        resp = problem_answer(as_hub_error(resp)) if isinstance(resp, web.HTTPException) else resp
        return await super().finish_response(request, resp, start_time)

    def _all_is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        if self._wire is not None:
            self._wire.abort()
