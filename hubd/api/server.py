"""Serves the API on its socket, within limits.

Law: a connection past the limit is answered too, shortly, and never takes a place.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from hubclient.contract.errors import PROBLEM_CONTENT_TYPE, TooBusy
from hubd.api.access import caller_of
from hubd.api.connection import Connection, Patience
from hubd.api.guests import Guests

log = logging.getLogger(__name__)

_Socket = socket.socket

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_MOST_REFUSALS = 64
_SHUTDOWN_SECONDS = 2.0
_REFUSAL_SECONDS = 5.0
_REFUSAL = "hubd has all the connections that api.connections allows, or that one user may have of them"


class Bound(Protocol):
    """A socket that is bound, and not yet asked to listen."""

    socket: _Socket


class ApiServer:
    """Serves an application on a socket, to a limited number of connections at a time."""

    def __init__(
        self,
        app: web.Application,
        listening: Bound,
        *,
        max_connections: int,
        patience: Patience = Patience(),  # noqa: B008 (frozen)
        shutdown_seconds: float = _SHUTDOWN_SECONDS,
        refusal: str = _REFUSAL,
    ) -> None:
        """`max_connections` may be changed at any time; who is connected stays. `shutdown_seconds`: so long are answers
        under way waited for at the end. `refusal` is told past the limit."""
        # A client that leaves takes its handler along: that is how waiters of a fetch are counted.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=shutdown_seconds)
        self._patience = patience
        self._listening = listening
        self.max_connections = max_connections
        self._server: asyncio.Server | None = None
        self._accepted = 0
        self._own = 0
        self.refused = 0  #: connections past the limit
        self._refusals: set[_Refusal] = set()
        self._refusal = refusal
        self._guests = Guests()

    async def start(self) -> None:
        await self._runner.setup()
        # asyncio accepts that many at a time, and when descriptors run out fails, and says so, as often.
        # (As a Unix server, it would be removed from its path at the end: by Python 3.13, whoever made it.)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Door(self._admit), sock=self._listening.socket, backlog=_ACCEPTED_AT_ONCE
        )
        self._listening.socket.listen(_BACKLOG)

    def connections(self) -> int:
        server = self._runner.server
        return len(server.connections) if isinstance(server, web.Server) else 0

    def activity(self) -> tuple[int, int]:
        """Changes whenever a client has connected or asked; the daemon's own questions to itself do not count."""
        server = self._runner.server
        return self._accepted, (server.requests_count if isinstance(server, web.Server) else 0) - self._own

    async def stop(self) -> None:
        """Accepts no more, lets the answers under way go out, and closes."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _admit(self, peer: socket.socket) -> asyncio.Protocol:
        server = self._runner.server
        assert isinstance(server, web.Server)
        caller, present = caller_of(peer), server.connections
        if caller.pid == os.getpid():  # it asks once, whether it still answers: also when all places are taken
            self._own += 1
        else:
            self._accepted += 1
            if not self._guests.may_come(caller.uid, present, self.max_connections):
                self.refused += 1
                return _Refusal(self._refusals, self._refusal)
        connection = Connection(server, self._patience, caller)
        self._guests.came(connection, caller.uid, present)
        return connection


class _Door(asyncio.Protocol):
    """Decides who serves a connection, at the moment when it is made.

    Many are accepted at a time, before the first of them is counted: to decide then would let all of them in.
    """

    def __init__(self, admit: Callable[[socket.socket], asyncio.Protocol]) -> None:
        self._admit = admit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._admit(transport.get_extra_info("socket"))
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _Refusal(asyncio.Protocol):
    """Serves a connection past the limit: its first request is answered, whatever it is, and that is all."""

    def __init__(self, refusals: set[_Refusal], told: str) -> None:
        self._refusals = refusals
        self._told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, transport.close)
        self._refusals.add(self)
        if len(self._refusals) > _MOST_REFUSALS:
            transport.close()  # politeness has its limit too

    def data_received(self, data: bytes) -> None:
        error = TooBusy(self._told)
        body = json.dumps(error.problem()).encode()
        head = f"HTTP/1.1 {error.status} {error.code}\r\nContent-Type: {PROBLEM_CONTENT_TYPE}\r\n"
        head += f"Retry-After: {error.retry_after_seconds}\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._refusals.discard(self)


def raise_file_limit(wanted: int) -> int:
    """How many files this process may have open, after asking for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most)
