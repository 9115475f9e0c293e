"""A real HTTP proxy on loopback: tunnels (CONNECT) and forwarding, with credentials if it is told to want them."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.support.http_server import Handler, HttpServer

_WAIT_SECONDS = 60.0


class Proxy(HttpServer):
    """Context manager. `names` says at which port of loopback a "host:port" is; all others cannot be reached.

    `asked` has the first line of each request as it came.
    """

    def __init__(
        self,
        names: Mapping[str, int],
        *,
        credentials: str | None = None,
        status: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`credentials`: ``user:password`` that it wants; `status`: it answers everything with this; `tls`: its own."""
        super().__init__(_Handler, tls=tls)
        self.names = names
        self.wanted = None if credentials is None else "Basic " + base64.b64encode(credentials.encode()).decode()
        self.status = status
        self.asked: list[str] = []


class _Handler(Handler):
    owner: Proxy

    def do_CONNECT(self) -> None:
        if (port := self._port(self.path)) is None:
            return
        with socket.create_connection(("127.0.0.1", port), _WAIT_SECONDS) as there:
            self.send_response(200)
            self.end_headers()
            _relay(self.connection, there)
        self.close_connection = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if (port := self._port(f"{url.hostname}:{url.port or 80}")) is None:
            return
        there = http.client.HTTPConnection("127.0.0.1", port, timeout=_WAIT_SECONDS)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        there.request("GET", url._replace(scheme="", netloc="").geturl(), headers=headers)
        answer = there.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("server", "date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        there.close()

    def _port(self, target: str) -> int | None:
        """The port that a target is at; None when the request has been refused."""
        proxy = self.owner
        proxy.asked.append(self.requestline)
        port = proxy.names.get(target)
        status = proxy.status
        if status is None and proxy.wanted not in (None, self.headers.get("Proxy-Authorization")):
            status = 407
        if status is None and port is not None:
            return port
        self.send_response(status or 502)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None


def _relay(here: socket.socket, there: socket.socket) -> None:
    """Both ways, until one side is done."""
    while True:
        held = isinstance(here, ssl.SSLSocket) and here.pending()
        for ready in [here] if held else select.select([here, there], [], [], _WAIT_SECONDS)[0]:
            if not (data := ready.recv(65536)):
                return
            (there if ready is here else here).sendall(data)
