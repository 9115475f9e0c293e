"""One request and its answer: HTTP over a connected Unix socket, JSON or a stream of it.

Law: a connection is used again only after an answer that was read to its end; otherwise it is closed, which is how
the daemon learns that its caller has left.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from hubclient.contract.errors import DaemonUnreachable, HubError, Internal, from_problem

T = TypeVar("T")
Progress = Callable[[dict[str, Any]], None]
Read = Callable[[http.client.HTTPResponse], T]

#: A daemon that works sends something every 5 s.
SILENCE_SECONDS = 30.0

NDJSON_CONTENT_TYPE = "application/x-ndjson"

_MAX_LINE_BYTES = 1 << 20


class Lost(Exception):
    """The daemon does not answer now, and may in a moment."""


class Died(Lost):
    """The daemon had taken the request, and then went away."""


class Silent(DaemonUnreachable):
    """The daemon takes connections, and says nothing."""


class _Connection(http.client.HTTPConnection):
    """Sends a request's head and body in one piece, so that the daemon wakes up for it once."""

    auto_open = 0  # it would open TCP
    _pieces: list[bytes] | None = None

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        self._pieces = []
        try:
            super().endheaders(message_body, encode_chunked=encode_chunked)
        finally:
            pieces, self._pieces = self._pieces, None
        self.send(b"".join(pieces))

    def send(self, data: Any) -> None:
        if self._pieces is None:
            super().send(data)
        else:
            self._pieces.append(data)


class Channel:
    """The way to one daemon. Keeps at most one idle connection; thread-safe without locks, and fork-safe."""

    def __init__(self, connect: Callable[[], socket.socket], *, silence_seconds: float) -> None:
        """`silence_seconds`: a daemon that sends nothing for so long has stopped."""
        self._connect = connect
        self._silence_seconds = silence_seconds
        self._idle: list[tuple[int, http.client.HTTPConnection]] = []

    def open(self) -> None:
        """Have a connection for the next request. Raises what `connect` raises."""
        if not self._idle:
            self._put_back(self._new())

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        headers: dict[str, str],
        read: Read[T],
        check: Callable[[socket.socket], None] | None = None,
    ) -> T:
        """One exchange. A connection that the daemon closed while it was idle is no failure.

        `check` sees the connection before anything is sent over it, and may raise a `HubError`. Raises `Died`,
        `HubError`s that the daemon answers, `Silent` when it says nothing for too long, and what `connect` raises.
        """
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers = {**headers, "Content-Type": "application/json"}
        while True:
            idle = self._take_idle()
            connection = idle or self._new()
            answer = None
            try:
                if check is not None:
                    check(connection.sock)
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                result = read(answer)
            except TimeoutError:
                _hang_up(connection)
                raise Silent(
                    f"the daemon has said nothing for {self._silence_seconds:.0f} s, though it speaks every few "
                    "seconds while it works"
                ) from None
            except (ConnectionError, http.client.HTTPException) as error:
                _hang_up(connection)
                if idle is None or answer is not None:
                    raise Died(f"the daemon broke off: {error or type(error).__name__}") from error
            except BaseException as error:
                if isinstance(error, HubError) and answer is not None and answer.isclosed():
                    self._put_back(connection)
                else:
                    _hang_up(connection)
                raise
            else:
                self._put_back(connection)
                return result

    def close(self) -> None:
        """Close what is idle. The channel can still be used."""
        while (idle := self._take_idle()) is not None:
            idle.close()

    def __del__(self) -> None:
        for _, connection in self._idle:  # nothing global: at the end of the interpreter it is gone
            connection.close()

    def _new(self) -> http.client.HTTPConnection:
        connection = _Connection("localhost")
        connection.sock = self._connect()
        connection.sock.settimeout(self._silence_seconds)
        return connection

    def _take_idle(self) -> http.client.HTTPConnection | None:
        while self._idle:
            try:
                pid, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if pid == os.getpid():
                return connection
            connection.close()  # the parent's, who goes on using its own copy of the descriptor
        return None

    def _put_back(self, connection: http.client.HTTPConnection) -> None:
        if connection.sock is None:  # the daemon had said that it would close it
            return
        self._idle.append((os.getpid(), connection))
        while len(self._idle) > 1 and (surplus := self._take_idle()) is not None:
            surplus.close()


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """Close, and let the daemon know at once: an answer that was begun, in the traceback say, keeps the socket open."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def read_json(answer: http.client.HTTPResponse) -> dict[str, Any]:
    """The body of a plain answer. Raises the `HubError` that a problem stands for."""
    body = _parse(answer.read())
    if answer.status >= 400:
        raise from_problem(body)
    return body


def read_stream(answer: http.client.HTTPResponse, heard: Progress) -> dict[str, Any]:
    """The API's Resolved at the end of the events; `heard` gets each Fetch before."""
    if answer.getheader("Content-Type", "").partition(";")[0].strip() != NDJSON_CONTENT_TYPE:
        return read_json(answer)
    while line := answer.readline(_MAX_LINE_BYTES):
        event = _parse(line)
        match event.get("event"):
            case "progress":
                heard(_object(event.get("fetch")))
            case "resolved":
                answer.read()
                return _object(event.get("result"))
            case "failed":
                answer.read()
                raise from_problem(_object(event.get("problem")))
    raise http.client.IncompleteRead(b"")


def read_events(answer: http.client.HTTPResponse, heard: Progress) -> dict[str, Any]:
    """The last event of a stream, "done"; `heard` gets each one before. Raises the error of one that "failed"."""
    if answer.getheader("Content-Type", "").partition(";")[0].strip() != NDJSON_CONTENT_TYPE:
        return read_json(answer)
    while line := answer.readline(_MAX_LINE_BYTES):
        event = _parse(line)
        match event.get("event"):
            case "done":
                answer.read()
                return event
            case "failed":
                answer.read()
                raise from_problem(_object(event.get("problem")))
            case _:
                heard(event)
    raise http.client.IncompleteRead(b"")


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(data))
    except ValueError:
        raise Internal(f"what answers on the daemon's socket is no hubd: {data[:80]!r}") from None


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Internal(f"what answers on the daemon's socket is no hubd: {str(value)[:80]!r}")
    return value
