"""The clean point and what follows from times that a wrong clock wrote."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hubd.fetching import clean_point
from hubd.fetching.means import Means
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store.adoption import adopt
from hubd.store.hold import CacheHold
from tests.support.means import NETWORK, means_of
from tests.support.modules import record_of


@asynccontextmanager
async def _means(tmp_path: Path) -> AsyncIterator[tuple[Means, CacheHold]]:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(1) as threads:
        async with Session(NETWORK) as session:
            source = HttpSource(session)
            means = means_of(hold.layout, source, threads)
            yield means, hold
            means.verifier.close()


async def test_a_clean_point_that_the_clock_was_set_back_behind_comes_back(tmp_path: Path) -> None:
    async with _means(tmp_path) as (means, hold):
        hold.move_clean_point(time.time() + 3600)
        keeping = asyncio.ensure_future(clean_point.keep(means, hold, (), every_seconds=0))
        async with asyncio.timeout(10):
            while hold.clean_point > time.time():
                await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.wait({keeping})


async def test_a_copy_that_was_fetched_in_a_time_to_come_is_asked_after(tmp_path: Path) -> None:
    async with _means(tmp_path) as (means, _):
        now = datetime.now(UTC)
        record = record_of("https://example.com/m").model_copy(update={"fetched_at": now, "immutable": False})
        assert means.is_fresh(record)
        assert not means.is_fresh(record.model_copy(update={"fetched_at": now + timedelta(days=3650)}))
