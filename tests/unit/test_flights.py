"""One download: however many ask for a key, its work runs once, and only while somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from hubd.fetching.flights import Flights


class Work:
    """Runs until told how to end; `started` and `ended` say what happened to it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.finish: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.cleanup = asyncio.Event()
        self.cleanup.set()
        self.cancelled = False

    async def run(self) -> str:
        self.started.set()
        try:
            return await self.finish
        except asyncio.CancelledError:
            self.cancelled = True
            await self.cleanup.wait()
            raise


class Desk:
    """Flights of one test, with every work that was started."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.flights: Flights[str, Work, str] = Flights(group.create_task)
        self.works: list[Work] = []

    def start(self) -> Work:
        self.works.append(Work())
        return self.works[-1]

    async def wait(self, key: str = "k") -> tuple[str, bool]:
        async with self.flights.board(key, self.start) as (flight, joined):
            return await flight.outcome(), joined

    def waiter(self, key: str = "k") -> asyncio.Task[tuple[str, bool]]:
        return self.ungrouped(self.wait(key))

    def ungrouped(self, waiting: Coroutine[Any, Any, tuple[str, bool]]) -> asyncio.Task[tuple[str, bool]]:
        """As a client's handler is: its failure is its own."""
        return asyncio.ensure_future(waiting)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as group:
        yield Desk(group)


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_thousand_waiters_share_one_run(desk: Desk) -> None:
    waiters = [desk.waiter() for _ in range(1000)]
    await settle()
    assert len(desk.works) == 1
    assert desk.flights.running()[0].waiters == 1000
    desk.works[0].finish.set_result("done")
    answers = await asyncio.gather(*waiters)
    assert [answer for answer, _ in answers] == ["done"] * 1000
    assert sum(not joined for _, joined in answers) == 1
    assert len(desk.flights) == 0


async def test_a_cancelled_leader_leaves_the_work_to_its_followers(desk: Desk) -> None:
    leader, follower = desk.waiter(), desk.waiter()
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    assert not desk.works[0].cancelled
    desk.works[0].finish.set_result("done")
    assert await follower == ("done", True)


async def test_a_cancelled_follower_disturbs_nobody(desk: Desk) -> None:
    leader, follower = desk.waiter(), desk.waiter()
    await settle()
    follower.cancel()
    await settle()
    assert follower.cancelled()
    desk.works[0].finish.set_result("done")
    assert await leader == ("done", False)


async def test_the_last_to_leave_cancels_the_work(desk: Desk) -> None:
    leader, follower = desk.waiter(), desk.waiter()
    await settle()
    leader.cancel()
    follower.cancel()
    await settle()
    assert desk.works[0].cancelled
    assert len(desk.flights) == 0


async def test_the_last_to_leave_before_the_work_began_leaves_nothing(desk: Desk) -> None:
    waiter = desk.waiter()
    await asyncio.sleep(0)  # boarded, and the work's task made but not begun
    waiter.cancel()
    await settle()
    assert len(desk.flights) == 0
    desk.waiter()
    await settle()
    assert len(desk.flights) == 1
    desk.works[-1].finish.set_result("done")


async def test_who_arrives_while_the_work_is_being_cancelled_starts_afresh(desk: Desk) -> None:
    first = desk.waiter()
    await settle()
    desk.works[0].cleanup.clear()
    first.cancel()
    await settle()
    second = desk.waiter()
    await settle()
    assert len(desk.works) == 1, "the old work still cleans up"
    desk.works[0].cleanup.set()
    await settle()
    desk.works[1].finish.set_result("again")
    assert await second == ("again", False)


async def test_a_failure_is_shared(desk: Desk) -> None:
    waiters = [desk.waiter() for _ in range(3)]
    await settle()
    desk.works[0].finish.set_exception(OSError("no"))
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no"] * 3
    assert len(desk.works) == 1


async def test_a_failure_never_cancels_its_neighbours(desk: Desk) -> None:
    bad, good = desk.waiter("bad"), desk.waiter("good")
    await settle()
    desk.works[0].finish.set_exception(RuntimeError("no"))
    with pytest.raises(RuntimeError):
        await bad
    desk.works[1].finish.set_result("done")
    assert await good == ("done", False)


async def test_who_arrives_just_after_completion_starts_a_new_run(desk: Desk) -> None:
    first = desk.waiter()
    await settle()
    desk.works[0].finish.set_result("one")
    await first
    second = desk.waiter()
    await settle()
    desk.works[1].finish.set_result("two")
    assert await second == ("two", False)


async def test_closing_gives_every_waiter_the_error_and_ends_the_work(desk: Desk) -> None:
    waiters = [desk.waiter("a"), desk.waiter("a"), desk.waiter("b")]
    await settle()
    desk.flights.close(ConnectionError("shutting down"))
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    await settle()
    assert all(work.cancelled for work in desk.works)
    assert len(desk.flights) == 0


async def test_nobody_boards_after_the_close(desk: Desk) -> None:
    first = desk.waiter()
    await settle()
    desk.works[0].cleanup.clear()
    first.cancel()
    await settle()
    newcomer = desk.waiter()  # waits until the leaving flight is gone
    await settle()
    desk.flights.close(ConnectionError("shutting down"))
    desk.works[0].cleanup.set()
    with pytest.raises(ConnectionError):
        await newcomer
    with pytest.raises(ConnectionError):
        await desk.wait("other")
    assert len(desk.works) == 1


async def test_a_flight_is_urgent_while_anybody_is_in_a_hurry(desk: Desk) -> None:
    async with desk.flights.board("k", desk.start, urgent=False) as (flight, _):
        assert not flight.is_urgent
        assert not desk.flights.is_urgent("k")
        client = desk.waiter()
        await settle()
        assert flight.is_urgent
        assert desk.flights.is_urgent("k")
        client.cancel()
        await settle()
        assert not flight.is_urgent
    assert not desk.flights.is_urgent("k")
