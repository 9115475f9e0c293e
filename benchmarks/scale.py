"""The row `scale`: a daemon on caches of 100, 1,000 and 10,000 modules.

Law: every figure is of a daemon that was just started, with the modules as an earlier one left them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import contenders, many
from benchmarks.bench import Bench
from benchmarks.contenders import Daemon
from benchmarks.report import Goal, Row, Series
from hubd.store.budget import Candidate, choose_victims
from hubd.store.eviction import Evictor
from hubd.store.layout import StoreLayout
from hubd.store.records import Records
from hubd.store.trees import Trees

SIZES = (100, 1_000, 10_000)
PAGE = 500

READY_SECONDS = 0.6
CHOICE_MILLISECONDS = 50.0
MEMORY_MB = 120.0

_SCAN_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.01


def scale(bench: Bench) -> Row:
    caches = {size: many.cache(bench.work.parent / "caches", size) for size in SIZES}
    choosers = {size: _chooser(cache) for size, cache in caches.items()}
    samples: dict[tuple[str, str, int], list[float]] = {}
    for _ in range(bench.rounds):
        for size, cache in caches.items():
            samples.setdefault(("choice of what to evict", "ms", size), []).append(_timed(choosers[size]))
            for what, unit, value in _measure(bench, cache, size):
                samples.setdefault((what, unit, size), []).append(value)
    series = {
        (what, size): Series(f"{size:>6,}: {what}", tuple(values), unit)
        for (what, unit, size), values in sorted(samples.items(), key=_order(list(samples)))
    }
    limits = {
        "ready": (READY_SECONDS, "s"),
        "choice of what to evict": (CHOICE_MILLISECONDS, "ms"),
        "memory": (MEMORY_MB, "MB"),
    }
    return Row(
        "scale",
        "a daemon just started on a cache of many modules",
        list(series.values()),
        [
            Goal(f"{what}, {SIZES[-1]:,} modules", series[what, SIZES[-1]].median, limit, unit)
            for what, (limit, unit) in limits.items()
        ],
    )


def _measure(bench: Bench, cache: Path, size: int) -> Iterator[tuple[str, str, float]]:
    """One life of a daemon: what is measured, unit and value, in the order in which somebody would wait for it."""
    with contenders.hubd(bench.work, cache) as daemon:
        yield "ready", "s", daemon.ready_seconds
        yield "first hit, asked of the daemon", "ms", _timed(lambda: daemon.ask("POST", "/v1/resolve", _body(1)))
        answer = daemon.library().probe("hits", "hubclient", many.handle(size - 1), "1")
        yield "first hit of a process, direct", "ms", answer["first_us"] / 1000
        yield "start until the scan is over", "s", _scanned(daemon)
        yield "GET /v1/status", "ms", _timed(lambda: daemon.ask("GET", "/v1/status"))
        yield f"GET /v1/modules, {PAGE} of them", "ms", _timed(lambda: daemon.ask("GET", f"/v1/modules?limit={PAGE}"))
        yield "GET /v1/modules, all pages", "ms", _timed(lambda: _all_pages(daemon, size))
        yield "memory", "MB", daemon.memory_mb()[0]


def _chooser(cache: Path) -> Callable[[], list[Candidate]]:
    """The choice of what goes for a tenth of the cache, as a daemon makes it after its scan."""
    layout = StoreLayout(str(cache))
    trees, records = Trees(layout), Records(layout)
    for key in list(records.keys()):
        records.load(key)
    for digest in trees.digests():
        trees.measure(digest)
    evictor = Evictor(trees, records)
    need_bytes = trees.ledger.used_bytes // 10
    return lambda: choose_victims(evictor.candidates(), need_bytes)


def _order(keys: list[tuple[str, str, int]]) -> Callable[[tuple[tuple[str, str, int], list[float]]], tuple[int, int]]:
    """One figure's curve after the other, in the order in which they were measured."""
    names = list(dict.fromkeys(what for what, _, _ in keys))
    return lambda item: (names.index(item[0][0]), item[0][2])


def _body(number: int) -> dict[str, str]:
    return {"handle": many.handle(number)}


def _scanned(daemon: Daemon) -> float:
    """Seconds from the daemon's start until it has looked through its cache."""
    deadline = time.monotonic() + _SCAN_TIMEOUT_SECONDS
    while not daemon.ask("GET", "/v1/status")["cache"]["scanned"]:
        if time.monotonic() > deadline:
            raise RuntimeError("the daemon's scan does not end")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - daemon.started_at


def _all_pages(daemon: Daemon, size: int) -> None:
    after, count = "", 0
    while after is not None:
        page = daemon.ask("GET", f"/v1/modules?limit={PAGE}&after={after}")
        count, after = count + len(page["modules"]), page["next"]
    if count != size:
        raise RuntimeError(f"the daemon lists {count} modules of {size}")


def _timed(ask: Callable[[], object]) -> float:
    """Milliseconds."""
    begun = time.monotonic()
    ask()
    return (time.monotonic() - begun) * 1000
