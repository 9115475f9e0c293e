"""``python -m benchmarks.fleet_simulation``: fleets of 10 to 100,000 machines on one cold handle, in virtual time.

Law: what decides is the daemon's own code, `Tier.ask` and `Turn`; simulated are the store, the origin, the lines and
the time. A seed gives the same figures each time, on every machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import fleet_chart, virtual_time
from benchmarks.fleet_chart import Result
from benchmarks.fleet_world import Line, MemoryBucket, StoreTerms
from hubclient.contract import handles
from hubclient.contract.errors import HubError
from hubd.config_stores import FleetSettings
from hubd.fleet.bucket import Bucket
from hubd.fleet.records import FleetRecord
from hubd.fleet.tier import Found, Tier
from hubd.fleet.turn import Turn
from hubd.network.sources import ArchiveRequest

MACHINES = (10, 100, 1_000, 10_000, 100_000)
ARCHIVE_BYTES = 200_000_000
ORIGIN_BYTES_PER_SECOND, ORIGIN_EACH = 1.25e9, 50e6  # 10 Gbit/s, of which one connection gets 0.4

# 1 Tbit/s, and the requests that S3 promises for one prefix.
STORE = StoreTerms(reads_per_second=5500, writes_per_second=3500, bytes_per_second=125e9, each_bytes_per_second=500e6)

_HANDLE = "https://modules.example.org/large/1"
_RECORD = FleetRecord(handle=_HANDLE, digest="a" * 64, content_digest="b" * 64, archive_bytes=ARCHIVE_BYTES)
_CHUNK = bytes(8_000_000)


@dataclass(frozen=True)
class Scenario:
    """`arrive_seconds`: over how long the machines begin. The first claimer dies half-way if any do."""

    title: str
    arrive_seconds: float = 1.0
    store: StoreTerms | None = STORE
    dying: float = 0.0


SCENARIOS = {
    "at once": Scenario("all begin within one second"),
    "over a minute": Scenario("they begin over 60 s", 60.0),
    "deaths": Scenario("the first claimer dies half-way, and one in a hundred of those after it", dying=0.01),
    "away": Scenario(
        "they begin over 60 s, and the store is away from the 20th on for ten minutes",
        60.0,
        replace(STORE, away=(20.0, 620.0)),
    ),
    "limited": Scenario(
        "all begin within one second, and the store takes 500 requests per second",
        store=replace(STORE, reads_per_second=500, writes_per_second=500),
    ),
    "no fleet": Scenario("all begin within one second, and each asks the origin", store=None),
}


class World:
    """One fleet and what it works with."""

    def __init__(self, scenario: Scenario, machines: int, seed: int) -> None:
        self._scenario = scenario
        self._machines = machines
        self._random = Random(f"{seed} {machines} {scenario.title}")
        self._bucket = MemoryBucket(scenario.store or STORE, self._random)
        self._origin = Line(ORIGIN_BYTES_PER_SECOND, ORIGIN_EACH)
        self._settings = FleetSettings(store=MemoryBucket.name if scenario.store is not None else None)
        self._origin_requests = self._deaths = 0
        self._knew: list[float] = []  # when each knew where to get it
        self._had: list[float] = []  # and when it had it

    async def run(self) -> Result:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._machines):
                group.create_task(self._machine(group))
        requests = self._bucket.requests
        archives = requests.by_kind["archive"]
        return Result(
            machines=self._machines,
            origin_requests=self._origin_requests,
            store_requests=requests.total - archives,
            refused=requests.refused,
            peak_per_second=requests.peak_per_second,
            last_knows_seconds=max(self._knew, default=0.0),
            last_has_seconds=max(self._had),
            deaths=self._deaths,
        )

    @asynccontextmanager
    async def _reach(self) -> AsyncIterator[Bucket | None]:
        yield self._bucket

    async def _machine(self, group: asyncio.TaskGroup) -> None:
        """One daemon, from its start to the module."""
        await asyncio.sleep(self._random.uniform(0.0, self._scenario.arrive_seconds))
        tasks: list[asyncio.Task[None]] = []

        def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            tasks.append(group.create_task(work))
            return tasks[-1]

        tier = Tier(self._reach, lambda: self._settings, spawn, clock=_now, random=self._random)
        if self._settings.store is not None:
            spawn(tier.probe())  # as each daemon does
        asked = await tier.ask(handles.key(_HANDLE), is_immutable=True)
        if isinstance(asked, Found):
            self._knew.append(_now())
            try:
                async with asked.open(ArchiveRequest(_HANDLE)) as delivery:
                    assert delivery.body is not None
                    async for _ in delivery.body:
                        pass
            except HubError:
                await self._from_origin()
        elif isinstance(asked, Turn):
            is_dying = self._random.random() < self._scenario.dying or (self._scenario.dying and not self._deaths)
            await self._from_origin(asked.moved, until=0.5 if is_dying else 1.0)
            if is_dying:
                self._deaths += 1
                for task in tasks:
                    task.cancel()
                return
            spawn(_share(asked))
        else:
            await self._from_origin()
        self._had.append(_now())

    async def _from_origin(self, moved: Callable[[int, int], None] | None = None, until: float = 1.0) -> None:
        """`moved` is told every 8 MB."""
        self._origin_requests += 1
        step = len(_CHUNK) if moved is not None else ARCHIVE_BYTES
        for received_bytes in range(step, int(ARCHIVE_BYTES * until) + 1, step):
            await self._origin.transfer(step)
            if moved is not None:
                moved(received_bytes, ARCHIVE_BYTES)


async def _share(turn: Turn) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(ARCHIVE_BYTES // len(_CHUNK)):
            yield _CHUNK

    try:
        await turn.landed(_RECORD, chunks)
    except HubError as error:  # the others fetch it for themselves
        logging.getLogger(__name__).info("not shared: %s", error)


def _now() -> float:
    return asyncio.get_running_loop().time()


def simulate(name: str, machines: int, seed: int) -> Result:
    """One scenario with so many machines."""
    was_enabled = gc.isenabled()
    gc.disable()  # it would look through all machines again and again, and find nothing
    try:
        return virtual_time.run(World(SCENARIOS[name], machines, seed).run())
    finally:
        if was_enabled:
            gc.enable()


def table(results: Mapping[str, Sequence[Result]]) -> str:
    """All figures, in Markdown."""
    lines = [
        "| Machines | Requests to the origin | To the store, per machine | Of these refused | Most in one second |"
        " Last machine knows | Last machine has it |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in results.items():
        lines.append(f"| **{SCENARIOS[name].title}** | | | | | | |")
        for result in found:
            has_fleet = SCENARIOS[name].store is not None
            cells = [f"{result.machines:,}", f"{result.origin_requests:,}"]
            if has_fleet:
                refused = result.refused / max(1, result.store_requests)
                cells += [f"{result.store_requests / result.machines:.1f}", f"{refused:.0%}"]
                cells += [f"{result.peak_per_second:,}", f"{result.last_knows_seconds:,.1f} s"]
            else:
                cells += ["", "", "", ""]
            lines.append("| " + " | ".join([*cells, f"{result.last_has_seconds:,.0f} s"]) + " |")
    return "\n".join(lines)


def _tell(job: tuple[str, int], _: Future[Result]) -> None:
    print(f"{job[0]}, {job[1]:,} machines", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=MACHINES[-1], metavar="N", help="no larger fleets than this")
    parser.add_argument("--seed", type=int, default=1, help="draws other latencies and waits")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="leave the others out")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw it there too, as SVG")
    arguments = parser.parse_args()
    sizes = [machines for machines in MACHINES if machines <= arguments.most]
    names = arguments.only or list(SCENARIOS)
    # The largest first, so that the processes end at about one time.
    jobs = sorted(((name, machines) for name in names for machines in sizes), key=lambda job: -job[1])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        running = {job: pool.submit(simulate, *job, arguments.seed) for job in jobs}
        for job, result in running.items():
            result.add_done_callback(partial(_tell, job))
        results = {name: [running[name, machines].result() for machines in sizes] for name in names}
    print(table(results))
    if arguments.chart:
        arguments.chart.write_text(fleet_chart.draw(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
