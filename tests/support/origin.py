"""A scripted origin: a real HTTP server on loopback whose answers misbehave exactly as told."""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from tests.support.http_server import Handler, HttpServer

_WAIT_SECONDS = 60.0
_PIECE_BYTES = 64 * 1024


@dataclass
class Answer:
    """What a path answers. Bytes are those on the wire; `headers` are added to the usual ones."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    announced_bytes: int | None = None  # Content-Length, if not the body's
    chunked: bool = False
    cut_after_bytes: int | None = None  # then the connection is closed
    gate_after_bytes: int | None = None  # then it waits until `gate` is set
    gate: threading.Event = field(default_factory=threading.Event, init=False)  # its own, whatever it is made from
    etag: str | None = None  # a request with it gets 304
    ranges: bool = (
        False  # honours Range and If-Range: then the rest counts for `cut_after_bytes` and `gate_after_bytes`
    )
    content_range: str | None = None  # what a 206 says instead of the truth
    heeds_if_range: bool = True
    bytes_per_second: int | None = None  # of this answer's body
    reset: bool = False  # no answer: the connection is reset


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    at_once: int = 1  #: requests for the path that are being answered, this one included

    @property
    def is_ranged(self) -> bool:
        return "Range" in self.headers


def in_turn(*answers: Answer) -> Callable[[Asked], Answer]:
    """One answer to each request, and the last one to all that follow."""
    left = list(answers)
    changing = threading.Lock()

    def answer(_: Asked) -> Answer:
        with changing:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer


class Origin(HttpServer):
    """Context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, address: str = "127.0.0.1") -> None:
        """`tls`: it speaks HTTPS with this."""
        super().__init__(_Handler, address=address, tls=tls)
        self._answers: dict[str, Callable[[Asked], Answer]] = {}
        self._asked: dict[str, list[Asked]] = defaultdict(list)
        self._changed = threading.Condition()
        self._gates: list[threading.Event] = []
        self._sent_bytes: dict[str, int] = defaultdict(int)
        self._answering: dict[str, int] = defaultdict(int)
        self._most_at_once: dict[str, int] = defaultdict(int)

    def url(self, path: str, host: str | None = None) -> str:
        return f"{self._scheme}://{host or self._address}:{self.port}{path}"

    def serve(self, path: str, answer: Answer | Callable[[Asked], Answer]) -> str:
        """Sets what a path answers from now on; returns its URL, which is a handle."""
        if isinstance(answer, Answer):
            self._gates.append(answer.gate)
            fixed = answer
            self._answers[path] = lambda _: fixed
        else:
            self._answers[path] = answer
        return self.url(path)

    def asked(self, path: str) -> list[Asked]:
        with self._changed:
            return list(self._asked[path])

    def sent_bytes(self, path: str) -> int:
        """How many bytes of bodies went out for the path, all answers together."""
        with self._changed:
            return self._sent_bytes[path]

    def count_sent(self, path: str, size_bytes: int) -> None:
        with self._changed:
            self._sent_bytes[path] += size_bytes

    def most_at_once(self, path: str) -> int:
        """How many requests for the path were being answered at once, at most."""
        with self._changed:
            return self._most_at_once[path]

    @contextmanager
    def answering(self, path: str) -> Iterator[int]:
        """While a request for the path is answered; gives how many are."""
        with self._changed:
            self._answering[path] += 1
            at_once = self._answering[path]
            self._most_at_once[path] = max(self._most_at_once[path], at_once)
        try:
            yield at_once
        finally:
            with self._changed:
                self._answering[path] -= 1

    def wait_until_asked(self, path: str, times: int = 1) -> None:
        """Returns as soon as so many requests for the path have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._asked[path]) >= times, _WAIT_SECONDS), "nobody asked"

    def answer_to(self, path: str, asked: Asked) -> Answer:
        with self._changed:
            self._asked[path].append(asked)
            self._changed.notify_all()
        answer = self._answers.get(path)
        return answer(asked) if answer is not None else Answer(b"no such path", 404)

    def __exit__(self, *error: Any) -> None:
        for gate in self._gates:
            gate.set()
        super().__exit__(*error)


class _Handler(Handler):
    owner: Origin

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        with self.owner.answering(path) as at_once:
            asked = Asked(self.command, self.path, dict(self.headers.items()), at_once)
            self._answer(self.owner.answer_to(path, asked))

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _answer(self, answer: Answer) -> None:
        if answer.reset:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # at once, and without a farewell
            return
        if answer.etag is not None and self.headers.get("If-None-Match") == answer.etag:
            self.send_response(304)
            self.send_header("ETag", answer.etag)
            self.end_headers()
            return
        answer = self._ranged(answer)
        self.send_response(answer.status)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            length = len(answer.body) if answer.announced_bytes is None else answer.announced_bytes
            self.send_header("Content-Length", str(length))
        if answer.etag is not None:
            self.send_header("ETag", answer.etag)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send_body(answer)
        if answer.announced_bytes not in (None, len(answer.body)):
            self.close_connection = True

    def _ranged(self, answer: Answer) -> Answer:
        """The answer to a request for a range of bytes (RFC 9110, section 14), if it is one."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, answer.etag, answer.headers.get("Last-Modified"))
        if not answer.ranges or asked is None or not (same or not answer.heeds_if_range):
            return answer
        start, size = int(asked[1]), len(answer.body)
        if start >= size:
            return replace(answer, status=416, body=b"", headers={**answer.headers, "Content-Range": f"bytes */{size}"})
        end = min(size, int(asked[2]) + 1) if asked[2] else size
        stated = answer.content_range or f"bytes {start}-{end - 1}/{size}"
        headers = {**answer.headers, "Content-Range": stated}
        part = replace(answer, status=206, body=answer.body[start:end], headers=headers)
        part.gate = answer.gate
        return part

    def _send_body(self, answer: Answer) -> None:
        size = len(answer.body)
        ends = (size, answer.cut_after_bytes, answer.gate_after_bytes)
        stops = sorted({0, *(end for end in ends if end is not None and end <= size)})
        sent, began = 0, time.monotonic()
        piece_bytes = min(_PIECE_BYTES, max(1, (answer.bytes_per_second or _PIECE_BYTES * 20) // 20))
        for stop in stops:
            while sent < stop:
                piece = answer.body[sent : min(stop, sent + piece_bytes)]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
                sent += len(piece)
                self.owner.count_sent(urlsplit(self.path).path, len(piece))
                if answer.bytes_per_second is not None:
                    time.sleep(max(0.0, began + sent / answer.bytes_per_second - time.monotonic()))
            if answer.cut_after_bytes == sent:
                self.close_connection = True
                return
            if answer.gate_after_bytes == sent:
                self.wfile.flush()
                assert answer.gate.wait(_WAIT_SECONDS), "the gate was never opened"
        if answer.chunked:
            self.wfile.write(b"0\r\n\r\n")
