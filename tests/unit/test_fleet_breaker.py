"""A store that is away is asked by nobody but one who tries, in growing pauses."""

from __future__ import annotations

import asyncio

from hubd.failures import Busy
from hubd.fleet.breaker import Breaker, BusyPatience
from hubd.fleet.claims import Alone
from hubd.fleet.records import record_path
from hubd.fleet.tier import Found
from tests.support.fleet import KEY, Fleet, in_virtual_time, record_of, seconds


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def longest(low: float, high: float) -> float:
    return high


def test_after_a_failure_nobody_asks_and_then_one() -> None:
    clock = Clock()
    breaker = Breaker(clock, longest)
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    assert breaker.retry_in_seconds == 30.0
    clock.now += 30.0
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(3))
    assert breaker.is_closed


def test_pauses_double_up_to_ten_minutes_and_begin_anew_after_a_success() -> None:
    clock = Clock()
    breaker = Breaker(clock, longest)
    pauses = []
    for _ in range(7):
        assert breaker.admits()
        breaker.failed()
        pauses.append(breaker.retry_in_seconds)
        clock.now += breaker.retry_in_seconds
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    breaker.succeeded()
    breaker.failed()
    assert breaker.retry_in_seconds == 30.0


def test_of_several_that_fail_together_one_counts() -> None:
    clock = Clock()
    breaker = Breaker(clock, longest)
    for _ in range(5):
        breaker.failed()
    clock.now += 30.0
    assert breaker.admits()
    breaker.failed()
    assert breaker.retry_in_seconds == 60.0


def test_one_who_tries_and_never_tells_does_not_lock_the_others_out() -> None:
    clock = Clock()
    breaker = Breaker(clock, longest)
    breaker.failed()
    clock.now += 30.0
    assert breaker.admits()
    clock.now += 30.0
    assert breaker.admits()


def test_pauses_are_random() -> None:
    breakers = [Breaker(Clock(), pick) for pick in (min, max)]
    for breaker in breakers:
        breaker.failed()
    assert [breaker.retry_in_seconds for breaker in breakers] == [15.0, 30.0]


def test_a_busy_store_is_waited_for_longer_and_longer_and_not_for_ever() -> None:
    clock = Clock()
    patience = BusyPatience(30.0, clock, longest)
    pauses = [patience.pause_seconds(Busy("later")) for _ in range(5)]
    assert pauses == [2.0, 4.0, 8.0, 15.0, 15.0]
    assert patience.pause_seconds(Busy("later", 20.0)) == 35.0
    clock.now += 31.0
    assert patience.pause_seconds(Busy("later")) is None


def test_a_busy_store_that_answers_now_and_then_is_waited_for() -> None:
    clock = Clock()
    patience = BusyPatience(30.0, clock, longest)
    for _ in range(5):
        patience.answered()
        clock.now += 100.0
        assert patience.pause_seconds(Busy("later")) is not None
    assert patience.refusals == 5


@in_virtual_time
async def test_a_store_that_is_too_busy_for_writes_alone_is_read() -> None:
    async with Fleet() as fleet:
        machine = fleet.machine()
        fleet.bucket.fails("create", "", Busy("later"))
        assert isinstance(await machine.ask(), Alone)
        assert 120.0 <= seconds() <= 140.0
        began = seconds()
        assert isinstance(await machine.ask(), Alone)
        assert seconds() - began < 1.0
        assert (machine.tier.status.trouble, machine.tier.status.is_read_only) == ("later", True)
        await asyncio.sleep(machine.tier.status.retry_in_seconds)
        began = seconds()
        assert isinstance(await machine.ask(), Alone)  # who tries whether it is well again does not wait for it
        assert seconds() - began < 1.0
        fleet.bucket.put(record_path(KEY), record_of().body())
        assert isinstance(await machine.ask(), Found)
