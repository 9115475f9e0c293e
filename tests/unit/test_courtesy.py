"""Fetches give way while clients ask fast and the loop is late, and only then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hubd.fetching.courtesy import Courtesy, Yielding
from hubd.fetching.resolver import Ask, Resolver
from hubd.network.pace import Pace
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store.adoption import adopt
from tests.support.archives import MODULE, archive
from tests.support.means import NETWORK, means_of
from tests.support.origin import Answer, Origin

MB = 1_000_000
LATE, EARLY = 0.020, 0.0


def test_a_late_loop_makes_fetches_slower_and_one_in_time_makes_them_faster() -> None:
    yielding = Yielding(100 * MB)
    slower = yielding.late(LATE, now=0.0)
    assert slower < 100 * MB
    assert yielding.late(EARLY, now=1.0) > slower


def test_what_was_taken_back_is_given_time_to_be_felt() -> None:
    yielding = Yielding(100 * MB)
    slower = yielding.late(LATE, now=0.0)
    assert yielding.late(LATE, now=0.01) == slower
    assert yielding.late(LATE, now=0.06) < slower


def test_fetches_go_on_however_late_the_loop_is() -> None:
    yielding = Yielding()
    for second in range(1000):
        yielding.late(60.0, now=float(second))
    assert yielding.rate == 16 * MB


def test_where_the_loop_is_in_time_fetches_are_soon_as_fast_as_anything() -> None:
    yielding = Yielding()
    for tick in range(200):  # two seconds of them
        yielding.late(EARLY, now=tick * 0.01)
    assert yielding.rate == 4000 * MB


class Machine:
    """One daemon's worth of it."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.is_fetching = True
        self.settled = 0
        self.courtesy = Courtesy(self.pace, lambda: self.is_fetching, self._settle)

    def _settle(self) -> None:
        self.settled += 1

    def hits(self, number: int) -> None:
        for _ in range(number):
            self.courtesy.hit()


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.is_fetching = False


async def its_end(machine: Machine) -> None:
    async with asyncio.timeout(30):
        while machine.pace.gives_way:
            await asyncio.sleep(0.01)


async def test_a_few_hits_slow_no_fetch(machine: Machine) -> None:
    machine.hits(5)
    assert not machine.pace.gives_way


async def test_hits_that_come_fast_slow_the_fetches_once_and_for_as_long_as_they_come(machine: Machine) -> None:
    machine.hits(20)
    assert machine.pace.gives_way
    machine.hits(20)
    assert machine.settled == 1
    await its_end(machine)


async def test_hits_slow_nothing_where_nothing_is_fetched(machine: Machine) -> None:
    machine.is_fetching = False
    machine.hits(100)
    assert not machine.pace.gives_way


async def test_it_ends_with_the_fetches(machine: Machine) -> None:
    machine.hits(20)
    machine.is_fetching = False
    await its_end(machine)


async def test_who_gives_way_keeps_to_the_rate_and_who_waits_is_let_go_when_it_ends() -> None:
    pace = Pace()
    pace.give_way(10 * MB)
    await pace.take(MB, prefetch=lambda: False)  # what it may have at once
    began = time.monotonic()
    taking = asyncio.create_task(pace.take(2000 * MB, prefetch=lambda: False))
    await asyncio.sleep(0)
    assert not taking.done()
    pace.give_way(None)
    await taking
    assert time.monotonic() - began < 30.0
    assert await pace.take(1 << 40, prefetch=lambda: False) < 30.0  # any rate again


async def test_what_is_only_prefetched_and_here_already_slows_no_fetch(tmp_path: Path, origin: Origin) -> None:
    body = archive(MODULE)
    here = origin.serve("/here/1", Answer(body))
    coming = origin.serve("/coming/1", slow := Answer(body, gate_after_bytes=len(body) // 2))
    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(4) as threads:
        async with asyncio.timeout(30), Session(NETWORK) as session, asyncio.TaskGroup() as group:
            means = means_of(hold.layout, HttpSource(session), threads, spawn=group.create_task)
            resolver = Resolver(means, group.create_task)
            await resolver.fetch(Ask(here))
            fetching = group.create_task(resolver.fetch(Ask(coming)))
            await asyncio.to_thread(origin.wait_until_asked, "/coming/1")
            for _ in range(20):
                assert await resolver.prefetch(here) is None
            assert not means.pace.gives_way
            while not means.pace.gives_way:  # at once: a busy machine is to answer ten of them in a fifth of a second
                assert None not in await asyncio.gather(*(resolver.look(Ask(here)) for _ in range(20)))
            slow.gate.set()
            await fetching
            means.grace.release_all()
            means.verifier.close()
