"""What follows from uses is written behind them, and however many there are, it keeps no thread from fetches."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hubclient.contract import handles
from hubd.fetching.recency import Recency
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store.adoption import adopt
from hubd.store.records import Record
from tests.support.means import NETWORK, means_of


class SlowThreads(ThreadPoolExecutor):
    """Nothing that they are given is done before `go`; `given` counts it."""

    def __init__(self) -> None:
        super().__init__(4)
        self.go = threading.Event()
        self.given = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return super().submit(lambda: self.go.wait(10) and fn(*args, **kwargs))


def record_of(handle: str) -> Record:
    return Record(
        handle=handle,
        spellings=(handle,),
        digest="1" * 64,
        size_bytes=1,
        file_count=1,
        final_host="h.example",
        fetched_at=datetime.now(UTC),
        immutable=True,
    )


async def test_uses_take_one_thread_and_one_task_for_each_module(tmp_path: Path) -> None:
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Any) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    with adopt(str(tmp_path / "cache"), socket="/s") as hold, SlowThreads() as threads:
        recency = Recency(means_of(hold.layout, HttpSource(Session(NETWORK)), threads), spawn)
        for number in range(8):
            record = record_of(f"https://h.example/m/{number}")
            for spelling in range(10):
                recency.used(record, f"{record.handle}#{spelling}")
        async with asyncio.timeout(10):
            while not threads.given:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (threads.given, len(tasks)) == (1, 8)
            threads.go.set()
            await asyncio.wait(tasks)
            assert threads.given == 8
            recency.used(record, f"{record.handle}#later")
            await tasks[-1]
        assert (threads.given, handles.key(record.handle)) == (9, record.key)


async def test_each_spelling_is_written_however_many_come_at_once(tmp_path: Path) -> None:
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Any) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    with adopt(str(tmp_path / "cache"), socket="/s") as hold, SlowThreads() as threads:
        means = means_of(hold.layout, HttpSource(Session(NETWORK)), threads)
        recency, record = Recency(means, spawn), record_of("https://h.example/m/1")
        means.amend(record.key, lambda _: record)
        spellings = [f"{record.handle}#{number}" for number in range(4)]
        recency.used(record, spellings[0])
        async with asyncio.timeout(10):
            while not threads.given:
                await asyncio.sleep(0)
            for spelling in spellings[1:]:  # while the first is being written
                recency.used(record, spelling)
            threads.go.set()
            await asyncio.wait(tasks)
        written = means.records.get(record.key)
        assert written is not None
        assert written.spellings == (record.handle, *spellings)


async def test_of_hits_that_follow_fast_the_disk_is_told_once(tmp_path: Path) -> None:
    now = [100.0]
    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(1) as threads:
        means = means_of(hold.layout, HttpSource(Session(NETWORK)), threads)
        record = record_of("https://h.example/m/1")
        means.records.put(record, direct_until=0.0)
        recency = Recency(means, asyncio.create_task, clock=lambda: now[0])
        path = Path(hold.layout.record(record.key))

        def hit(spelling: str = record.handle) -> bool:
            """Whether the disk was told. What is in memory is, always."""
            os.utime(path, (1, 1))
            used_before = means.records.catalog.get(record.key)
            recency.hit(record, spelling)
            used_after = means.records.catalog.get(record.key)
            assert used_before is not None
            assert used_after is not None
            assert used_after.last_used > used_before.last_used
            return path.stat().st_mtime != 1

        assert hit()
        assert not hit()
        assert hit(f"{record.handle}#other")
        now[0] += 1.0
        assert hit()
