"""Waiters can be told to leave, and hear why; other ends of their waiting stay what they are."""

from __future__ import annotations

import asyncio

import pytest

from hubclient.contract.errors import FetchCancelled
from hubd.fetching.waiters import Waiters


async def wait(waiters: Waiters, uid: int | None, until: asyncio.Future[str], fetch_id: str = "f") -> str:
    async with waiters.waiting(fetch_id, uid):
        return await asyncio.shield(until)


@pytest.fixture
async def until() -> asyncio.Future[str]:
    return asyncio.get_running_loop().create_future()


async def test_only_the_users_own_waiters_of_that_fetch_are_withdrawn(until: asyncio.Future[str]) -> None:
    waiters = Waiters()
    theirs = [asyncio.create_task(wait(waiters, uid, until)) for uid in (1, 2, 1, None)]
    elsewhere = asyncio.create_task(wait(waiters, 1, until, "g"))
    await asyncio.sleep(0)
    assert waiters.withdraw("f", 1) == 2
    assert waiters.withdraw("f", 1) == 0, "they are gone already"
    outcomes = asyncio.gather(*theirs, elsewhere, return_exceptions=True)
    await asyncio.wait({theirs[0], theirs[2]})
    until.set_result("done")
    assert [type(one) for one in await outcomes] == [FetchCancelled, str, FetchCancelled, str, str]
    assert waiters.withdraw("f") == 0


async def test_all_are_withdrawn_without_a_uid(until: asyncio.Future[str]) -> None:
    waiters = Waiters()
    waiting = [asyncio.create_task(wait(waiters, uid, until)) for uid in (1, 2, None)]
    await asyncio.sleep(0)
    assert waiters.withdraw("f") == 3
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in outcomes] == [FetchCancelled] * 3


async def test_a_cancellation_and_a_timeout_stay_what_they_are(until: asyncio.Future[str]) -> None:
    waiters = Waiters()
    waiting = asyncio.create_task(wait(waiters, 1, until))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    until.set_exception(TimeoutError("of its own"))
    with pytest.raises(TimeoutError, match="of its own"):
        await wait(waiters, 1, until)
