"""Rates hold over any while, for all and for prefetches, and those who wait share evenly."""

from __future__ import annotations

import asyncio
import random

import pytest

from hubd.network.pace import Allowance, Pace, read_buffer_bytes


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def client() -> bool:
    return False


def prefetch() -> bool:
    return True


@pytest.mark.parametrize("rate", [1, 1000, 1_000_000, 5_000_000_000])
def test_what_was_used_after_any_while_is_what_the_rate_allows(rate: int) -> None:
    draw, allowance, now, used = random.Random(rate), Allowance(rate), 100.0, 0
    for _ in range(1000):
        now += draw.choice((0.0, 0.0, 0.0, 0.0, 0.05)) * draw.random()  # late now and then, and never for long
        size_bytes = draw.randint(1, max(1, rate // 50))
        now += max(0.0, allowance.use(size_bytes, now))
        used += size_bytes
        assert used <= rate * (now - 100.0 + 0.1) * 1.000001
    assert used >= 0.95 * rate * (now - 100.0)


def test_what_was_not_used_in_time_is_lost() -> None:
    allowance = Allowance(1000)
    allowance.use(1, 0.0)
    assert allowance.use(1000, 3600.0) == pytest.approx(0.9)


async def test_all_together_keep_to_the_rate_and_each_has_an_even_share_whatever_the_size_of_its_chunks() -> None:
    clock = Clock()
    pace = Pace(1_000_000, clock=clock, sleep=clock.sleep)
    used = {1_000: 0, 65_536: 0, 1_000_000: 0}

    async def receive(chunk_bytes: int) -> None:
        while clock.now < 20.0:
            await pace.take(chunk_bytes, prefetch=client)
            used[chunk_bytes] += chunk_bytes

    await asyncio.gather(*(receive(chunk_bytes) for chunk_bytes in used))
    assert sum(used.values()) == pytest.approx(1_000_000 * clock.now, rel=0.02)
    # One that has a small chunk at hand waits for a whole round for it, as do the others.
    assert used[65_536] == pytest.approx(used[1_000_000], rel=0.2)


async def test_prefetches_keep_to_their_own_rate_and_hold_up_nobody_else() -> None:
    clock = Clock()
    pace = Pace(1_000_000, 100_000, clock=clock, sleep=clock.sleep)
    used = {"client": 0, "prefetch": 0}

    async def receive(who: str) -> None:
        while clock.now < 10.0:
            await pace.take(10_000, prefetch=prefetch if who == "prefetch" else client)
            used[who] += 10_000

    await asyncio.gather(receive("client"), receive("prefetch"))
    assert used["prefetch"] == pytest.approx(100_000 * 10, rel=0.05)
    assert used["client"] == pytest.approx(900_000 * 10, rel=0.05)


async def test_it_tells_how_long_it_kept_a_taker_and_keeps_nobody_without_a_rate() -> None:
    clock = Clock()
    assert await Pace(1000, clock=clock, sleep=clock.sleep).take(10_000, prefetch=client) == pytest.approx(9.9)
    assert await Pace(None, 1000, clock=clock, sleep=clock.sleep).take(10**9, prefetch=client) == 0.0
    assert await Pace(clock=clock, sleep=clock.sleep).take(10**9, prefetch=prefetch) == 0.0


async def test_who_gives_way_does_so_in_pieces_that_fit_its_rate_and_not_that_of_prefetches() -> None:
    clock, looks = Clock(), []

    def looked_at() -> float:
        looks.append(clock.now)
        return clock()

    pace = Pace(None, 1000, clock=looked_at, sleep=clock.sleep)
    pace.give_way(10_000_000)
    await pace.take(10_000_000, prefetch=client)
    assert len(looks) < 1000, "each piece is work for the loop that is to be spared"


async def test_a_prefetch_that_a_client_joins_is_let_through_at_once() -> None:
    clock = Clock()
    pace = Pace(None, 1000, clock=clock, sleep=clock.sleep)
    assert await pace.take(10**6, prefetch=lambda: clock.now < 5.0) == pytest.approx(5.0, abs=0.15)


def test_a_rate_of_their_own_slows_prefetches_as_long_as_there_is_one() -> None:
    pace = Pace(1000)
    assert not pace.slows_prefetches
    pace.change(None, 1000)
    assert pace.slows_prefetches
    pace.change(1000, None)
    assert not pace.slows_prefetches


async def test_a_taker_can_be_cancelled_and_the_next_goes_on() -> None:
    pace = Pace(1000)
    taking = [asyncio.create_task(pace.take(10**6, prefetch=client)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in taking:
        task.cancel()
    await asyncio.gather(*taking, return_exceptions=True)
    async with asyncio.timeout(1):
        await pace.take(10, prefetch=client)


def test_little_is_read_ahead_where_little_may_be_used() -> None:
    assert read_buffer_bytes(None, None) == read_buffer_bytes(10**9) == 1 << 20
    assert read_buffer_bytes(1000, None) == read_buffer_bytes(None, 1000) == 64 * 1024
    assert read_buffer_bytes(10**9, 2_000_000) == 200_000
