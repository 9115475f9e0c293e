"""What a person sees of fetches under way when stderr is no terminal: a few plain lines.

Law: a display only shows. It is told of events by the main thread, and the command is as right without it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from hubclient.cli.asking import Answered, Event, Failed, Progress
from hubclient.cli.output import hit_line, say
from hubclient.cli.wording import duration, printable, rate, remaining, size

LINE_EVERY_SECONDS = 10.0
LINE_EVERY_FRACTION = 0.1
LINES_APART_SECONDS = 1.0

#: What is told in bytes: from a host into the cache, and from the cache into the fleet's store.
MOVING = ("transferring", "uploading")

_FROM = {"fleet": ", from the fleet's store", "mirror": ", from a mirror"}


class Silent:
    """Shows nothing."""

    def __init__(self, handles: Sequence[str]) -> None:
        self.handles = handles
        self._fetches: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: Event | None) -> None:
        """Take note of an event; None is a mere tick."""
        match event:
            case Progress(index, fetch):
                self._fetches[index] = fetch
                self.progress(index, fetch)
            case Answered(index, result, seconds):
                self.line(outcome(self.handles[index], result, seconds, self._fetches.pop(index, None)))
            case Failed(index, error):
                self._fetches.pop(index, None)
                if len(self.handles) > 1:  # of one alone, the error itself comes right after
                    self.line(f"failed  {self.handles[index]}  [{error.code}]")
        self.refresh()

    def progress(self, index: int, fetch: dict[str, Any]) -> None:
        """A fetch went on."""

    def line(self, text: str) -> None:
        """A question has its answer, said in this line."""

    def refresh(self) -> None:
        """Draw what is drawn anew."""


class Plain(Silent):
    """A line when a fetch starts, seldom while it goes on, and one at its end."""

    def __init__(self, handles: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(handles)
        self._clock = clock
        self._said: dict[int, tuple[float, float]] = {}
        self._troubles: dict[int, str | None] = {}

    def progress(self, index: int, fetch: dict[str, Any]) -> None:
        now, done = self._clock(), fraction(fetch) or 0.0
        trouble = fetch.get("trouble")
        is_news = trouble is not None and trouble != self._troubles.get(index)
        self._troubles[index] = trouble
        if index in self._said and not is_news:
            last, last_done = self._said[index]
            further = done - last_done >= LINE_EVERY_FRACTION and now - last >= LINES_APART_SECONDS
            if not further and now - last < LINE_EVERY_SECONDS:
                return
        self._said[index] = (now, done)
        say(f"{fetch['state']}  {self.handles[index]}{how_far(fetch)}")

    def line(self, text: str) -> None:
        say(text)


def can_redraw() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def display_for(handles: Sequence[str], *, quiet: bool, as_json: bool) -> Silent:
    """The display that suits stderr: live bars on a terminal that can move its cursor, else lines, or nothing."""
    terminal = can_redraw()
    if quiet or (as_json and not terminal):
        return Silent(handles)
    if terminal:
        from hubclient.cli.live import Live

        return Live(handles)
    return Plain(handles)


def fraction(fetch: dict[str, Any]) -> float | None:
    """How much of the archive is here, 0 to 1; None while its size is not known."""
    total = fetch["total_bytes"]
    return min(1.0, fetch["received_bytes"] / total) if total else None


def outcome(handle: str, result: dict[str, Any], seconds: float, fetch: dict[str, Any] | None) -> str:
    """The line that says how a question ended. `fetch` is what was last heard of its download, if there was one."""
    kind = result["outcome"]
    if kind == "hit":
        return hit_line(handle, seconds)
    text = f"{kind}  {handle}"
    if kind in ("fetched", "joined"):
        archive_bytes = (fetch or {}).get("total_bytes")
        what = size(archive_bytes) if archive_bytes else f"{size(result['size_bytes'])} unpacked"
        whose = "somebody else's download: " if kind == "joined" else ""
        return f"{text}  {whose}{what} in {duration(seconds)}{_FROM.get(result.get('tier', ''), '')}"
    if kind == "uploaded" and result.get("archive_bytes") is not None:
        return f"{text}  {size(result['archive_bytes'])}"
    return text


def troubled(fetch: dict[str, Any]) -> str:
    """That a try failed, and why."""
    return printable(f"is tried again: {fetch['trouble']}")


def waits(fetch: dict[str, Any]) -> str:
    """That another machine of the fleet fetches it, and how far that is."""
    done = fraction(fetch)
    return "another machine fetches it" + ("" if done is None else f", {done:.0%} of {size(fetch['total_bytes'])}")


def how_far(fetch: dict[str, Any]) -> str:
    """What is to be said of a transfer after its name: `, 45% of 186.0 MB, 21.3 MB/s, 5 s left`; else nothing."""
    if fetch.get("trouble") is not None:
        return f", {troubled(fetch)}"
    if fetch["state"] == "waiting":
        return f", {waits(fetch)}"
    done = fraction(fetch)
    if fetch["state"] not in MOVING or not fetch["received_bytes"]:
        return ""
    parts = [size(fetch["received_bytes"]) if done is None else f"{done:.0%} of {size(fetch['total_bytes'])}"]
    if fetch["rate_bytes_per_second"]:
        parts.append(rate(fetch["rate_bytes_per_second"]))
    if fetch["eta_seconds"] is not None:
        parts.append(remaining(fetch["eta_seconds"]))
    return "".join(f", {part}" for part in parts)
