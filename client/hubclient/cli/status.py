"""`hubctl status`: is the daemon well, and what does it do?

Law: looking changes nothing. No daemon is started for it, and none that hangs is waited for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hubclient import finding
from hubclient.cli.asking import Answered, Failed, ask_all
from hubclient.cli.display import how_far
from hubclient.cli.output import emit, emit_json
from hubclient.cli.tables import drawable
from hubclient.cli.wording import count, duration, printable, short, size
from hubclient.connecting import connect_to_users
from hubclient.contract.errors import DaemonUnreachable
from hubclient.daemon import Daemon, reach

_MORE_COUNTERS = {
    "uses": "direct uses",  # by clients that asked nobody
    "resumed": "resumed",
    "evicted": "evicted",
    "damaged": "damaged",
    "repaired": "repaired",
}
SILENCE_SECONDS = 4.0  # a daemon that is well answers in milliseconds


def status(environ: Mapping[str, str], *, as_json: bool) -> None:
    """Print how the daemon of this environment is. Raises `DaemonUnreachable` when there is none, at once."""
    answer, fetches = _ask(_reach(environ))
    if as_json:
        emit_json({"status": answer, "fetches": fetches})
        return
    if not drawable():
        emit("".join(line + "\n" for line in [*lines(answer), *(plain_row(fetch) for fetch in fetches)]))
        return
    from rich.console import Console
    from rich.text import Text

    from hubclient.cli.live import row_of

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as captured:
        headline, *rest = lines(answer)
        console.print(Text(headline, style="bold yellow" if answer["warnings"] else "bold green"), soft_wrap=True)
        for line in rest:
            style = "yellow" if line.startswith("warning") else ""
            console.print(Text.assemble((line[:12], style or "bold"), (line[12:], style)), soft_wrap=True)
        widest = max((len(short(fetch["handle"])) for fetch in fetches), default=0)
        for fetch in fetches:
            console.print(row_of(fetch, fetch["handle"], console.width, widest))
    emit(captured.get())


def _ask(daemon: Daemon) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Status and fetches. Raises `DaemonUnreachable` when the daemon says neither in `SILENCE_SECONDS`."""
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
            raise DaemonUnreachable(
                f"the daemon at {daemon.place.socket} takes connections, but has said nothing for "
                f"{SILENCE_SECONDS:.0f} s: it is stopped, or hangs; see its log, and restart it"
            )
    return answers[0], answers[1]["fetches"]


def _reach(environ: Mapping[str, str]) -> Daemon:
    place = finding.find(environ)
    # Nobody is started, and nobody is waited for unless the user says for how long.
    looking = {**environ, "HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": environ.get("HUBD_TIMEOUT") or "0"}
    if place.kind == "user":
        connection = connect_to_users(place, looking)
        if connection is None:
            raise DaemonUnreachable(
                f"no daemon runs for the cache {place.cache}: `hubctl get HANDLE` starts one, or run `hubd run --user`"
            )
        connection.close()
    try:
        return reach(looking)
    except DaemonUnreachable as error:
        where = f"; its cache is {place.cache}" if place.cache is not None else ""
        raise DaemonUnreachable(f"{error.detail}{where}") from error


def lines(answer: dict[str, Any]) -> Sequence[str]:
    """The API's Status as lines: the first one answers the question."""
    cache, counters, warnings = answer["cache"], answer["counters"], answer["warnings"]
    headline = f"hubd {answer['version']} is well"
    if warnings:
        headline = f"hubd {answer['version']} runs, with {count(len(warnings), 'warning')}"
    since = datetime.fromisoformat(answer["started_at"]).astimezone()
    rows = [
        *(("warning", warning) for warning in warnings),
        ("process", f"pid {answer['pid']}, uid {answer['uid']}, up {duration(answer['uptime_seconds'])}"),
        ("socket", answer["socket"]),
        ("cache", cache["dir"]),
        ("", f"{count(cache['modules'], 'module')}, {_used(cache)}"),
        ("", _disk(cache)),
        ("since start", f"{since:%Y-%m-%d %H:%M:%S}"),
        (
            "",
            f"{counters['hits']:,} hits, {counters['fetched']:,} fetched, {counters['joined']:,} joined, "
            f"{counters['stale']:,} stale, {counters['failed']:,} failed; {size(counters['received_bytes'])} received",
        ),
        ("", ", ".join(f"{counters.get(name, 0):,} {said}" for name, said in _MORE_COUNTERS.items())),
        (
            "now",
            f"{count(answer['fetches'], 'fetch')}, {count(answer['waiters'], 'waiter')}, "
            f"{count(answer['connections'], 'connection')}",
        ),
    ]
    return [printable(headline), *(f"{name:<11} {printable(text)}" for name, text in rows)]


def _used(cache: dict[str, Any]) -> str:
    """What the cache takes, of what it may take, and what holds it. A daemon of before says less."""
    used = size(cache.get("used_bytes", cache["size_bytes"]))
    quota = f" of {size(cache['max_size_bytes'])}" if cache.get("max_size_bytes") is not None else ""
    parts = {"pinned": "pinned_bytes", "in flight": "in_flight_bytes", "broken off": "partial_bytes"}
    held = [f"{size(cache[key])} {name}" for name, key in parts.items() if cache.get(key)]
    counting = "" if cache.get("scanned", True) else ", still counting"
    holding = f" ({', '.join(held)})" if held else ""
    return f"{used}{quota} on disk{holding}{counting}"


def _disk(cache: dict[str, Any]) -> str:
    kept = f", {size(cache['min_free_bytes'])} kept free" if cache.get("min_free_bytes") else ""
    return f"{size(cache['free_bytes'])} free on the file system{kept}"


def plain_row(fetch: dict[str, Any]) -> str:
    """A fetch under way in one line."""
    return f"{fetch['state']}  {printable(fetch['handle'])}{how_far(fetch)}, {count(fetch['waiters'], 'waiter')}"
