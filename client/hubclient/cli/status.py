"""`hubctl status`: is the daemon well, what is wrong and what mends it, and what does it do?

Law: the first line answers the question. What an older daemon does not tell is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from hubclient.cli import fleet_words
from hubclient.cli.names import of_uid, of_uids
from hubclient.cli.output import emit, emit_json
from hubclient.cli.snapshot import cached_part, reach_running, take
from hubclient.cli.status_words import by_activity, fullness, now, percent, plain_row, user_parts
from hubclient.cli.tables import drawable
from hubclient.cli.troubles import troubles
from hubclient.cli.wording import count, duration, printable, short, size, standing

LABEL_COLUMNS = 12
GAUGE_COLUMNS = 24
MOST_USERS = 5
MOST_FETCHES = 12

_MORE_COUNTERS = {
    "uses": "direct uses",  # by clients that asked nobody
    "resumed": "resumed",
    "evicted": "evicted",
    "damaged": "damaged",
    "repaired": "repaired",
}


_TIERS = {"local": "the cache", "fleet": "the fleet's store", "mirror": "mirrors", "origin": "origins"}


class Row(NamedTuple):
    """A line of the screen: what it is about, empty for more of the same, and what is to be said."""

    about: str
    text: str


def status(environ: Mapping[str, str], *, as_json: bool) -> None:
    """Print how the daemon of this environment is. Raises `DaemonUnreachable` when there is none, at once."""
    answer, fetches, _ = take(reach_running(environ))
    if as_json:
        emit_json({"status": answer, "fetches": fetches})
        return
    if not drawable():
        emit("".join(line + "\n" for line in lines(answer, fetches)))
        return
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as captured:
        draw(console, answer, fetches)
    emit(captured.get())


def draw(console: Any, answer: dict[str, Any], fetches: Sequence[dict[str, Any]]) -> None:
    """The same on a terminal: in colours, with a gauge, and a bar for each fetch."""
    from rich.text import Text

    from hubclient.cli.gauge import ALARMING, gauge
    from hubclient.cli.live import row_of

    found = troubles(answer)
    console.print(Text(headline(answer), style="bold yellow" if found else "bold green"), soft_wrap=True)
    for line in trouble_lines(answer):
        console.print(Text(line, style="yellow" if line.startswith("!") else ""), soft_wrap=True)
    if (part := fullness(answer["cache"])) is not None:
        bar = gauge(
            part,
            GAUGE_COLUMNS,
            ascii_only=console.options.ascii_only,
            style="yellow" if part >= ALARMING else "cyan",
        )
        console.print(Text(f"{'cache':<{LABEL_COLUMNS}}", style="bold") + bar + Text(f"  {part:.0%}"), soft_wrap=True)
    for about, text in rows(answer, fetches):
        about = "" if about == "cache" and part is not None else about
        console.print(Text(f"{about:<{LABEL_COLUMNS}}", style="bold").append(printable(text), ""), soft_wrap=True)
    shown, rest = first(fetches)
    widest = max((len(short(fetch["handle"])) for fetch in shown), default=0)
    for fetch in shown:
        console.print(row_of(fetch, fetch["handle"], console.width, widest))
    if rest:
        console.print(Text(rest, style="dim"))


def lines(answer: dict[str, Any], fetches: Sequence[dict[str, Any]] = ()) -> Sequence[str]:
    """The API's Status and Fetches as plain lines."""
    shown, rest = first(fetches)
    return [
        headline(answer),
        *trouble_lines(answer),
        *(f"{about:<{LABEL_COLUMNS}}{printable(text)}" for about, text in rows(answer, fetches)),
        *map(plain_row, shown),
        *([rest] if rest else []),
    ]


