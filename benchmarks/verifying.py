"""The row `verify`: how hits fare while every byte of the cache is read again.

Law: the verification lasts longer than what is measured beside it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks import contenders, many
from benchmarks.bench import Bench
from benchmarks.contenders import Daemon
from benchmarks.report import Goal, Row, Series

MODULES = 40
WEIGHTS_BYTES = 50_000_000
ASKED = 2_000

P50_MILLISECONDS = 0.5
P99_MILLISECONDS = 10.0


def verify(bench: Bench) -> Row:
    cache = many.cache(bench.work.parent / "caches", MODULES, WEIGHTS_BYTES)
    samples: dict[tuple[str, str], list[float]] = {}
    with contenders.hubd(bench.work, cache) as daemon:
        for _ in range(bench.rounds):
            alone = _hits(daemon)
            with _verifying(daemon) as rates:
                beside = _hits(daemon)
            for when, answer in (("alone", alone), ("beside verify", beside)):
                for percentile in ("p50", "p99"):
                    milliseconds = answer[f"plain_{percentile}_us"] / 1000
                    samples.setdefault((f"POST /v1/resolve, {when} ({percentile})", "ms"), []).append(milliseconds)
            samples.setdefault(("verified", "MB/s"), []).append(rates[0])
    series = {what: Series(what, tuple(values), unit) for (what, unit), values in samples.items()}
    return Row(
        "verify",
        f"hits through the daemon while POST /v1/verify reads {MODULES * WEIGHTS_BYTES / 1e9:.0f} GB",
        list(series.values()),
        [
            Goal("p50 beside", series["POST /v1/resolve, beside verify (p50)"].median, P50_MILLISECONDS, "ms"),
            Goal("p99 beside", series["POST /v1/resolve, beside verify (p99)"].median, P99_MILLISECONDS, "ms"),
        ],
    )


def _hits(daemon: Daemon) -> dict[str, Any]:
    return daemon.library().probe("daemon", many.handle(1), str(ASKED))


@contextlib.contextmanager
def _verifying(daemon: Daemon) -> Iterator[list[float]]:
    """While the block runs, the whole cache is verified, again and again; afterwards the list has MB/s of each."""
    rates: list[float] = []
    failures: list[BaseException] = []
    started, over = threading.Event(), threading.Event()

    def work() -> None:
        try:
            while not over.is_set():
                rates.append(_verify(daemon, started))
        except BaseException as error:
            failures.append(error)
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        started.wait(contenders.TIMEOUT_SECONDS)
        yield rates
    finally:
        over.set()
        thread.join()
    if failures:
        raise RuntimeError(f"verify failed: {failures[0]}")


def _verify(daemon: Daemon, started: threading.Event) -> float:
    """MB/s of one verification of everything."""
    last: dict[str, Any] = {}
    for event in daemon.stream("POST", "/v1/verify", {"keys": None}):
        started.set()
        last = event
    if last.get("event") != "done" or last["damaged"]:
        raise RuntimeError(f"a verification ended with {last}")
    return float(last["size_bytes"] / 1e6 / last["seconds"])
