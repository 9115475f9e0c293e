"""The machine's clock was years ahead, and is set right while the daemon runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hubd.fetching import clock
from hubd.fetching.means import Means
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store import acl
from hubd.store.adoption import adopt
from tests.support.means import NETWORK, means_of
from tests.support.modules import FILES, digest_of, publish, record_of
from tests.support.uids import BOB

YEARS = timedelta(days=3650)
HANDLE = "https://example.com/m"


@asynccontextmanager
async def means_at(place: Path) -> AsyncIterator[Means]:
    with adopt(str(place / "cache"), socket="/s") as hold, ThreadPoolExecutor(1) as threads:
        async with Session(NETWORK) as session:
            means = means_of(hold.layout, HttpSource(session), threads)
            publish(means.trees)
            yield means
            means.verifier.close()


async def set_right(means: Means) -> None:
    """The clock goes back by years, and all that follows from it is done."""
    readings = iter([YEARS.total_seconds(), 0.0])
    seen = asyncio.Event()

    def ahead() -> float:
        now = next(readings, None)
        if now is None:
            seen.set()  # the step before was dealt with
        return now or 0.0

    following = asyncio.ensure_future(clock.follow(means, ahead, every_seconds=0))
    async with asyncio.timeout(10):
        await seen.wait()
    following.cancel()
    await asyncio.wait({following})


async def test_clients_ask_again_for_what_they_would_have_answered_for_years(tmp_path: Path) -> None:
    async with means_at(tmp_path) as means:
        then = datetime.now(UTC) + YEARS
        record = record_of(HANDLE).model_copy(update={"fetched_at": then, "immutable": False})
        means.records.put(record, direct_until=then.timestamp() + 900)
        view = means.records.layout.handle_link(record.key)
        assert os.lstat(view).st_mtime > time.time()
        await set_right(means)
        assert os.lstat(view).st_mtime < time.time()


async def test_what_was_used_then_is_no_later_than_what_is_used_now(tmp_path: Path) -> None:
    async with means_at(tmp_path) as means:
        record = record_of(HANDLE)
        means.records.put(record, direct_until=0)
        means.records.catalog.touch(record.key, time.time() + YEARS.total_seconds())
        await set_right(means)
        entry = means.records.catalog.get(record.key)
        assert entry is not None
        assert entry.last_used <= time.time()


async def test_a_grant_of_a_time_to_come_opens_nothing(tmp_path: Path) -> None:
    async with means_at(tmp_path) as means:
        now = datetime.now(UTC)
        mine = {"reader": BOB, "granted_until": now + timedelta(seconds=900), "salt": means.records.salt()}
        record = record_of(HANDLE).model_copy(update={"fetched_at": now, **mine})
        means.records.put(record, direct_until=0)
        digest = digest_of(FILES)
        assert means.records.readers(digest) == frozenset({BOB})
        later = record.model_copy(update={"fetched_at": now + YEARS, "granted_until": now + YEARS})
        means.records.put(later, direct_until=0)
        await set_right(means)
        assert means.records.readers(digest) == frozenset()
        assert acl.readers_of(means.records.layout.tree(digest)) == frozenset()
