"""Uploads for the fleet: a few at a time, given up at any moment, and never anybody's trouble."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hubclient.contract.errors import UpstreamUnavailable
from hubd.fetching.uploads import Chunks, Upload, Uploads
from hubd.network.pace import Pace
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout
from hubd.store.ledger import Ledger
from hubd.store.staging import Staging

BODY = os.urandom(3_000_000)


class Spool:
    """In a place of its own."""

    def __init__(self, layout: StoreLayout, ledger: Ledger) -> None:
        self.staging = Staging(layout, Disk(), ledger)
        Path(self.staging.archive).write_bytes(BODY)
        self.is_surrendered = self.is_handed_over = False

    def surrender(self) -> None:
        self.is_surrendered = True

    def hand_over(self) -> Staging:
        self.is_handed_over = True
        return self.staging

    def discard(self) -> None:
        self.staging.discard()


class Errand:
    """Ends when it is let go, with this error if there is one; `body` is what it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go_on = asyncio.Event()
        self.body = b""
        self.is_dropped = False
        self._error = error

    async def carry(self, chunks: Chunks) -> None:
        async for chunk in chunks():
            self.body += chunk
        await self.go_on.wait()
        if self._error is not None:
            raise self._error

    async def drop(self) -> None:
        self.is_dropped = True


class Started:
    """Uploads of one test, on a cache of its own."""

    def __init__(self, root: Path, group: asyncio.TaskGroup) -> None:
        self.layout, self.ledger = StoreLayout(str(root)), Ledger()
        for directory in (root, self.layout.staging, self.layout.trash):
            os.makedirs(directory, exist_ok=True)
        self.uploads = Uploads(group.create_task, asyncio.Event(), Pace())
        self.spools: list[Spool] = []

    def start(self, errand: Errand) -> bool:
        upload = Upload("https://models.example.org/m/1", "0" * 64, len(BODY))
        self.spools.append(Spool(self.layout, self.ledger))
        return self.uploads.start(upload, errand, self.spools[-1])

    def staged(self) -> list[str]:
        return os.listdir(self.layout.staging)


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        yield Started(tmp_path / "cache", group)


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0.001)


async def test_an_archive_is_carried_whole_and_its_spool_goes(started: Started) -> None:
    errand = Errand()
    assert started.start(errand)
    await until(lambda: errand.body == BODY)
    assert [upload.sent_bytes for upload in started.uploads.under_way()] == [len(BODY)]
    errand.go_on.set()
    await until(lambda: not started.uploads.under_way())
    assert (started.staged(), errand.is_dropped, started.uploads.failures) == ([], False, 0)


async def test_those_that_wait_for_their_turn_give_way_too(started: Started) -> None:
    errands = [Errand() for _ in range(6)]
    assert all(map(started.start, errands))
    await until(lambda: sum(errand.body == BODY for errand in errands) == 3)
    assert await started.uploads.give_way()
    assert (started.staged(), started.uploads.under_way()) == ([], [])
    await until(lambda: all(errand.is_dropped for errand in errands))
    assert started.uploads.failures == 0, "nothing was wrong with them"
    assert not await started.uploads.give_way(), "there are none"


async def test_those_that_wait_for_their_turn_keep_no_room_but_their_archives(started: Started) -> None:
    assert all(map(started.start, (Errand() for _ in range(6))))
    await until(lambda: all(spool.is_handed_over for spool in started.spools))
    assert len(started.uploads.under_way()) == 6
    await started.uploads.close()


async def test_one_that_has_just_been_started_gives_way(started: Started) -> None:
    errand = Errand()
    started.start(errand)
    assert await started.uploads.give_way()
    assert (started.staged(), errand.body) == ([], b"")


@pytest.mark.parametrize("error", [UpstreamUnavailable("it is away"), ValueError("a mistake of our own")])
async def test_one_that_fails_is_a_warning(
    started: Started, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    errand = Errand(error)
    started.start(errand)
    errand.go_on.set()
    await until(lambda: errand.is_dropped)
    assert (started.staged(), started.uploads.failures) == ([], 1)
    (told,) = caplog.records
    assert "https://models.example.org/m/1 was not uploaded for the fleet" in told.getMessage()


async def test_there_is_a_limit_and_an_end_to_them(started: Started) -> None:
    kept = [errand for errand in (Errand() for _ in range(70)) if started.start(errand)]
    assert len(kept) == 64
    await started.uploads.close()
    assert not started.start(Errand())
