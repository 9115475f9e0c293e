"""A real HTTP server for tests: its port is its own from its making on, and it answers from the beginning of the block.

Law: it runs in threads of its own, so that blocking tests can use it too; none of them outlives the test run.
"""

from __future__ import annotations

import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Handler(BaseHTTPRequestHandler):
    """Each server's own says what it is the handler of: `owner: Origin`."""

    protocol_version = "HTTP/1.1"
    owner: HttpServer

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class HttpServer:
    """Context manager, to be built upon."""

    def __init__(
        self, handler: type[Handler], *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        """`tls`: it speaks HTTPS with this."""
        self._address = address
        self._scheme = "http" if tls is None else "https"
        self._server = _Server((address, 0), type(handler.__name__, (handler,), {"owner": self}))
        if tls is not None:  # the handshake is for the thread that answers, or a slow one would keep the others
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        """Its URL, without a path."""
        return f"{self._scheme}://{self._address}:{self.port}"

    def close(self) -> None:
        """Gives its port back; the end of the block does so too."""
        self._server.server_close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self.close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # who hangs up, or does not trust it, has what they wanted
            super().handle_error(request, client_address)
