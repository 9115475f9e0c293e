"""How hubctl says sizes, times and names. Pure functions.

Law: text from elsewhere passes through `printable` before a terminal sees it, and sizes are decimal, as in the
daemon's settings (1 MB = 10^6 bytes).
"""

from __future__ import annotations

import math

from hubclient.contract.quantities import format_size

size = format_size  #: `186.0 MB`


def printable(text: str) -> str:
    """The text with every control character, and whatever else does not print, written as an escape.

    A handle or an error may carry what another user or a server chose: it must not steer the terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def rate(bytes_per_second: float) -> str:
    """`21.3 MB/s`."""
    return size(bytes_per_second) + "/s"


def duration(seconds: float) -> str:
    """`0.4 ms`, `8.7 s`, `2 min 5 s`, `3 h 20 min`, `5 d 4 h`."""
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size_seconds, unit, part_seconds, part in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size_seconds:
            rest = whole % size_seconds // part_seconds
            return f"{whole // size_seconds} {unit}" + (f" {rest} {part}" if rest else "")
    raise AssertionError("a minute or more has a unit")


def remaining(seconds: float) -> str:
    """`5 s left`, `2 min 5 s left`: an estimate has no tenths."""
    return f"{math.ceil(max(seconds, 1))} s left" if seconds <= 59 else f"{duration(seconds)} left"


def ago(seconds: float) -> str:
    """`just now`, `3 min ago`: one unit is enough."""
    if seconds < 10:
        return "just now"
    for size_seconds, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size_seconds:
            return f"{seconds // size_seconds:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def count(number: int, noun: str) -> str:
    """`1 module`, `3 modules`, `2 fetches`, `2 processes`."""
    plural = noun + ("es" if noun.endswith(("ch", "s")) else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def standing(level: str) -> str:
    """The API's level of access as the documents call it: `an administrator`, `a user`."""
    return "an administrator" if level == "admin" else f"a {level}"


def short(handle: str) -> str:
    """The handle as a label: without its usual scheme."""
    return printable(handle).removeprefix("https://")


def fitted(text: str, width: int) -> str:
    """The text in exactly so many columns, cut at the left: the end of a handle tells modules apart."""
    return text.ljust(width) if len(text) <= width else "…" + text[len(text) - width + 1 :]
