"""What this process used from the cache, told to the daemon, which removes first what nobody has used for long.

Law: nobody waits for it. What cannot be sent at once, in one piece, to a daemon that may be talked to, is lost.
"""

from __future__ import annotations

import _socket  # what `socket` wraps: importing that takes longer than a hit
import atexit
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from math import inf

from hubclient import finding
from hubclient.contract import places
from hubclient.contract.errors import HubError
from hubclient.finding import Place

MAX_KEYS = 1000  # of one request: the API's limit
GATHER_SECONDS = 1.0

_MAX_TOLD = 16384
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)

_Connect = Callable[[Place, Mapping[str, str]], _socket.socket | None]


class Uses:
    """Tells of each module once. Thread-safe without locks; a forked child tells of what it uses itself.

    The first use is sent at once; those of the next second are gathered, and go with the first use after it, or at
    the end of the process.
    """

    def __init__(self, environ: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._environ = environ
        self._clock = clock
        self._place: Place | None = None
        self._is_registered = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._told: dict[tuple[str, str], object] = {}
        self._gathered: deque[str] = deque(maxlen=MAX_KEYS)
        self._sent_at = -inf

    def report(self, place: Place, key: str) -> None:
        """The module of that key was answered without the daemon of `place`. Never raises, never waits."""
        if self._pid != os.getpid():
            self._begin()  # what the parent has gathered it tells itself
        if place != self._place:
            self.flush()
            self._place = place
        this = object()
        if len(self._told) >= _MAX_TOLD or self._told.setdefault((place.socket, key), this) is not this:
            return
        self._gathered.append(key)
        if (now := self._clock()) - self._sent_at >= GATHER_SECONDS:
            self._sent_at = now
            self._send(_usual)
        if self._gathered and not self._is_registered:
            self._is_registered = True
            atexit.register(self.flush)

    def flush(self) -> None:
        """Send what is gathered, before a process ends or becomes another program."""
        if self._pid == os.getpid():
            self._send(_wherever)

    def _send(self, connect: _Connect) -> None:
        if not self._gathered or self._place is None:
            return
        try:
            connection = connect(self._place, self._environ)
            if connection is None:
                return  # a daemon may be there later
            try:
                connection.send(_request(list(_taken(self._gathered))))
            finally:
                connection.close()
        except (OSError, HubError):  # nobody waits for it, so nobody is told
            return


def _taken(gathered: deque[str]) -> Iterator[str]:
    for _ in range(MAX_KEYS):
        try:
            yield gathered.popleft()
        except IndexError:  # all, or another thread was faster
            return


def _request(keys: list[str]) -> bytes:
    body = '{"keys": ["' + '", "'.join(keys) + '"]}'
    head = "POST /v1/uses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("ascii")


# The rules of `connecting`, whose imports take longer than a hit. A cache that was answered from is one to trust.


def _usual(place: Place, environ: Mapping[str, str]) -> _socket.socket | None:
    """A connection to the daemon where it listens as a rule; None when nobody is there."""
    if place.kind != "user":
        return _connected(place.socket, None)
    uids = finding.trusted_uids(environ, place)
    return _connected(place.socket, uids) if places.is_private(os.path.dirname(place.socket), uids) else None


def _wherever(place: Place, environ: Mapping[str, str]) -> _socket.socket | None:
    """The same, or else a connection to the socket that ``daemon.lock`` names, for which it takes JSON."""
    if (connection := _usual(place, environ)) is not None or place.kind != "user" or place.cache is None:
        return connection
    named = finding.named_socket(place.cache, environ)
    return _connected(named.path, frozenset((named.uid,))) if named is not None else None


def _connected(path: str, uids: frozenset[int] | None) -> _socket.socket | None:
    """A connection, if one of `uids` (None: whoever) listens and lets us in at once."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(path)
        if uids is None or _peer(connection) in uids:
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _peer(connection: _socket.socket) -> int:
    _, uid, _ = _UCRED.unpack(connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED.size))
    return int(uid)
