"""What the daemon is loaded with: crowds that wait, hit, say nothing, ask over restarts, and do all that at once.

Law: every row is bounded in time, and a request that fails is a missed goal, however fast the others were.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import contenders
from benchmarks.activated import Activated
from benchmarks.bench import Bench
from benchmarks.busy import FETCHES, fetching
from benchmarks.crowd import Answered, Crowd, request, resolve
from benchmarks.probe import percentile
from benchmarks.report import Finding, Goal, Row, Series
from benchmarks.resources import cpu, peak_memory_mb

WAITERS = 1_000
HITS_PER_SECOND = 500.0
P99_MILLISECONDS = 10.0
IDLE_CONNECTIONS = 10_000
MEMORY_MB = 120.0
GROWTH_MB = 5.0

_ASKING = 64  # clients that ask for hits in turn
_OVER_THE_LIMIT = 100
_RESTARTS = 3
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """How much of it."""

    bench: Bench
    wait_seconds: float = 20.0
    hit_seconds: float = 60.0
    soak_seconds: float = 120.0


def waiters(load: Load) -> Row:
    """All wait for the same few fetches, and ask for progress, as hubclient does."""
    bench = load.bench
    total_bytes = FETCHES * bench.origin.archives["medium"].size_bytes
    of_all = total_bytes / load.wait_seconds
    with contenders.hubd(bench.work) as daemon, bench.origin.far(0.01, of_all, of_all) as far:
        handles = [f"{far.handle('medium')}?copy={number}" for number in range(FETCHES)]
        with Crowd(daemon.socket) as crowd:
            crowd.join(WAITERS)
            begun = time.monotonic()
            for number in range(WAITERS):
                crowd.ask(resolve(handles[number % FETCHES], streams=True))
            answers = crowd.gather(WAITERS, load.wait_seconds + _PATIENCE_SECONDS)
        peak_mb = peak_memory_mb(Path(f"/proc/{daemon.pid}"))
    ended = sorted(answer.ended_at - begun for answer in answers)
    outcomes = Counter(answer.what for answer in answers)
    return Row(
        "waiters",
        f"{WAITERS:,} clients wait for {FETCHES} fetches of {total_bytes / FETCHES / 1e6:.0f} MB, "
        f"{of_all / 1e6:.0f} MB/s together",
        [_one("until the first has its module", ended[0], "s"), _one("until the last has it", ended[-1], "s")],
        [
            _none_failed(answers, "fetched", "joined", "hit"),
            Goal("fetches", outcomes["fetched"], FETCHES, "fetches"),
            Goal("peak memory", peak_mb, MEMORY_MB, "MB"),
        ],
    )


def hits(load: Load) -> Row:
    """At a steady rate, whether those before are answered or not, while fetches transfer and unpack."""
    bench = load.bench
    handle = bench.origin.handle("small")
    with contenders.hubd(bench.work) as daemon, Crowd(daemon.socket) as crowd:
        daemon.ask("POST", "/v1/resolve", {"handle": handle})
        crowd.join(_ASKING)
        with fetching(daemon, bench.origin.handle("medium")) as fetched:
            before, own_before = cpu(Path(f"/proc/{daemon.pid}")).own, time.process_time()
            answers = crowd.pace([resolve(handle)], HITS_PER_SECOND, load.hit_seconds)
            used_cpu = cpu(Path(f"/proc/{daemon.pid}")).own - before
            own_cpu = time.process_time() - own_before
        peak_mb = peak_memory_mb(Path(f"/proc/{daemon.pid}"))
    milliseconds = [answer.seconds * 1000 for answer in answers]
    return Row(
        "hits",
        f"{HITS_PER_SECOND:.0f} hits a second for {load.hit_seconds:.0f} s, while {FETCHES} fetches run",
        [
            _one("p50", percentile(milliseconds, 50), "ms"),
            _one("p99", percentile(milliseconds, 99), "ms"),
            _one("the longest", max(milliseconds), "ms"),
            _one("the daemon's CPU, its fetches included", used_cpu / load.hit_seconds * 100, "%"),
            _one("the CPU of who asks", own_cpu / load.hit_seconds * 100, "%"),
            _one("modules fetched meanwhile", len(fetched), "modules"),
        ],
        [
            _none_failed(answers, "hit"),
            Goal("p99", percentile(milliseconds, 99), P99_MILLISECONDS, "ms"),
            Goal("peak memory", peak_mb, MEMORY_MB, "MB"),
        ],
    )


def idle(load: Load) -> Row:
    """More connect than may, and say nothing."""
    handle = load.bench.origin.handle("small")
    with contenders.hubd(load.bench.work) as daemon, contextlib.ExitStack() as crowds:
        served, late, silent = (crowds.enter_context(Crowd(daemon.socket)) for _ in range(3))
        daemon.ask("POST", "/v1/resolve", {"handle": handle})
        served.join(_ASKING)
        for _ in range(_ASKING):
            served.ask(resolve(handle))
        answers = served.gather(_ASKING, _PATIENCE_SECONDS)
        silent.join(IDLE_CONNECTIONS)
        answers += served.pace([resolve(handle)], HITS_PER_SECOND, 10.0)
        silent.notice()
        kept, memory_mb = silent.connected, daemon.memory_mb()[0]
        late.join(1)
        refusals = []
        for _ in range(_OVER_THE_LIMIT):
            late.ask(resolve(handle, stays=False))
            refusals += late.gather(1, _PATIENCE_SECONDS)
        silent.leave()
        begun, is_served = time.monotonic(), False
        while not is_served:
            late.ask(resolve(handle, stays=False))
            is_served = late.gather(1, _PATIENCE_SECONDS)[0].status == 200
        again_seconds = time.monotonic() - begun
    milliseconds = [answer.seconds * 1000 for answer in answers]
    refused = sum((answer.status, answer.what) == (429, "too-busy") for answer in refusals)
    return Row(
        "idle",
        f"{IDLE_CONNECTIONS:,} connections that say nothing",
        [
            _one("of these are kept", kept, "connections"),
            _one("p99 of hits over connections that were there before", percentile(milliseconds, 99), "ms"),
            _one("until a new one is served, when they have left", again_seconds, "s"),
        ],
        [
            _none_failed(answers, "hit"),
            Goal("of those that then ask, not told to come later", _OVER_THE_LIMIT - refused, 0, "requests"),
            Goal("memory with all of them", memory_mb, MEMORY_MB, "MB"),
        ],
    )


def restart(load: Load) -> Row:
    """The socket is held by another process, as systemd holds it, and the daemon restarts again and again."""
    bench = load.bench
    handle = bench.origin.handle("small")
    seconds = 3.0 * (_RESTARTS + 1)
    # Most of the requests are hits, some over connections of their own, some for what has to be fetched.
    asked = [
        resolve(f"{handle}?restart={number}" if number % 100 == 0 else handle, stays=number % 2 == 0)
        for number in range(int(HITS_PER_SECOND * seconds))
    ]
    with Activated(bench.work) as daemon, Crowd(daemon.path) as crowd:
        crowd.join(WAITERS)
        crowd.ask(resolve(handle))
        crowd.gather(1, _PATIENCE_SECONDS)
        over = threading.Event()

        def restart_again_and_again() -> None:
            for _ in range(_RESTARTS):
                if not over.wait(3.0):
                    daemon.restart()

        restarting = threading.Thread(target=restart_again_and_again)
        restarting.start()
        try:
            answers = crowd.pace(asked, HITS_PER_SECOND, seconds)
        finally:
            over.set()
            restarting.join()
    milliseconds = [answer.seconds * 1000 for answer in answers]
    return Row(
        "restart",
        f"{HITS_PER_SECOND:.0f} requests a second over {_RESTARTS} restarts with socket activation",
        [
            _one("p50", percentile(milliseconds, 50), "ms"),
            _one("the longest", max(milliseconds), "ms"),
            _one("asked again, as hubclient does", crowd.asked_again, "requests"),
        ],
        [_none_failed(answers, "hit", "fetched", "joined")],
    )


def soak(load: Load) -> Row:
    """What clients do, mixed, over connections that are kept and ones that are not; and what nobody should."""
    bench = load.bench
    handle = bench.origin.handle("small")
    asked = [
        resolve(handle),
        resolve(handle, streams=True, stays=False),
        resolve("http://127.0.0.1:9/absent/1", streams=True),
        request("GET", "/v1/status"),
        request("GET", "/v1/modules?limit=10", stays=False),
        request("POST", "/v1/resolve", {"handle": "?"}),
        request("GET", "/v1/absent"),
        request("POST", "/v1/uses", {"keys": ["0" * 64]}),
    ]
    resident: list[float] = []
    statuses: Counter[int] = Counter()
    with contenders.hubd(bench.work) as daemon, Crowd(daemon.socket) as crowd:
        daemon.ask("POST", "/v1/resolve", {"handle": handle})
        crowd.join(_ASKING)
        for number in range(int(load.soak_seconds)):
            statuses.update(answer.status for answer in crowd.pace(asked, HITS_PER_SECOND / 2, 1.0))
            with Crowd(daemon.socket) as impatient:
                impatient.join(_ASKING)
                for _ in range(_ASKING):  # and they leave before they can have an answer
                    impatient.ask(resolve(f"{handle}?soak={number}", streams=True))
            resident.append(daemon.memory_mb()[0])
    early, late = (median(resident[len(resident) * part // 4 :][: len(resident) // 4]) for part in (1, 3))
    return Row(
        "soak",
        f"a mixture of requests, good and bad, for {load.soak_seconds:.0f} s",
        [Series("memory", tuple(resident), "MB"), _one("requests", sum(statuses.values()), "requests")],
        [
            Goal("answers with status 500", statuses[500], 0, "requests"),
            Goal("growth from the second quarter to the last", late - early, GROWTH_MB, "MB"),
            Goal("memory", max(resident), MEMORY_MB, "MB"),
        ],
        [Finding(f"answers with status {status}", count, "requests") for status, count in sorted(statuses.items())],
    )


def _one(what: str, value: float, unit: str) -> Series:
    return Series(what, (value,), unit)


def _none_failed(answers: Sequence[Answered], *expected: str) -> Goal:
    failed = [answer for answer in answers if answer.status != 200 or answer.what not in expected]
    kinds = Counter(f"{answer.status} {answer.what}" for answer in failed)
    told = "".join(f", {count} x {kind}" for kind, count in kinds.most_common(3))
    return Goal(f"failed, of {len(answers):,} requests{told}", len(failed), 0, "requests")


ROWS = {row.__name__: row for row in (waiters, hits, idle, restart, soak)}
