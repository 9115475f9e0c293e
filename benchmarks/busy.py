"""The row `busy`: how hits fare while fetches transfer and unpack.

Law: so many fetches run from before the first hit that is measured until after the last.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.contenders import Daemon
from benchmarks.report import Goal, Row, Series

FETCHES = 4
ASKED = 2_000
HITS = 20_000
P99_MILLISECONDS = 10.0
_START_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.01

_ASKED_P99 = "POST /v1/resolve, beside fetches (p99)"


def busy(bench: Bench) -> Row:
    handle = bench.origin.handle("small")
    columns: dict[tuple[str, str], list[float]] = {}
    for _ in range(bench.rounds):
        with contenders.hubd(bench.work) as daemon:
            daemon.library().resolve(handle)
            for what, unit, value in _hits(daemon, handle, "alone"):
                columns.setdefault((what, unit), []).append(value)
            with fetching(daemon, bench.origin.handle("medium")) as fetched:
                for what, unit, value in _hits(daemon, handle, "beside fetches"):
                    columns.setdefault((what, unit), []).append(value)
            columns.setdefault(("fetched meanwhile", "modules"), []).append(float(len(fetched)))
            columns.setdefault(("the daemon's memory", "MB"), []).append(daemon.memory_mb()[0])
    series = {what: Series(what, tuple(samples), unit) for (what, unit), samples in columns.items()}
    size = f"{bench.origin.archives['medium'].size_bytes / 1e6:.0f} MB"
    return Row(
        "busy",
        f"hits while {FETCHES} fetches of {size} transfer and unpack",
        list(series.values()),
        [Goal("p99 through the daemon", series[_ASKED_P99].median, P99_MILLISECONDS, "ms")],
    )


def _hits(daemon: Daemon, handle: str, when: str) -> Iterator[tuple[str, str, float]]:
    """What is measured, unit and value."""
    asked = daemon.library().probe("daemon", handle, str(ASKED))
    direct = daemon.library().probe("hits", "hubclient", handle, str(HITS))
    for percentile in ("p50", "p99"):
        yield f"POST /v1/resolve, {when} ({percentile})", "ms", asked[f"plain_{percentile}_us"] / 1000
    yield f"hubclient.resolve, first, {when}", "ms", direct["first_us"] / 1000
    for percentile in ("p50", "p99"):
        yield f"hubclient.resolve, repeated, {when} ({percentile})", "ms", direct[f"{percentile}_us"] / 1000


@contextlib.contextmanager
def fetching(daemon: Daemon, handle: str) -> Iterator[list[str]]:
    """While the block runs, so many fetches do, each of a handle that is new; the list has their paths."""
    fetched: list[str] = []
    failures: list[BaseException] = []
    numbers = itertools.count()
    over = threading.Event()

    def work() -> None:
        try:
            while not over.is_set():
                # To the origin a query is nothing, to the cache it is another handle.
                answer = daemon.ask("POST", "/v1/resolve", {"handle": f"{handle}?copy={next(numbers)}"})
                if answer["outcome"] != "fetched":
                    raise RuntimeError(f"a new handle was a {answer['outcome']}")
                fetched.append(answer["path"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(FETCHES)]
    for thread in threads:
        thread.start()
    try:
        _wait_for_fetches(daemon, failures)
        yield fetched
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if failures:
        raise RuntimeError(f"a fetch failed: {failures[0]}")


def _wait_for_fetches(daemon: Daemon, failures: list[BaseException]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while daemon.ask("GET", "/v1/status")["fetches"] < FETCHES and not failures:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{FETCHES} fetches do not run at once")
        time.sleep(_POLL_SECONDS)
