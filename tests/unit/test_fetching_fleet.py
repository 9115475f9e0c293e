"""What is done for the fleet behind the fetches ends nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hubd.config import Settings
from hubd.fetching.fleet import Fleet

SETTINGS = Settings.model_validate({"fleet": {"store": "s3://bucket/prefix"}})


@asynccontextmanager
async def mistaken() -> AsyncIterator[None]:
    raise ValueError("a mistake of our own")
    yield


async def test_a_mistake_of_our_own_there_is_told_and_ends_no_daemon(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        Fleet(mistaken, group.create_task, asyncio.Event()).apply(SETTINGS)
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_work_that_is_cancelled_before_it_begins_is_no_mistake() -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        fleet = Fleet(mistaken, group.create_task, asyncio.Event())
        fleet._spawn(asyncio.sleep(0.0)).cancel()
