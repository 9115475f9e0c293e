"""The Unix socket: made safely, served within limits, and recognised as one's own.

Law: a socket file is replaced only when nobody answers behind it, and removed only while it is still ours.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import resource
import socket
import stat
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from hubclient.contract import places
from hubclient.contract.errors import PROBLEM_CONTENT_TYPE, TooBusy
from hubd.api.access import caller_of

log = logging.getLogger(__name__)

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_MOST_REFUSALS = 64
_KEEPALIVE_SECONDS = 75.0  # also for a client that never finishes its request's headers
_SHUTDOWN_SECONDS = 2.0
_REFUSAL_SECONDS = 5.0


class SocketUnusable(Exception):
    """The socket cannot be had; the text says why and what to do."""


class ListeningSocket:
    """A bound Unix socket, and beside it a link to the cache that it gives access to."""

    def __init__(self, path: str, cache: str, *, mode: int) -> None:
        """Binds; `mode` 0600 is for one user, 0666 for a service. Raises `SocketUnusable`."""
        if len(os.fsencode(path)) > places.MAX_SOCKET_PATH_BYTES:
            raise SocketUnusable(
                f"the socket path {path} is longer than {places.MAX_SOCKET_PATH_BYTES} bytes: choose a shorter --socket"
            )
        self.path = path
        try:
            _make_directory(os.path.dirname(path), private=mode == 0o600)
            lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                # Of two daemons that start at once, none may take the other's new socket for a stale one.
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.socket = _bind(path, mode)
            finally:
                os.close(lock)
            status = os.lstat(path)
        except OSError as error:
            raise SocketUnusable(f"cannot listen on {path}: {error.strerror or error}") from error
        self._inode = (status.st_dev, status.st_ino)
        self.warning = _link(places.cache_link(path), cache)

    def is_ours(self) -> bool:
        """Whether the path still leads here: a logout, say, removes the directory with it."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._inode

    def close(self) -> None:
        self.socket.close()
        if self.is_ours():
            # The link stays: while no daemon runs, it tells clients where the cached modules are.
            with suppress(OSError):
                os.unlink(self.path)


class ApiServer:
    """Serves an application on a socket, to a limited number of connections at a time."""

    def __init__(self, app: web.Application, listening: ListeningSocket, *, max_connections: int) -> None:
        """`max_connections` may be changed at any time; who is connected stays."""
        # A client that leaves takes its handler along: that is how waiters of a fetch are counted.
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            tcp_keepalive=False,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        self._listening = listening
        self.max_connections = max_connections
        self._server: asyncio.Server | None = None
        self._accepted = 0
        self._refusals: set[_Refusal] = set()

    async def start(self) -> None:
        await self._runner.setup()
        # asyncio accepts that many at a time, and when descriptors run out fails, and says so, as often.
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Door(self._admit), sock=self._listening.socket, backlog=_ACCEPTED_AT_ONCE
        )
        self._listening.socket.listen(_BACKLOG)

    def connections(self) -> int:
        server = self._runner.server
        return len(server.connections) if isinstance(server, web.Server) else 0

    def activity(self) -> tuple[int, int]:
        """Changes whenever a client has connected or asked."""
        server = self._runner.server
        return self._accepted, server.requests_count if isinstance(server, web.Server) else 0

    async def stop(self) -> None:
        """Accepts no more, lets the answers under way go out, and closes."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _admit(self) -> asyncio.Protocol:
        self._accepted += 1
        server = self._runner.server
        assert isinstance(server, web.Server)
        return server() if self.connections() < self.max_connections else _Refusal(self._refusals)


class _Door(asyncio.Protocol):
    """Decides who serves a connection, at the moment when it is made.

    Many are accepted at a time, before the first of them is counted: to decide then would let all of them in.
    """

    def __init__(self, admit: Callable[[], asyncio.Protocol]) -> None:
        self._admit = admit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._admit()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _Refusal(asyncio.Protocol):
    """Serves a connection past the limit: its first request is answered, whatever it is, and that is all."""

    def __init__(self, refusals: set[_Refusal]) -> None:
        self._refusals = refusals

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, transport.close)
        self._refusals.add(self)
        if len(self._refusals) > _MOST_REFUSALS:
            transport.close()  # politeness has its limit too

    def data_received(self, data: bytes) -> None:
        error = TooBusy("hubd has all the connections that api.connections allows")
        body = json.dumps(error.problem()).encode()
        head = f"HTTP/1.1 {error.status} {error.code}\r\nContent-Type: {PROBLEM_CONTENT_TYPE}\r\nRetry-After: 1\r\n"
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


def _make_directory(directory: str, *, private: bool) -> None:
    with suppress(FileExistsError):
        os.makedirs(directory, mode=0o700 if private else 0o755)
    if private and not places.is_private(directory):
        raise SocketUnusable(f"{directory} must be a directory of this user's with mode 0700")


def _bind(path: str, mode: int) -> socket.socket:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise SocketUnusable(f"{path} is there and no socket: remove it or choose another --socket")
        if (pid := _listener(path)) is not None:
            raise SocketUnusable(f"another daemon (pid {pid}) listens on {path}")
        os.unlink(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # With the mode from the first moment on: nobody else gets in between bind and chmod.
        umask = os.umask(0o777 & ~mode)
        try:
            bound.bind(path)
        finally:
            os.umask(umask)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _listener(path: str) -> int | None:
    """The pid of whoever listens on the socket; None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return None
        return caller_of(probe).pid


def _link(path: str, cache: str) -> str | None:
    """Makes the link to the cache; a failure is a warning, for clients can ask instead."""
    try:
        if os.path.islink(path):
            os.unlink(path)
        os.symlink(cache, path)
    except OSError as error:
        return f"cannot make {path}: {error.strerror}; clients will ask for every hit"
    return None
