"""A fetch that is killed or cancelled at any await leaves what the next one goes on from, or nothing.

A kill is looked at through copies of the cache that are made at the awaits of one fetch.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import os
import random
import shutil
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract import handles
from hubclient.contract.errors import UpstreamUnavailable
from hubd.fetching.fetch import Fetch
from hubd.fetching.means import Means
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store.adoption import adopt
from hubd.store.recovery import clear
from tests.support.archives import MODULE, archive
from tests.support.means import NETWORK, means_of
from tests.support.origin import Answer, Origin

FILES = {**MODULE, "variables/variables.data-00000-of-00001": random.Random(5).randbytes(3_000_000)}
ARCHIVE = archive(FILES)
QUARTER = len(ARCHIVE) // 4
CUT = Answer(ARCHIVE, etag='"a"', ranges=True, cut_after_bytes=QUARTER)
WHOLE = Answer(ARCHIVE, etag='"a"', ranges=True)


@types.coroutine
def at_awaits(work: Coroutine[Any, Any, Any], act: Callable[[], None]) -> Generator[Any, Any, Any]:
    """Does the work, and calls `act` at each await at which it is suspended."""
    go_on = functools.partial(work.send, None)
    while True:
        try:
            waits_for = go_on()
        except StopIteration as done:
            return done.value
        act()
        try:
            yield waits_for
        except BaseException as error:  # the task's word to the work: that it is cancelled, say
            go_on = functools.partial(work.throw, error)
        else:
            go_on = functools.partial(work.send, None)


@asynccontextmanager
async def started(root: str) -> AsyncIterator[Means]:
    """What a daemon that was just started on this cache works with."""
    with adopt(root, socket="/s") as hold, ThreadPoolExecutor(4) as threads:
        async with Session(NETWORK) as session:
            source = HttpSource(session)
            means = means_of(hold.layout, source, threads)
            clear(hold.layout, means.partials)
            yield means
            means.grace.release_all()


def fetch(means: Means, handle: str) -> Fetch:
    return Fetch(means, handle, handles.key(handle), spelling=handle, refresh=False)


async def assert_lands(means: Means, handle: str) -> int:
    """The bytes that it took from the origin."""
    landed = await fetch(means, handle).run()
    assert landed.record.digest == hashlib.sha256(ARCHIVE).hexdigest()
    assert os.listdir(means.trees.layout.staging) == []
    return means.counters.received_bytes


async def _awaited(work: Any) -> Any:
    return await work


@contextmanager
def at_awaits_of_all_tasks(act: Callable[[], None]) -> Iterator[None]:
    """The same for each task that is begun in the block."""

    def watched(loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_awaited(at_awaits(work, act)), loop=loop, **how)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(watched)
    try:
        yield
    finally:
        loop.set_task_factory(None)


async def test_killed_at_any_await(tmp_path: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", CUT)
    copies: list[Path] = []

    def copy() -> None:
        copies.append(tmp_path / f"killed-{len(copies)}")
        with suppress(shutil.Error):  # what a thread removed meanwhile
            shutil.copytree(tmp_path / "cache", copies[-1], symlinks=True)

    async with started(str(tmp_path / "cache")) as means:
        with at_awaits_of_all_tasks(copy), pytest.raises(UpstreamUnavailable):
            await asyncio.create_task(fetch(means, handle).run())
    origin.serve("/m/1", WHOLE)
    taken = []
    for root in (*copies, tmp_path / "cache"):
        async with started(str(root)) as means:
            taken.append(await assert_lands(means, handle))
    assert len(taken) > 10
    assert taken[0] == len(ARCHIVE)
    assert taken[-1] == len(ARCHIVE) - QUARTER


@pytest.mark.parametrize("is_begun", [False, True], ids=["begins", "goes-on"])
async def test_cancelled_at_any_await(tmp_path: Path, origin: Origin, is_begun: bool) -> None:
    handle, fatal, was_cancelled = origin.url("/m/1"), 0, True
    while was_cancelled:
        fatal += 1
        origin.serve("/m/1", CUT)
        async with started(str(tmp_path / f"cancelled-{fatal}")) as means:
            if is_begun:
                with pytest.raises(UpstreamUnavailable):
                    await fetch(means, handle).run()
            try:
                await at_awaits(fetch(means, handle).run(), functools.partial(_cancel_at, fatal, itertools.count(1)))
            except asyncio.CancelledError:
                was_cancelled = True
            except UpstreamUnavailable:  # it has no so many awaits
                was_cancelled = False
            assert len(os.listdir(means.trees.layout.staging)) == len(means.partials) <= 1
            assert len(means.partials) == 1 or not is_begun
            origin.serve("/m/1", WHOLE)
            await assert_lands(means, handle)
    assert fatal > 5


def _cancel_at(fatal: int, numbers: Iterator[int]) -> None:
    """Strikes where the task is suspended next, which is here."""
    task = asyncio.current_task()
    if next(numbers) == fatal and task is not None:
        task.cancel()
