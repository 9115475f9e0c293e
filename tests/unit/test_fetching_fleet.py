"""What is done for the fleet behind the fetches ends nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hubclient.contract.errors import UpstreamDenied
from hubd.config import NetworkSettings, Settings
from hubd.fetching.fleet import Fleet
from hubd.fetching.progress import Progress
from hubd.fleet.bucket import Bucket
from tests.support.fleet import ScriptedBucket

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


async def test_a_store_is_said_to_be_well_again_when_it_has_answered_by_the_settings_that_hold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket, tasks = ScriptedBucket(), list[asyncio.Task[None]]()

    @asynccontextmanager
    async def reach() -> AsyncIterator[Bucket]:
        yield bucket

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            tasks.append(group.create_task(work))
            return tasks[-1]

        fleet = Fleet(reach, spawn, asyncio.Event())
        bucket.fails("read", "", UpstreamDenied("no reading"))
        with caplog.at_level("INFO"):
            fleet.apply(SETTINGS)
            await asyncio.wait(tasks)
            sharing = fleet.sharing(Progress("https://models.example.org/m/1", "0" * 64), asyncio.Event())
            assert sharing is not None
            bucket.faults.clear()
            fleet.apply(SETTINGS.model_copy(update={"network": NetworkSettings(retries=1)}))
            sharing.refuse()  # a look of the time before
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            await asyncio.wait(tasks)
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "well again" in caplog.text
