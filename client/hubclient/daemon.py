"""Talking with a daemon: asked again while it is away, and started if it is the user's own.

Law: every request here is safe to repeat, so a daemon that dies in the middle of an answer costs time, not the
answer; and none is waited for without end.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hubclient import connecting, exchange, finding, starting
from hubclient.contract.errors import DaemonUnreachable, ShuttingDown, TooBusy
from hubclient.exchange import NDJSON_CONTENT_TYPE, Channel, Died, Lost, Progress, read_events, read_json, read_stream
from hubclient.finding import Place
from hubclient.showing import Showing
from hubclient.silence import Telling

if TYPE_CHECKING:
    from hubclient.contract.credentials import Credential

T = TypeVar("T")

_MAX_DEATHS = 5
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


class Daemon:
    """One daemon. Thread-safe, and safe in a forked child, which gets connections of its own."""

    def __init__(
        self,
        place: Place,
        *,
        environ: Mapping[str, str] = os.environ,
        timeout_seconds: float | None = None,
        silent: Callable[[float], None] | None = None,
        silence_seconds: float = exchange.SILENCE_SECONDS,
    ) -> None:
        """`timeout_seconds`: for how long the daemon may be away; None: ``HUBD_TIMEOUT``. `silent` is called when a
        daemon that took a request has said nothing for so many seconds, in the thread that waits; after
        `silence_seconds` it is given up."""
        self._connector = _Connector(place, environ)
        self._timeout_seconds = finding.timeout_seconds(environ) if timeout_seconds is None else timeout_seconds
        connect = self._connector.connect
        told = connect if silent is None else lambda: Telling(connect(), silent)
        self._channel = Channel(told, silence_seconds=silence_seconds)
        self._showing = Showing(environ)

    @property
    def place(self) -> Place:
        """Where the daemon was found last: an absent service may have been replaced by the user's own daemon."""
        return self._connector.place

    def get(self, path: str) -> dict[str, Any]:
        """The JSON that a GET answers. Raises `HubError`s."""
        return self._repeat(lambda _: self._channel.ask("GET", path, None, {}, read_json))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON that a POST answers. Raises `HubError`s."""
        return self._repeat(lambda _: self._channel.ask("POST", path, body, {}, read_json))

    def put(self, path: str) -> dict[str, Any]:
        """The JSON that a PUT answers. Raises `HubError`s."""
        return self._repeat(lambda _: self._channel.ask("PUT", path, None, {}, read_json))

    def delete(self, path: str) -> dict[str, Any]:
        """The JSON that a DELETE answers. Raises `HubError`s; `NotFound` also if a daemon died after it had deleted."""
        return self._repeat(lambda _: self._channel.ask("DELETE", path, None, {}, read_json))

    def listen(self, path: str, body: dict[str, Any] | None, heard: Progress) -> dict[str, Any]:
        """The last event, "done", of the stream that a POST answers, or a GET without a body; `heard` gets each event
        before.

        A daemon that dies in the middle is asked again, and what `heard` got before may come once more. Raises
        `HubError`s.
        """
        accept = {"Accept": f"{NDJSON_CONTENT_TYPE}, application/json"}

        def ask(alive: Callable[[], None]) -> dict[str, Any]:
            def hear(event: dict[str, Any]) -> None:
                alive()
                heard(event)

            method = "GET" if body is None else "POST"
            return self._channel.ask(method, path, body, accept, lambda answer: read_events(answer, hear))

        return self._repeat(ask)

    def resolve(
        self,
        handle: str,
        *,
        digest: str | None = None,
        refresh: bool = False,
        offline: bool = False,
        progress: Progress | None = None,
        timeout_seconds: float | None = None,
    ) -> dict[str, Any]:
        """The API's Resolved; `progress` gets the API's Fetch again and again while it is downloaded.

        It may take as long as the daemon says that it works on it, which it does every few seconds.
        `timeout_seconds`: for how long the daemon may be away, or too busy, if not for this object's time. Raises
        `HubError`s.

        What a host refuses is asked for once more with the user's own credential for it, as `Showing` says.
        """
        body: dict[str, Any] = {"handle": handle}
        # Only what was asked for, so that an older daemon need not know the rest.
        body |= {"digest": digest} if digest is not None else {}
        body |= {"refresh": True} if refresh else {}
        body |= {"offline": True} if offline else {}
        accept = {"Accept": f"{NDJSON_CONTENT_TYPE}, application/json"}

        def resolve(own: Credential | None) -> dict[str, Any]:
            asked, check = body, None
            if own is not None:
                asked, check = {**body, "credential": {"type": own.type, "value": own.value}}, self._require_confidant

            def ask(alive: Callable[[], None]) -> dict[str, Any]:
                def heard(fetch: dict[str, Any]) -> None:
                    alive()
                    if progress is not None:
                        progress(fetch)

                read = partial(read_stream, heard=heard)
                return self._channel.ask("POST", "/v1/resolve", asked, accept, read, check)

            return self._repeat(ask, timeout_seconds, waits_its_turn=True)

        return resolve(None) if offline else self._showing.ask(handle, resolve)

    def connect(self) -> None:
        """Returns when the daemon accepts a connection, which is kept for the next request. Raises `HubError`s."""
        self._repeat(lambda _: self._channel.open())

    def close(self) -> None:
        """Close what is idle. The object can still be used."""
        self._channel.close()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_confidant(self, connection: socket.socket) -> None:
        connecting.require_confidant(connection, self.place)

    def _repeat(
        self,
        ask: Callable[[Callable[[], None]], T],
        timeout_seconds: float | None = None,
        *,
        waits_its_turn: bool = False,
    ) -> T:
        """Ask until there is an answer, or until nobody was there for the timeout, or the daemon died too often.

        With `waits_its_turn` a daemon that is too busy counts as one that is away, and is asked again when it says.
        """
        timeout_seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        away_since: float | None = None
        pause_seconds = _FIRST_PAUSE_SECONDS
        deaths = 0

        def alive() -> None:
            nonlocal away_since, pause_seconds
            away_since, pause_seconds = None, _FIRST_PAUSE_SECONDS

        while True:
            try:
                return ask(alive)
            except exchange.Silent as error:
                raise DaemonUnreachable(f"{error}: {starting.why_silent(self.place)}") from None
            except (Lost, ShuttingDown, TooBusy) as error:
                is_busy = isinstance(error, TooBusy)
                if is_busy and not waits_its_turn:
                    raise
                now = time.monotonic()
                away_since = now if away_since is None else away_since
                deaths += isinstance(error, Died)
                if deaths == _MAX_DEATHS:
                    raise DaemonUnreachable(
                        f"the daemon at {self.place.socket} died {deaths} times while it worked on this; see its log"
                    ) from error
                left_seconds = away_since + timeout_seconds - now
                if left_seconds <= 0:
                    if is_busy:
                        raise
                    raise DaemonUnreachable(f"{error}{starting.remedy(self.place)}") from error
                at_least_seconds = float(error.retry_after_seconds) if isinstance(error, TooBusy) else 0.0
            pause = at_least_seconds + random.uniform(0, pause_seconds)  # noqa: S311 (jitter, no secret)
            time.sleep(min(pause, left_seconds))
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


class _Connector:
    """Makes connections to the daemon of a place, and starts it if that is allowed."""

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self.place = place
        self._environ = environ

    def connect(self) -> socket.socket:
        """A connection. Raises `Lost` when there may be one in a moment, and `HubError`s."""
        if self.place.kind != "user":
            directory = os.path.dirname(self.place.socket)
            try:
                return connecting.connect(self.place.socket)
            except connecting.AWAY as error:
                if self.place.kind == "explicit" and not os.path.isdir(directory):
                    raise DaemonUnreachable(
                        f"there is no {directory}{starting.remedy(self.place)}; in a container, mount that directory "
                        "at the same path"
                    ) from None
                if self.place.kind == "explicit" or self._environ.get("HUBD_AUTOSTART") != "1":
                    raise Lost(f"no daemon answers on {self.place.socket}: {error.strerror}") from error
            self.place = finding.user_place(self._environ)
        # Anew each time: the runtime directory comes and goes with logins.
        self.place = finding.renewed(self.place, self._environ)
        try:
            connected = connecting.connect_to_users(self.place, self._environ)
            if connected is not None:
                return connected
            if self._environ.get("HUBD_AUTOSTART") == "0" and os.path.lexists(self.place.socket):
                raise Lost(f"no daemon answers on {self.place.socket}, and HUBD_AUTOSTART=0 forbids to start one")
            return starting.start(self.place, self._environ)
        except BlockingIOError:
            raise Lost(f"too many programs wait for the daemon at {self.place.socket}") from None


def reach(environ: Mapping[str, str] = os.environ, *, silent: Callable[[float], None] | None = None) -> Daemon:
    """The daemon that this environment means, found, started if need be, and answering. Raises `HubError`s."""
    daemon = Daemon(finding.find(environ), environ=environ, silent=silent)
    daemon.connect()
    return daemon
