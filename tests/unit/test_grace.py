"""A path that you were told works: the daemon holds the tree for a while after it told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hubclient.contract.lease import Lease
from hubd.fetching.grace import GraceLeases


@pytest.fixture
def lease_file(tmp_path: Path) -> str:
    file = tmp_path / "lease"
    file.touch()
    return str(file)


def is_free(lease_file: str) -> bool:
    try:
        Lease.exclusive(lease_file).release()
    except BlockingIOError:
        return False
    return True


async def freed(lease_file: str) -> None:
    async with asyncio.timeout(10):
        while not is_free(lease_file):
            await asyncio.sleep(0.005)


async def test_a_lease_is_kept_and_then_released(lease_file: str) -> None:
    grace = GraceLeases(seconds=0.05)
    grace.keep(Lease.share(lease_file))
    assert not is_free(lease_file)
    await freed(lease_file)
    assert len(grace) == 0


async def test_a_tree_that_is_told_often_has_one_descriptor(lease_file: str) -> None:
    grace = GraceLeases()
    leases = [Lease.share(lease_file) for _ in range(100)]
    for lease in leases:
        grace.keep(lease)
    assert len(grace) == 1
    assert [lease.held for lease in leases] == [False] * 99 + [True]
    grace.release_all()
    assert is_free(lease_file)


async def test_each_telling_starts_the_time_anew(lease_file: str) -> None:
    now = 0.0
    loop = asyncio.get_running_loop()
    loop.time = lambda: now  # type: ignore[method-assign]  # the clock of this loop alone, turned by hand
    grace = GraceLeases(seconds=10)
    grace.keep(Lease.share(lease_file))
    now = 9.0
    grace.keep(Lease.share(lease_file))
    now = 10.5
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not is_free(lease_file)
    now = 19.5
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert is_free(lease_file)
