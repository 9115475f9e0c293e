"""What the daemon says of itself at one moment, and what changed between two of them.

Law: looking changes nothing. No daemon is started for it, and none that hangs is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from hubclient import finding, starting
from hubclient.cli.asking import Answered, Failed, ask_all
from hubclient.connecting import connect_to_users
from hubclient.contract.errors import DaemonUnreachable, Internal
from hubclient.daemon import Daemon
from hubclient.finding import Place

SILENCE_SECONDS = 4.0  # a daemon that is well answers in milliseconds

# What every daemon has told, since the oldest.
_STATUS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("version", "socket", "started_at"), str),
    **dict.fromkeys(("pid", "uid", "fetches", "waiters", "connections"), int),
    **dict.fromkeys(("cache", "counters"), dict),
    "uptime_seconds": (int, float),
}

_FROM_CACHE = ("hits", "stale", "uses")
_DOWNLOADED = ("fetched", "joined", "failed")


class NotRunning(DaemonUnreachable):
    """The user's own daemon does not run, which is nobody's fault: whoever needs it starts it."""


class Snapshot(NamedTuple):
    """The API's Status and Fetches, and when they came (`time.monotonic`)."""

    status: dict[str, Any]
    fetches: list[dict[str, Any]]
    at_seconds: float


class Rates(NamedTuple):
    """What happened between two snapshots. `cached` is the part that no download was needed for; None: of nothing."""

    seconds: float
    answers_per_second: float
    received_bytes_per_second: float
    cached: float | None


def reach_running(environ: Mapping[str, str]) -> Daemon:
    """The daemon of this environment, if it runs. Raises `DaemonUnreachable` when there is none, at once; `NotRunning`
    if it is one that would be started."""
    place = finding.find(environ)
    # Nobody is started, and nobody is waited for unless the user says for how long.
    looking = {**environ, "HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": environ.get("HUBD_TIMEOUT") or "0"}
    if place.kind == "user":
        connection = connect_to_users(place, looking)
        if connection is None:
            raise NotRunning(
                f"no daemon runs for the cache {place.cache}: `hubctl get HANDLE` starts one, or run `hubd run --user`"
            )
        connection.close()
    try:
        daemon = Daemon(place, environ=looking)  # not another one than this, because none is started
        daemon.connect()
        return daemon
    except DaemonUnreachable as error:
        where = f"; its cache is {place.cache}" if place.cache is not None else ""
        raise DaemonUnreachable(f"{error.detail}{where}") from error


def take(daemon: Daemon) -> Snapshot:
    """Ask for status and fetches. Raises `DaemonUnreachable` when the daemon says neither in `SILENCE_SECONDS`, and
    `Internal` when it is no hubd that answers."""
    paths = ("/v1/status", "/v1/fetches")
    deadline = time.monotonic() + SILENCE_SECONDS
    answers: dict[int, dict[str, Any]] = {}
    for event in ask_all(paths, lambda path, _: daemon.get(path)):
        match event:
            case Answered(number, result, _):
                answers[number] = result
            case Failed(_, error):
                raise error
        if len(answers) < len(paths) and time.monotonic() > deadline:
            raise DaemonUnreachable(silence(daemon.place))
    status, fetches = answers[0], answers[1].get("fetches")
    if not isinstance(fetches, list) or not all(isinstance(status.get(name), kind) for name, kind in _STATUS.items()):
        raise Internal(f"what answers on {daemon.place.socket} is no hubd: its status is {str(status)[:80]}")
    return Snapshot(status, fetches, time.monotonic())


def silence(place: Place) -> str:
    """What it may mean that nothing is said."""
    told = f"the daemon at {place.socket} takes connections, but has said nothing for {SILENCE_SECONDS:.0f} s"
    return f"{told}: {starting.why_silent(place)}"


def rates(before: Snapshot, after: Snapshot) -> Rates | None:
    """What happened in between; None when that cannot be told: another daemon counts, or no time has passed."""
    seconds = after.at_seconds - before.at_seconds
    if before.status["started_at"] != after.status["started_at"] or seconds <= 0:
        return None
    then, now = before.status["counters"], after.status["counters"]
    known = (*_FROM_CACHE, *_DOWNLOADED, "received_bytes")  # a newer daemon has others, of whatever kind
    changes = {name: max(0, now.get(name, 0) - then.get(name, 0)) for name in known}
    answers = sum(changes[name] for name in (*_FROM_CACHE, *_DOWNLOADED))
    return Rates(seconds, answers / seconds, changes["received_bytes"] / seconds, cached_part(changes))


def cached_part(counters: Mapping[str, int]) -> float | None:
    """Of all that programs asked for, the part that was there already, 0 to 1; None when nobody asked."""
    cached = sum(counters.get(name, 0) for name in _FROM_CACHE)
    asked = cached + sum(counters.get(name, 0) for name in _DOWNLOADED)
    return cached / asked if asked else None
