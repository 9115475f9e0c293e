"""Bytes count once they are written, and never more arrive than may."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from hubclient.contract.errors import ArchiveTooLarge, UpstreamUnavailable
from hubd.fetching.transfer import receive


async def chunked(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_the_spool_the_digest_and_the_frontiers_agree(tmp_path: Path) -> None:
    chunks = [os.urandom(300_000) for _ in range(20)]
    spool, frontiers = tmp_path / "archive.part", list[int]()

    def on_frontier(frontier_bytes: int) -> None:
        assert spool.stat().st_size >= frontier_bytes, "the frontier never runs ahead of the disk"
        frontiers.append(frontier_bytes)

    body = b"".join(chunks)
    received = await receive(
        chunked(chunks), str(spool), total_bytes=len(body), limit_bytes=len(body), on_frontier=on_frontier
    )
    assert spool.read_bytes() == body
    assert received.digest == hashlib.sha256(body).hexdigest()
    assert received.size_bytes == frontiers[-1] == len(body)
    assert frontiers == sorted(frontiers)


async def test_more_bytes_than_the_limit_are_refused_while_they_come(tmp_path: Path) -> None:
    came = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal came
        while True:
            came += 1
            yield bytes(1000)

    with pytest.raises(ArchiveTooLarge):
        await receive(
            endless(), str(tmp_path / "part"), total_bytes=None, limit_bytes=10_000, on_frontier=lambda _: None
        )
    assert came == 11


@pytest.mark.parametrize("total_bytes", [5, 50])
async def test_a_body_of_another_length_than_announced_is_refused(tmp_path: Path, total_bytes: int) -> None:
    with pytest.raises(UpstreamUnavailable, match="announced"):
        await receive(
            chunked([b"0123456789"]),
            str(tmp_path / "part"),
            total_bytes=total_bytes,
            limit_bytes=100,
            on_frontier=lambda _: None,
        )


async def test_a_spool_that_is_there_already_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "part").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        await receive(chunked([b"x"]), str(tmp_path / "part"), total_bytes=1, limit_bytes=9, on_frontier=lambda _: None)
    assert (tmp_path / "victim").read_text() == "precious"


async def test_what_arrived_before_a_stall_counts_during_it(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(100_000)
        async with asyncio.timeout(10):
            await reached.wait()

    def on_frontier(frontier_bytes: int) -> None:
        if frontier_bytes == 1_000_000:
            reached.set()

    await receive(stalling(), str(tmp_path / "part"), total_bytes=1_000_000, limit_bytes=10**9, on_frontier=on_frontier)


async def test_an_error_of_the_disk_ends_it(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            await receive(
                endless(), str(tmp_path / "part"), total_bytes=None, limit_bytes=10**9, on_frontier=lambda _: None
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
