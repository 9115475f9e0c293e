"""A dam before an object store: it passes on what is asked, holds some of it back, or answers in the store's place.

Law: a rule is for requests of one method whose target has one text in it, from the moment it is made until it ends.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_WAIT_SECONDS = 30.0
_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(eq=False)
class Rule:
    """`status`: what is answered at once; None: it is held until the rule ends, and passed on then. With
    `cut_after_bytes` it is passed on, and of the answer's body so much comes before the connection is closed; where it
    `stalls`, not before the rule ends."""

    method: str
    text: str
    status: int | None = None
    cut_after_bytes: int | None = None
    stalls: bool = False
    is_met: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)

    def wait_until_met(self) -> None:
        assert self.is_met.wait(_WAIT_SECONDS), f"nobody asked to {self.method} {self.text}"


class Dam:
    """Context manager; `endpoint` is what daemons are told."""

    def __init__(self, port: int) -> None:
        """`port`: the store's, on loopback."""
        self.store_port = port
        self.rules: list[Rule] = []
        self.asked: list[tuple[str, str]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.dam = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def rule(
        self,
        method: str,
        text: str = "",
        status: int | None = None,
        *,
        cut_after_bytes: int | None = None,
        stalls: bool = False,
    ) -> Iterator[Rule]:
        """For the block; an empty text is in each target."""
        rule = Rule(method, text, status, cut_after_bytes, stalls)
        self.rules.append(rule)
        try:
            yield rule
        finally:
            self.rules.remove(rule)
            rule.is_over.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    dam: Dam
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _pass_on(self) -> None:
        dam = self.server.dam
        dam.asked.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        cutting: Rule | None = None
        for rule in [rule for rule in dam.rules if rule.method == self.command and rule.text in self.path]:
            rule.is_met.set()
            if rule.status is not None:
                self._answer(rule.status, {}, b"")
                return
            if rule.cut_after_bytes is not None:
                cutting = rule
                continue
            assert rule.is_over.wait(_WAIT_SECONDS), "the rule never ended"
        connection = http.client.HTTPConnection("127.0.0.1", dam.store_port, timeout=_WAIT_SECONDS)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            end = cutting.cut_after_bytes if cutting is not None else None
            self._answer(answer.status, dict(answer.getheaders()), answer.read()[:end])
            self.close_connection = cutting is not None
            if cutting is not None and cutting.stalls:
                self.wfile.flush()
                assert cutting.is_over.wait(_WAIT_SECONDS), "the rule never ended"
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        names = {name.lower() for name in headers}
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""
