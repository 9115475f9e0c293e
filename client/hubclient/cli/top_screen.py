"""What `hubctl top` draws: one frame of its screen, and the same as plain lines.

Law: a frame fits its screen. The fetches give way first to what is wrong, and those that do not fit are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions
from rich.text import Text

from hubclient.cli.gauge import ALARMING, gauge
from hubclient.cli.live import row_of
from hubclient.cli.names import of_uid
from hubclient.cli.snapshot import Rates, Snapshot, cached_part
from hubclient.cli.status import headline
from hubclient.cli.status_words import by_activity, fullness, now, percent, plain_row, user_parts
from hubclient.cli.troubles import troubles
from hubclient.cli.wording import count, duration, fitted, printable, rate, short, size

GAUGE_COLUMNS = 24
MOST_TROUBLES = 3
LOW_LINES = 20
MOST_USERS = 8
LABEL_MAX = 60


class Frame(NamedTuple):
    """What is known at one moment. `problem`: why `snapshot` is an old one."""

    snapshot: Snapshot
    rates: Rates | None
    problem: str | None
    at: datetime

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width, height = options.max_width, options.size.height
        most = MOST_TROUBLES if height >= LOW_LINES else 1
        head = list(_head(self, width, most, ascii_only=options.ascii_only))
        users = list(_users(self.snapshot.status))
        foot = Text("q quits, space looks again", style="dim")
        fetches = sorted(self.snapshot.fetches, key=lambda fetch: (fetch["state"] == "queued", fetch["started_at"]))
        # The users' lines leave the fetches half of what there is, at least.
        left = max(1, height - len(head) - 3)
        users = users[: max(0, min(left // 2, len(users)))]
        room = max(0, left - len(users))
        shown = fetches if len(fetches) <= room else fetches[: max(0, room - 1)]
        body = [*_fetches(shown, width, ascii_only=options.ascii_only)]
        if len(shown) < len(fetches):
            body.append(Text(f"and {count(len(fetches) - len(shown), 'more fetch')}", style="dim"))
        if not fetches:
            body.append(Text("nothing is being fetched", style="dim"))
        above = [*head, Text(""), *body, *users][: max(1, height - 1)]
        for line in [*above, foot][:height]:
            line.truncate(width, overflow="ellipsis")
            yield line


def plain(frame: Frame) -> list[str]:
    """The frame as lines for a pipe: the moment, what is wrong, what goes on, and the fetches."""
    answer, fetches, _ = frame.snapshot
    return [
        f"{frame.at:%Y-%m-%d %H:%M:%S}  {headline(answer)}",
        *(f"  ! {printable(what)}" for what, _ in troubles(answer)),
        f"  {printable(_speed(frame))}",
        f"  {now(answer, fetches)}",
        *(f"  {line.plain}" for line in _users(answer)),
        *(f"  {plain_row(fetch)}" for fetch in fetches),
    ]


def _head(frame: Frame, width: int, most_troubles: int, *, ascii_only: bool) -> Iterator[Text]:
    answer = frame.snapshot.status
    found = troubles(answer)
    clock = f"up {duration(answer['uptime_seconds'])}   {frame.at:%H:%M:%S}"
    title, style = headline(answer), "bold yellow" if found else "bold green"
    if frame.problem is not None:
        title, style = f"no answer, what follows is old: {printable(frame.problem)}", "bold red"
    room = width - len(clock) - 3
    yield (
        Text(title, style=style)
        if room < len(title)
        else Text(title.ljust(room), style=style).append(f"   {clock}", style="not bold default")
    )
    for what, _ in found[:most_troubles]:
        yield Text(f"! {printable(what)}", style="yellow")
    if len(found) > most_troubles:
        yield Text(f"! {len(found) - most_troubles} more, which `hubctl status` tells", style="yellow")
    cache = answer["cache"]
    line = Text(f"{'cache':<9}", style="bold")
    if (part := fullness(cache)) is not None:
        line += gauge(part, GAUGE_COLUMNS, ascii_only=ascii_only, style="yellow" if part >= ALARMING else "cyan")
        line += Text(f" {part:4.0%}  {size(cache['used_bytes'])}, ", style="")
    yield line + Text(f"{count(cache['modules'], 'module')}, {size(cache['free_bytes'])} free on the disk", style="")
    yield Text(f"{'rates':<9}", style="bold") + Text(_speed(frame), style="")
    yield Text(f"{'now':<9}", style="bold") + Text(now(answer, frame.snapshot.fetches), style="")


def _speed(frame: Frame) -> str:
    """Rates of the last seconds, and the hit rate of all the time."""
    rates, overall = frame.rates, cached_part(frame.snapshot.status["counters"])
    ever = "" if overall is None else f"{percent(overall)} cached since the start"
    if rates is None:
        return ever or "nobody has asked yet"
    lately = "" if rates.cached is None else f", {percent(rates.cached)} cached"
    parts = [f"{rates.answers_per_second:,.1f} answers/s{lately}", f"{rate(rates.received_bytes_per_second)} received"]
    return "; ".join(part for part in (*parts, ever) if part)


def _fetches(fetches: list[dict[str, Any]], width: int, *, ascii_only: bool) -> Iterator[Text]:
    for_whom = [", ".join(of_uid(uid) for uid in fetch.get("users") or ()) for fetch in fetches]
    column = min(16, max(map(len, for_whom), default=0))
    widest = min(LABEL_MAX, max((len(short(fetch["handle"])) for fetch in fetches), default=0))
    room = width - (column + 2 if column else 0)
    for fetch, users in zip(fetches, for_whom, strict=True):
        line = row_of(fetch, fetch["handle"], room, widest, ascii_only=ascii_only)
        if column:
            line.pad_right(max(0, room - line.cell_len))
            line.append("  " + fitted(users, column), style="magenta")
        yield line


def _users(answer: dict[str, Any]) -> Iterator[Text]:
    users = by_activity(answer.get("users") or ())
    for place, user in enumerate(users[:MOST_USERS]):
        about = "users" if place == 0 else ""
        yield Text(f"{about:<9}", style="bold").append(f"{of_uid(user['uid'])}: {user_parts(user)}", style="not bold")
    if len(users) > MOST_USERS:
        yield Text(f"{'':<9}and {len(users) - MOST_USERS:,} more users", style="dim")
