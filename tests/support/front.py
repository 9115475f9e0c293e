"""A front of an object store: a real HTTP server before the real store, which misbehaves exactly as told.

Law: what it is not told about passes as it is, both ways. It knows of the fleet's objects by their paths alone, so that
one fault is the same for every store.
"""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from tests.support.http_server import Handler, HttpServer

_WAIT_SECONDS = 60.0
_PIECE_BYTES = 64 * 1024
_KINDS = re.compile(r"/(handles|archives|claims)/")
_DATES = frozenset({"date", "last-modified"})
# Of one connection alone (RFC 9110, section 7.6.1).
_OWN = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade"})


@dataclass(frozen=True)
class Request:
    """A request as it came. `kind`: the directory of the fleet's that it is about; "" for lists and the like."""

    method: str
    target: str
    kind: str
    is_ranged: bool

    @property
    def is_writing(self) -> bool:
        return self.method in ("PUT", "POST")


@dataclass
class Fault:
    """What happens to a request. Each on its own, or several together."""

    gate: threading.Event | None = None  # it reaches the store only when this is set
    status: int | None = None  # it never reaches the store, and gets this answer
    body: bytes = b""  # of that answer
    headers: dict[str, str] = field(default_factory=dict)  # of that answer, or instead of the store's own
    is_lost: bool = False  # the store has done it, and the connection is cut in place of an answer
    is_silent: bool = False  # it never reaches the store, and nobody answers until the front ends
    damage_at: int | None = None  # this byte of the answer's body is another one
    cut_after_bytes: int | None = None  # then the connection is closed
    stall_after_bytes: int | None = None  # then nothing more comes until the front ends
    clock_minutes: int = 0  # so far ahead is the clock that the answer's dates are of


Script = Callable[[Request], Fault | None]

SLOW_DOWN = Fault(
    status=503,
    body=b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Slower.</Message></Error>',
    headers={"Content-Type": "application/xml"},
)
UNAVAILABLE = Fault(status=503)


class Front(HttpServer):
    """Context manager. `script` says what happens to a request, and may be changed any time."""

    def __init__(self, port: int, *, address: str = "127.0.0.1", script: Script = lambda _: None) -> None:
        """`port`: of the store, on loopback. `address`: where the front listens."""
        super().__init__(_Handler, address=address)
        self.script = script
        self.store_port = port
        self.ended = threading.Event()
        self._changed = threading.Condition()
        self._asked: list[Request] = []

    @property
    def asked(self) -> list[Request]:
        with self._changed:
            return list(self._asked)

    def await_request(self, wanted: Callable[[Request], bool]) -> None:
        """Returns as soon as such a request has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(wanted, self._asked)), _WAIT_SECONDS), "it never came"

    @contextmanager
    def rule(self, method: str, text: str = "", fault: Fault | None = None) -> Iterator[threading.Event]:
        """For the block, whatever `script` says of requests of this method whose target has the text: without a fault
        they are held until it ends, and pass then. Yields what is set as soon as one comes."""
        script, met, over = self.script, threading.Event(), threading.Event()

        def ruled(request: Request) -> Fault | None:
            if request.method != method or text not in request.target:
                return script(request)
            met.set()
            return fault or Fault(gate=over)

        self.script = ruled
        try:
            yield met
        finally:
            self.script = script
            over.set()

    def came(self, request: Request) -> Fault | None:
        with self._changed:
            self._asked.append(request)
            self._changed.notify_all()
        return self.script(request)

    def __exit__(self, *error: Any) -> None:
        self.ended.set()
        super().__exit__(*error)


class _Handler(Handler):
    owner: Front

    def _handle(self) -> None:
        front = self.owner
        sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        found = _KINDS.search(urlsplit(self.path).path)
        request = Request(self.command, self.path, found[1] if found else "", "Range" in self.headers)
        fault = front.came(request) or Fault()
        if fault.gate is not None:
            assert fault.gate.wait(_WAIT_SECONDS), "the gate was never opened"
        if fault.is_silent:
            front.ended.wait(_WAIT_SECONDS)
            self.close_connection = True
        elif fault.status is not None:
            self._answer(fault.status, {**fault.headers, "Content-Length": str(len(fault.body))}, fault.body)
        else:
            self._pass_on(sent, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _pass_on(self, sent: bytes, fault: Fault) -> None:
        there = http.client.HTTPConnection("127.0.0.1", self.owner.store_port, timeout=_WAIT_SECONDS)
        try:
            # As they came: what was signed must arrive as it was signed.
            there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN:
                    there.putheader(name, value)
            there.endheaders(sent)
            answer = there.getresponse()
            body = answer.read()
        finally:
            there.close()
        if fault.is_lost:
            self.close_connection = True
            return
        kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in _OWN}
        kept |= {name: _later(kept[name], fault.clock_minutes) for name in _DATES & kept.keys()}
        kept |= {name.lower(): value for name, value in fault.headers.items()}
        if self.command != "HEAD":
            kept["content-length"] = str(len(body))
        self._answer(answer.status, kept, _damaged(body, fault.damage_at), fault)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: Fault = Fault()) -> None:  # noqa: B008
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD" or status in (204, 304):
            return
        stop = min(at for at in (fault.cut_after_bytes, fault.stall_after_bytes, len(body)) if at is not None)
        for start in range(0, stop, _PIECE_BYTES):
            self.wfile.write(body[start : min(stop, start + _PIECE_BYTES)])
        if stop < len(body):
            if fault.stall_after_bytes is not None:
                self.wfile.flush()
                self.owner.ended.wait(_WAIT_SECONDS)
            self.close_connection = True
            with suppress(OSError):  # the other side may have gone first
                self.connection.shutdown(socket.SHUT_WR)


def _later(date: str, minutes: int) -> str:
    return format_datetime(parsedate_to_datetime(date) + timedelta(minutes=minutes), usegmt=True)


def _damaged(body: bytes, at: int | None) -> bytes:
    if at is None or at >= len(body):
        return body
    return body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
