"""`hubctl ls`: what the cache holds.

Law: the listing is whole or an error, however many pages it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hubclient.cli.names import of_uid
from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.tables import on_terminal, table
from hubclient.cli.wording import ago, count, printable, size

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

PAGE = 500
HEADER = ("HANDLE", "SIZE", "LAST USED", "FETCHED", "FLAGS", "DIGEST")
RIGHT = frozenset({1})
SPARE = (4, 5, 3, 2)  # on a narrow terminal the flags go first, then the digest, then the times


class Order(StrEnum):
    """What `ls` sorts by: the name, or the largest, the last used or the last fetched first."""

    NAME = "name"
    SIZE = "size"
    USED = "used"
    FETCHED = "fetched"


def ls(daemon: Daemon, *, filters: Sequence[str], order: Order, limit: int | None, quiet: bool, as_json: bool) -> None:
    """Print the modules of the cache for which all `filters` hold. Raises the daemon's errors."""
    modules = sort(all_modules(daemon.get, filters), order)
    shown = modules if limit is None else modules[:limit]
    if as_json:
        emit_json({"modules": shown})
    elif quiet:
        if shown:
            emit("".join(printable(module["handle"]) + "\n" for module in shown))
    elif not modules and filters:
        say("no module in the cache is like that")
    elif not modules:
        say("the cache is empty: `hubctl get HANDLE` fetches a module")
    else:
        now = datetime.now(UTC)
        rows = [row_of(module, now if on_terminal() else None) for module in shown]
        emit(table(*with_readers(HEADER, rows, shown), RIGHT, SPARE))
        if on_terminal():
            rest = f" of {len(modules):,}" if len(shown) < len(modules) else ""
            # Two handles may share one tree, whose bytes count once.
            total = size(sum({module["digest"]: module["size_bytes"] for module in shown}.values()))
            say(f"{count(len(shown), 'module')}{rest}, {total}")


def all_modules(get: Callable[[str], dict[str, Any]], filters: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Every module for which the filters hold, page by page."""
    asked = f"limit={PAGE}" + "".join(f"&filter={quote(one, safe='')}" for one in filters)
    path: str | None = f"/v1/modules?{asked}"
    while path:
        page = get(path)
        yield from page["modules"]
        path = f"/v1/modules?after={quote(page['next'], safe='')}&{asked}" if page["next"] else None


def sort(modules: Iterator[dict[str, Any]], order: Order) -> list[dict[str, Any]]:
    """The modules by name, and by what was asked before that."""
    by_name = sorted(modules, key=lambda module: str(module["handle"]))
    if order is Order.SIZE:
        return sorted(by_name, key=lambda module: -int(module["size_bytes"]))
    if order is Order.NAME:
        return by_name
    time = "last_used_at" if order is Order.USED else "fetched_at"
    return sorted(by_name, key=lambda module: datetime.fromisoformat(module[time]), reverse=True)


def row_of(module: dict[str, Any], now: datetime | None) -> tuple[str, ...]:
    """The columns of one module; times are told from `now`, or exactly when there is none."""
    return (
        printable(module["handle"]),
        size(module["size_bytes"]),
        when(module["last_used_at"], now),
        when(module["fetched_at"], now),
        flags(module),
        module["digest"][:12],
    )


def with_readers(
    header: Sequence[str], rows: Sequence[Sequence[str]], modules: Sequence[dict[str, Any]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The table with whom each module is private to, if one is: they tell the records of one handle apart."""
    readers = [module.get("reader") for module in modules]
    if all(reader is None for reader in readers):
        return header, rows
    cells = ["-" if reader is None else of_uid(reader) for reader in readers]
    return (*header, "READER"), [(*row, cell) for row, cell in zip(rows, cells, strict=True)]


def flags(module: dict[str, Any]) -> str:
    """`P` for pinned and `L` for leased, `-` for neither."""
    # A daemon from before leases were told says nothing of them.
    return ("P" if module["pinned"] else "") + ("L" if module.get("leased") else "") or "-"


def when(iso: str, now: datetime | None) -> str:
    """`3 min ago`; the exact time when there is no `now`."""
    moment = datetime.fromisoformat(iso).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if now is None else ago((now - moment).total_seconds())
