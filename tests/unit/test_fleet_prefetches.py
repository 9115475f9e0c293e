"""A prefetch that its machine's settings hold back keeps no other machine's client waiting, for one fetch more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hubd.fetching.attended import Attended
from hubd.fetching.progress import Progress
from hubd.fleet.records import claim_path
from hubd.fleet.tier import Found
from hubd.fleet.turn import Turn
from tests.support.fleet import HANDLE, KEY, Fleet, Machine, chunks_of, fetching, in_virtual_time, record_of, seconds

MACHINES = 100
SLOW_SECONDS = 300.0


async def slow_prefetch(fleet: Fleet) -> tuple[Turn, asyncio.Task[None]]:
    """A turn that nobody waits for at its machine, under way for some seconds, and its fetch."""
    turn = await fleet.machine().turn(is_held_back=lambda: True)
    fetch = asyncio.create_task(fetching(turn, SLOW_SECONDS))
    await asyncio.sleep(5.0)
    return turn, fetch


async def fetches(machine: Machine, ended: list[float], **terms: Any) -> str:
    outcome = await machine.ask(**terms)
    if isinstance(outcome, Turn):
        await fetching(outcome, 5.0)
        await outcome.landed(record_of(), chunks_of())
    ended.append(seconds())
    return type(outcome).__name__


def takeovers(fleet: Fleet) -> int:
    return sum(machine.tier.figures.taken_over for machine in fleet.machines)


def tries_to_take_over(fleet: Fleet) -> int:
    """With the few beats of holders."""
    return sum(request == ("replace", claim_path(KEY)) for request in fleet.bucket.asked)


@pytest.mark.parametrize("joins", [False, True], ids=["clients", "clients that join prefetches"])
def test_of_many_whose_clients_meet_a_slow_prefetch_one_fetches_anew_and_the_others_wait_for_it(joins: bool) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            turn, fetch = await slow_prefetch(fleet)
            client_waits, ended = asyncio.Event(), list[float]()
            if not joins:
                client_waits.set()
            asked = [fetches(fleet.machine(), ended, client_waits=client_waits) for _ in range(MACHINES)]
            waiting = asyncio.gather(*asked)
            if joins:
                await asyncio.sleep(60.0)
                assert ended == []
                client_waits.set()
            began = seconds()
            fleet.bucket.asked.clear()
            assert sorted(await waiting) == ["Found"] * (MACHINES - 1) + ["Turn"]
            assert max(ended) - began < 15.0
            assert takeovers(fleet) == 1
            assert tries_to_take_over(fleet) < MACHINES / 2, "they spread"
            # The first holder goes on, and finds its archive there.
            await fetch
            assert turn.is_lost
            assert await turn.landed(record_of(), chunks_of()) == "there"
            assert fleet.bucket.requests.by_kind["upload"] == 1
            assert fleet.bucket.claim() is None

    story()


@in_virtual_time
async def test_who_has_no_client_or_only_reads_waits_for_a_slow_prefetch() -> None:
    async with Fleet() as fleet:
        turn, fetch = await slow_prefetch(fleet)
        prefetching = asyncio.create_task(fleet.machine().ask(client_waits=asyncio.Event()))
        reading = asyncio.create_task(fleet.machine(mode="read-only").ask())
        await fetch
        assert await turn.landed(record_of(), chunks_of()) == "uploaded"
        assert [type(outcome) for outcome in await asyncio.gather(prefetching, reading)] == [Found, Found]
        assert not turn.is_lost


@in_virtual_time
async def test_a_client_that_joins_the_slow_prefetch_keeps_it_from_being_taken_over() -> None:
    async with Fleet() as fleet:
        client_waits = asyncio.Event()
        turn = await fleet.machine().turn(is_held_back=lambda: not client_waits.is_set())
        fetch = asyncio.create_task(fetching(turn, 60.0))
        await asyncio.sleep(5.0)
        assert (claim := fleet.bucket.claim()) is not None
        assert claim.prefetch
        client_waits.set()
        await asyncio.sleep(10.0)  # its next beat has come
        waiting = asyncio.create_task(fleet.machine().ask())
        await fetch
        await turn.landed(record_of(), chunks_of())
        assert isinstance(await waiting, Found)
        assert not turn.is_lost


@pytest.mark.parametrize("end", ["abandoned", "landed", "failed"])
def test_a_slow_prefetch_that_ends_before_it_learns_that_it_was_taken_over_leaves_the_others_claim(end: str) -> None:
    """Its last write is young then: it may not count on that."""

    @in_virtual_time
    async def story() -> None:
        async with Fleet() as fleet:
            turn, _ = await slow_prefetch(fleet)
            other = await fleet.machine().turn()
            claim = fleet.bucket.claim()
            assert not turn.is_lost
            match end:
                case "abandoned":
                    await turn.abandoned()
                case "landed":
                    await turn.landed(record_of(), chunks_of())
                case _:
                    await turn.failed("disk-full")
            assert fleet.bucket.claim() == claim
            await other.abandoned()
            assert fleet.bucket.claim() is None

    story()


@in_virtual_time
async def test_a_slow_prefetch_that_nobody_took_over_leaves_no_claim() -> None:
    async with Fleet() as fleet:
        turn, fetch = await slow_prefetch(fleet)
        fetch.cancel()
        await turn.abandoned()
        assert fleet.bucket.objects == {}


def test_a_fetch_tells_as_long_as_a_client_waits_for_it() -> None:
    fetch = Attended(Progress(HANDLE, KEY), lambda: True)
    with fetch.waited_for_by(1, is_prefetch=True):
        assert not fetch.client_waits.is_set()
        with fetch.waited_for_by(1, is_prefetch=False), fetch.waited_for_by(2, is_prefetch=False):
            assert fetch.client_waits.is_set()
        assert not fetch.client_waits.is_set()
