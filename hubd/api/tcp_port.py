"""A web application on a TCP port that the settings name, beside the socket.

Law: it follows the settings while the daemon serves, and one that cannot be had stops nothing else: it is a problem to
be told of, and no error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from hubd.api.server import ApiServer

log = logging.getLogger(__name__)

_BACKLOG = 16


class TcpPort:
    """`setting`: what names the address; `application` is asked for a new one each time that it is needed."""

    def __init__(
        self, setting: str, application: Callable[[], Awaitable[web.Application]], max_connections: int
    ) -> None:
        self._setting = setting
        self._application = application
        self._max_connections = max_connections
        self._address: str | None = None
        self._server: ApiServer | None = None
        self._changing = asyncio.Lock()
        self.problem: str | None = None  #: why it is not there, if it should be

    async def listen(self, address: str | None) -> None:
        """Be at ``host:port`` from now on, and nowhere else; None: nowhere. A failure is a `problem`, and no error."""
        async with self._changing:
            if address != self._address or self.problem is not None:
                await self._move(address)

    async def stop(self) -> None:
        async with self._changing:
            await self._close()

    async def _move(self, address: str | None) -> None:
        await self._close()
        if address is None:
            return
        app = await self._application()
        self._address = address
        try:
            listening = _Listening(address)
        except OSError as error:
            self.problem = f"{self._setting}: cannot listen on {address}: {os.strerror(error.errno or 0)}"
            log.warning("%s", self.problem)
            return
        self._server = ApiServer(app, listening, max_connections=self._max_connections)
        await self._server.start()
        log.info("%s: http://%s/", self._setting, address)

    async def _close(self) -> None:
        server, self._server = self._server, None
        self._address = self.problem = None
        if server is not None:
            await server.stop()


class _Listening:
    """A bound TCP socket."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        self.socket = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
        self.socket.setblocking(False)
