"""Bars that move, for a terminal: one row for each fetch under way and, for several, a total.

Law: a row fits the width that there is. What it can spare goes first; the handle and the bar stay longest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import rich.live
from rich.console import Console, ConsoleOptions
from rich.text import Text

from hubclient.cli.asking import Answered, Event, Failed
from hubclient.cli.display import MOVING, Silent, fraction, troubled, waits
from hubclient.cli.wording import count, fitted, printable, rate, remaining, short, size

REFRESH_EVERY_SECONDS = 0.1
LABEL_MIN, LABEL_MIN_NARROW, LABEL_MAX = 32, 20, 60
NARROW = 80
BAR_MIN, BAR_MAX = 10, 40

_STYLES = {
    **dict.fromkeys(("hit", "cached", "fetched", "joined", "uploaded", "there"), "green"),
    "stale": "yellow",
    "failed": "red",
}


class Live(Silent):
    """Rows on stderr while fetches run; a lasting line for each that has ended."""

    def __init__(self, handles: Sequence[str]) -> None:
        super().__init__(handles)
        self._ended = self._failed = 0
        self._drawn = 0.0
        self._console = Console(stderr=True, highlight=False)
        self._live = rich.live.Live(
            self, console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, event: Event | None) -> None:
        self._ended += isinstance(event, Answered | Failed)
        self._failed += isinstance(event, Failed)
        super().show(event)

    def line(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        self._console.print(Text.assemble((word, _STYLES.get(word, "")), " ", printable(rest)), soft_wrap=True)

    def refresh(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= REFRESH_EVERY_SECONDS:
            self._drawn = now
            self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        rows = sorted(self._fetches.items(), key=lambda row: (row[1]["state"] == "queued", row[0]))
        room = max(1, options.size.height - 4)
        names = LABEL_MAX if len(rows) > 1 else max(LABEL_MAX, options.max_width)
        widest = max((len(short(self.handles[index])) for index, _ in rows), default=0)
        for index, fetch in rows[:room]:
            yield row_of(
                fetch, self.handles[index], options.max_width, min(widest, names), ascii_only=options.ascii_only
            )
        if len(rows) > room:
            yield Text(f"and {len(rows) - room} more", style="dim")
        if len(self.handles) > 1:
            yield self._total()

    def _total(self) -> Text:
        parts = [f"{self._ended} of {count(len(self.handles), 'module')}"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        # Two handles may share one fetch: it counts once.
        speed = sum({fetch["id"]: fetch["rate_bytes_per_second"] for fetch in self._fetches.values()}.values())
        if speed:
            parts.append(rate(speed))
        return Text(", ".join(parts), style="bold")


def row_of(fetch: dict[str, Any], handle: str, width: int, label_width: int, *, ascii_only: bool = False) -> Text:
    """One fetch in at most `width` columns."""
    done, state = fraction(fetch), fetch["state"]
    if fetch.get("trouble") is not None:
        return Text(
            fitted(short(handle), max(1, min(label_width, width // 2))), no_wrap=True, overflow="ellipsis"
        ).append("  " + troubled(fetch), style="yellow")
    if state not in MOVING or not fetch["received_bytes"]:
        word = f"unpacking {size(fetch['unpacked_bytes'])}" if state == "unpacking" else state
        word = waits(fetch) if state == "waiting" else word
        names = max(1, min(label_width, width - len(word) - 2))
        text = Text(fitted(short(handle), names), no_wrap=True, overflow="ellipsis")
        return text.append("  ").append(word, style="dim" if state == "queued" else "cyan")
    received, eta = size(fetch["received_bytes"]), fetch["eta_seconds"]
    if done is not None:
        received += f" of {size(fetch['total_bytes'])}"
    # From the least to the most wanted: the row drops them in this order until it fits. First: its place in the row.
    figures = [
        (2, f"{state:<12}", "cyan"),
        (0, f"{received:>19}", ""),
        (1, f"{rate(fetch['rate_bytes_per_second']):>10}", ""),
        (3, "" if eta is None else f"{remaining(eta):<10}", ""),
        (-1, "" if done is None else f"{done:4.0%}", "bold"),
    ]
    least = min(label_width, LABEL_MIN if width >= NARROW else LABEL_MIN_NARROW) + 1 + BAR_MIN
    while figures and least + sum(len(text) + 2 for _, text, _ in figures) > width:
        figures.pop(0)
    room = width - sum(len(text) + 2 for _, text, _ in figures) - 1
    names = max(1, min(label_width, room - BAR_MIN))
    bar = min(BAR_MAX, max(0, room - names))
    full = int((done or 0.0) * bar)
    thick, thin = "=-" if ascii_only else "━─"  # two strokes: the bar tells without colours too
    text = Text(fitted(short(handle), names) + " ", no_wrap=True, overflow="ellipsis")
    text.append(thick * full, style="cyan").append(thin * (bar - full), style="bright_black")
    for _, figure, style in sorted(figures):
        text.append("  ").append(figure, style=style)
    text.rstrip()
    return text
