"""How parts of the API's Status and Fetches are said: what `hubctl status` and `hubctl top` share. Pure functions.

Law: what an older daemon does not tell is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubclient.cli.display import how_far
from hubclient.cli.names import of_uid
from hubclient.cli.wording import count, printable, rate, size


def now(answer: dict[str, Any], fetches: Sequence[dict[str, Any]]) -> str:
    """What goes on at the moment."""
    speed = sum(fetch.get("rate_bytes_per_second") or 0 for fetch in fetches)
    parts = [count(answer["fetches"], "fetch") + (f" at {rate(speed)}" if speed else "")]
    if "queue" in answer:
        parts.append(f"{answer['queue']:,} queued")
    return ", ".join([*parts, count(answer["waiters"], "waiter"), count(answer["connections"], "connection")])


def fullness(cache: dict[str, Any]) -> float | None:
    """What is used of what may be used, 0 to 1: of the quota, else of what the disk leaves; None: not told."""
    used = cache.get("used_bytes")
    if used is None:
        return None
    limit = cache.get("max_size_bytes")
    if limit is None:
        limit = used + max(0, cache["free_bytes"] - cache.get("min_free_bytes", 0))
    return min(1.0, used / limit) if limit else 1.0


def percent(part: float) -> str:
    """`99.9%`: only all is 100%, and only nothing 0%."""
    return f"{part:.0%}" if part in (0.0, 1.0) else f"{min(99.9, max(0.1, part * 100)):.1f}%"


def user_parts(user: dict[str, Any]) -> str:
    """`2 fetches, 1 queued, 1.0 GB under way, 30 of 40 answers from the cache`."""
    parts = [count(int(user.get("fetches", 0)), "fetch")]
    if user.get("queued"):
        parts.append(f"{user['queued']:,} queued")
    if user.get("in_flight_bytes"):
        parts.append(f"{size(user['in_flight_bytes'])} under way")
    parts.append(f"{user.get('hits', 0):,} of {count(int(user.get('answers', 0)), 'answer')} from the cache")
    return ", ".join(parts)


def by_activity(users: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with the most under way first, then those who asked the most."""
    weights = ("fetches", "queued", "answers")
    return sorted(users, key=lambda user: tuple(-int(user.get(name, 0)) for name in weights))


def plain_row(fetch: dict[str, Any]) -> str:
    """A fetch under way in one line."""
    users = [of_uid(uid) for uid in fetch.get("users") or ()]
    whom = f" for {', '.join(users)}" if users else ""
    kind = ", prefetched" if fetch.get("is_prefetch") else ""
    waiting = count(fetch["waiters"], "waiter")
    return f"{printable(fetch['state'])}  {printable(fetch['handle'])}{how_far(fetch)}, {waiting}{whom}{kind}"
