"""`hubctl ls`: what the cache holds.

Law: the listing is whole or an error, however many pages it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.tables import on_terminal, table
from hubclient.cli.wording import ago, count, printable, size

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

PAGE = 500
HEADER = ("HANDLE", "SIZE", "LAST USED", "FETCHED", "DIGEST")
RIGHT = frozenset({1})
SPARE = (4, 3, 2)  # on a narrow terminal the digest goes first, then the times


class Order(StrEnum):
    """What `ls` sorts by: the name, or the largest or the most recently used first."""

    NAME = "name"
    SIZE = "size"
    USED = "used"


def ls(daemon: Daemon, *, order: Order, limit: int | None, quiet: bool, as_json: bool) -> None:
    """Print the modules of the cache. Raises the daemon's errors."""
    modules = sort(all_modules(daemon.get), order)
    shown = modules if limit is None else modules[:limit]
    if as_json:
        emit_json({"modules": shown})
    elif quiet:
        if shown:
            emit("".join(printable(module["handle"]) + "\n" for module in shown))
    elif not modules:
        say("the cache is empty: `hubctl get HANDLE` fetches a module")
    else:
        now = datetime.now(UTC)
        emit(table(HEADER, [row_of(module, now if on_terminal() else None) for module in shown], RIGHT, SPARE))
        if on_terminal():
            rest = f" of {len(modules):,}" if len(shown) < len(modules) else ""
            # Two handles may share one tree, whose bytes count once.
            total = size(sum({module["digest"]: module["size_bytes"] for module in shown}.values()))
            say(f"{count(len(shown), 'module')}{rest}, {total}")


def all_modules(get: Callable[[str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every module, page by page."""
    path: str | None = f"/v1/modules?limit={PAGE}"
    while path:
        page = get(path)
        yield from page["modules"]
        path = f"/v1/modules?after={quote(page['next'], safe='')}&limit={PAGE}" if page["next"] else None


def sort(modules: Iterator[dict[str, Any]], order: Order) -> list[dict[str, Any]]:
    """The modules by name, and by what was asked before that."""
    by_name = sorted(modules, key=lambda module: str(module["handle"]))
    if order is Order.SIZE:
        return sorted(by_name, key=lambda module: -int(module["size_bytes"]))
    if order is Order.USED:
        return sorted(by_name, key=lambda module: datetime.fromisoformat(module["last_used_at"]), reverse=True)
    return by_name


def row_of(module: dict[str, Any], now: datetime | None) -> tuple[str, ...]:
    """The columns of one module; times are told from `now`, or exactly when there is none."""
    return (
        printable(module["handle"]),
        size(module["size_bytes"]),
        _time(module["last_used_at"], now),
        _time(module["fetched_at"], now),
        module["digest"][:12],
    )


def _time(iso: str, now: datetime | None) -> str:
    when = datetime.fromisoformat(iso).astimezone(UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ") if now is None else ago((now - when).total_seconds())
