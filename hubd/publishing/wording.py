"""How the dashboard says times, rates and names. Pure functions.

Law: a handle is shown without its query, which may hold a secret.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hubclient.contract.quantities import format_size

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


def duration(seconds: float) -> str:
    """`3 minutes`, `1 hour`, of less than a minute `12 s`."""
    for unit, unit_seconds in _UNITS:
        if (number := int(seconds // unit_seconds)) >= 1:
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{max(0, round(seconds))} s"


def ago(then: datetime | float, now: datetime) -> str:
    """`3 minutes ago`; within the last minute `just now`. A number is unix seconds."""
    at = then.timestamp() if isinstance(then, datetime) else then
    seconds = now.timestamp() - at
    return f"{duration(seconds)} ago" if seconds >= 60 else "just now"


def moment(then: datetime | float) -> str:
    """For an element's ``datetime``, in UTC."""
    at = then.astimezone(UTC) if isinstance(then, datetime) else datetime.fromtimestamp(then, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def name(handle: str) -> str:
    """The handle for people's eyes."""
    plain, question, _ = handle.partition("?")
    return f"{plain}?…" if question else plain


def rate(bytes_per_second: float) -> str:
    return f"{format_size(bytes_per_second)}/s"


def percent(part: float, whole: float) -> str:
    """`97 %`; `none` of nothing."""
    return f"{part / whole:.0%}".replace("%", " %") if whole else "none"