def first(fetches: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The fetches that have the most to tell, and a line for the rest; empty where there is none."""
    ordered = sorted(fetches, key=lambda fetch: bool(fetch["state"] == "queued"))
    rest = len(ordered) - MOST_FETCHES
    return ordered[:MOST_FETCHES], f"and {count(rest, 'fetch')} more, which `hubctl top` shows" if rest > 0 else ""


def headline(answer: dict[str, Any]) -> str:
    """Whether it is well, in one line."""
    found = troubles(answer)
    text = f"hubd {answer['version']} works, with {count(len(found), 'thing')} to mend"
    if not found:
        text = f"hubd {answer['version']} is well"
    if answer.get("offline"):
        text += "; its settings keep it from the network"
    return printable(text)


def trouble_lines(answer: dict[str, Any]) -> list[str]:
    """What is wrong, each with the line below it that says what mends it."""
    return [
        printable(line)
        for what, remedy in troubles(answer)
        for line in (f"! {what}", *((f"  -> {remedy}",) if remedy else ()))
    ]


def rows(answer: dict[str, Any], fetches: Sequence[dict[str, Any]] = ()) -> list[Row]:
    """What there is to know beside that, the most asked for first."""
    cache, counters = answer["cache"], answer["counters"]
    since = datetime.fromisoformat(answer["started_at"]).astimezone()
    part = cached_part(counters)
    return [
        Row("cache", f"{count(cache['modules'], 'module')}, {_used(cache)}"),
        Row("", _disk(cache)),
        Row("", cache["dir"]),
        Row("now", now(answer, fetches)),
        *_user_rows(answer),
        Row(
            "answers",
            f"{counters['hits']:,} hits, {counters['fetched']:,} fetched, {counters['joined']:,} joined, "
            f"{counters['stale']:,} stale, {counters['failed']:,} failed; {size(counters['received_bytes'])} received",
        ),
        Row("", ", ".join(f"{counters.get(name, 0):,} {said}" for name, said in _MORE_COUNTERS.items())),
        *([] if part is None else [Row("", f"{percent(part)} of all that was asked for was there already")]),
        *_tier_rows(counters),
        *_prefetch_rows(answer),
        *_fleet_rows(answer),
        *_config_rows(answer),
        Row("process", f"pid {answer['pid']}, of {of_uids([answer['uid']])}, up {duration(answer['uptime_seconds'])}"),
        Row("", f"since {since:%Y-%m-%d %H:%M:%S}, on {answer['socket']}"),
    ]


def _user_rows(answer: dict[str, Any]) -> list[Row]:
    access = answer.get("access") or {}
    level = access.get("level")
    found = []
    if level and access.get("restricted"):
        found.append(Row("access", f"you ask as {standing(level)}; only whom [access] names may ask"))
    users = by_activity(answer.get("users") or ())
    if level == "user" and len(users) == 1:
        return [*found, Row("you", user_parts(users[0]))]
    for place, user in enumerate(users[:MOST_USERS]):
        found.append(Row("" if place else "users", f"{of_uid(user['uid'])}: {user_parts(user)}"))
    if len(users) > MOST_USERS:
        found.append(Row("", f"and {len(users) - MOST_USERS:,} more, whom `hubctl top` shows"))
    return found


def _prefetch_rows(answer: dict[str, Any]) -> list[Row]:
    files = answer.get("prefetch") or ()
    if not files:
        return []
    wanted = sum(int(file.get("modules", 0)) for file in files)
    done = sum(int(file.get("done", 0)) for file in files)
    upcoming = min((str(file["next_run_at"]) for file in files if file.get("next_run_at")), default=None)
    text = f"{done:,} of {count(wanted, 'module')} that {count(len(files), 'file')} of prefetch.dir want"
    if upcoming is not None:
        text += f"; next at {datetime.fromisoformat(upcoming).astimezone():%Y-%m-%d %H:%M}"
    return [Row("prefetch", text)]


def _tier_rows(counters: dict[str, Any]) -> list[Row]:
    """Where it came from, when that was more than the cache and the origins."""
    answers = counters.get("answers_by_tier") or {}
    if not any(answers.get(tier) for tier in ("fleet", "mirror")):
        return []
    return [Row("", ", ".join(f"{answers.get(tier, 0):,} from {said}" for tier, said in _TIERS.items()))]


def _fleet_rows(answer: dict[str, Any]) -> list[Row]:
    fleet = answer.get("fleet")
    return [Row("fleet", fleet_words.summary(fleet))] if fleet and fleet["state"] != "off" else []


def _config_rows(answer: dict[str, Any]) -> list[Row]:
    config = answer.get("config")
    if not config:
        return []
    loaded = datetime.fromisoformat(config["loaded_at"]).astimezone()
    return [Row("settings", f"{config.get('file') or 'no file, the defaults'}, as of {loaded:%Y-%m-%d %H:%M:%S}")]


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
