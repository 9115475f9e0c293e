"""Many clients of one daemon in one thread: raw sockets and one epoll, next to no work for an answer.

Law: what is measured is the daemon. The time of an answer counts from when its request was due, however late this
program came to send it; and what hubclient asks again (over a connection that ended, or when the daemon shuts down) is
asked again here, its time going on.
"""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

_CONNECT_SECONDS = 10
_READ_BYTES = 1 << 16
_MOST_EVENTS = 256
_MOST_TRIES = 20
_SHUTTING_DOWN = 503
_OUTCOME = re.compile(rb'"(?:outcome|code)": ?"([a-z-]+)"')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answered(NamedTuple):
    """`what`: the outcome of a resolve, or the code of a problem; empty for other answers."""

    status: int
    what: str
    seconds: float
    ended_at: float  # of time.monotonic()


class Unanswered(Exception):
    """A request that no client of hubclient would have got an answer to, either."""


def request(method: str, path: str, body: Any = None, *, streams: bool = False, stays: bool = True) -> bytes:
    """`streams`: it asks for progress, as hubclient does; `stays`: its connection is used again."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
    lines += ["Accept: application/x-ndjson"] if streams else []
    lines += [] if stays else ["Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode() + data


def resolve(handle: str, *, streams: bool = False, stays: bool = True) -> bytes:
    return request("POST", "/v1/resolve", {"handle": handle}, streams=streams, stays=stays)


def parse(received: bytes) -> tuple[int, str] | None:
    """Status and `Answered.what` of an answer that is there to its end; None before that."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return None
    length = _LENGTH.search(head)
    if (len(body) < int(length[1])) if length else (not body.endswith(b"\r\n0\r\n\r\n")):
        return None
    said = _OUTCOME.findall(body)
    return int(head.split(maxsplit=2)[1]), said[-1].decode() if said else ""


class _Client:
    __slots__ = ("asked", "due", "received", "socket", "tries")

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.asked = b""
        self.due = 0.0
        self.tries = 0
        self.received = bytearray()


class Crowd:
    """Context manager. Its clients connect when they `join`, and leave at the end.

    One that is made when this process has a thousand files open cannot look around: make it before (select(2)).
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._epoll = select.epoll()
        self._connected: dict[int, _Client] = {}
        self._idle: deque[_Client] = deque()
        self.asked_again = 0
        #: Idle connections that the daemon ended.
        self.hung_up = 0
        #: How late requests went out, in seconds.
        self.late: list[float] = []

    def join(self, count: int) -> None:
        for _ in range(count):
            client = _Client()
            self._connect(client)
            self._idle.append(client)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def connected(self) -> int:
        return len(self._connected)

    def ask(self, asked: bytes, due: float | None = None) -> None:
        """One of the idle clients asks. `due`: when it should have, if not now."""
        client = self._idle.popleft()
        now = time.monotonic()
        client.asked, client.due, client.tries = asked, now if due is None else due, 0
        self.late.append(now - client.due)
        self._send(client)

    def answers(self, timeout_seconds: float) -> Iterator[Answered]:
        """What comes within one look at all connections. Raises `Unanswered`."""
        # An epoll of its own rounds its timeout up to milliseconds, which would count as the daemon's.
        select.select([self._epoll], [], [], max(0.0, timeout_seconds))
        for fd, _ in self._epoll.poll(0, _MOST_EVENTS):
            client = self._connected[fd]
            assert client.socket is not None
            try:
                data = client.socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b""
            if not data:
                self._lost(client)
                continue
            client.received += data
            if (parsed := parse(bytes(client.received))) is None:
                continue
            if parsed[0] == _SHUTTING_DOWN:
                self._lost(client)
                continue
            now = time.monotonic()
            closes = b"\r\nconnection: close" in bytes(client.received).lower()
            client.received.clear()
            client.asked = b""
            self._idle.append(client)
            if closes:
                self._hang_up(client)
            yield Answered(*parsed, now - client.due, now)

    def gather(self, count: int, timeout_seconds: float) -> list[Answered]:
        """So many answers. Raises `Unanswered` when they do not come in time."""
        gathered: list[Answered] = []
        deadline = time.monotonic() + timeout_seconds
        while len(gathered) < count:
            if time.monotonic() > deadline:
                raise Unanswered(f"{count - len(gathered)} of {count} answers have not come in {timeout_seconds:.0f} s")
            gathered.extend(self.answers(0.1))
        return gathered

    def pace(self, asked: Sequence[bytes], per_second: float, seconds: float) -> list[Answered]:
        """The answers to so many requests a second, each when it is due, whether those before are answered or not.

        One after the other of `asked`, again and again. Raises `Unanswered`.
        """
        begun = time.monotonic()
        count = int(per_second * seconds)
        gathered: list[Answered] = []
        sent = 0
        while sent < count:
            wait = begun + sent / per_second - time.monotonic()
            if wait <= 0 and self._idle:
                self.ask(asked[sent % len(asked)], begun + sent / per_second)
                sent += 1
                continue
            gathered.extend(self.answers(wait if wait > 0 else 0.1))
        return gathered + self.gather(count - len(gathered), timeout_seconds=30.0)

    def notice(self) -> None:
        """Those idle connections that the daemon has ended are `hung_up` from now on."""
        before = -1
        while before != self.hung_up:
            before = self.hung_up
            for _ in self.answers(0.1):
                raise RuntimeError("somebody was answered, and nobody asked")

    def leave(self) -> None:
        """All hang up, whatever they wait for."""
        for client in list(self._connected.values()):
            self._hang_up(client)
        self._idle.clear()

    def _send(self, client: _Client) -> None:
        if client.socket is None:
            self._connect(client)
        assert client.socket is not None
        try:
            client.socket.send(client.asked)  # far less than a socket's buffer
        except (BrokenPipeError, ConnectionResetError):
            self._lost(client)

    def _lost(self, client: _Client) -> None:
        self._hang_up(client)
        if not client.asked:
            self.hung_up += 1
            return
        client.tries += 1
        self.asked_again += 1
        if client.tries > _MOST_TRIES:
            raise Unanswered(f"a request was lost {client.tries} times")
        self._send(client)

    def _connect(self, client: _Client) -> None:
        client.socket = socket.socket(socket.AF_UNIX)
        # A full queue is waited for, as hubclient does by asking again.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _CONNECT_SECONDS, 0))
        try:
            client.socket.connect(self._path)
        except OSError as error:
            client.socket.close()
            raise Unanswered(f"a connection was refused: {error}") from error
        client.socket.setblocking(False)
        self._connected[client.socket.fileno()] = client
        self._epoll.register(client.socket.fileno(), select.EPOLLIN)

    def _hang_up(self, client: _Client) -> None:
        client.received.clear()
        if client.socket is not None:
            del self._connected[client.socket.fileno()]
            client.socket.close()  # which takes it out of the epoll
            client.socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        self._epoll.close()
